//! The gate: what every request passes, whatever it is for. Signatures, the memory of bodies, and the shares of
//! accounts and keys.

use std::sync::Arc;

use bytes::Bytes;
use cumulet_backend::api::Cloud;
use cumulet_domain::account::Principal;

use crate::{
    auth::{AuthConfig, AuthError, Judged, Payload, RequestHead, SigV2Policy, Verified, Verifier},
    bodies::Bodies,
    credentials::CloudCredentials,
    fences::{Fences, RequestLimits},
};

/// See the module.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) cloud: Arc<Cloud>,
    pub(crate) fences: Fences,
    /// The memory of requests' bodies.
    pub(crate) bodies: Bodies,
    verifier: Verifier<CloudCredentials>,
}

impl Gate {
    pub(crate) fn new(cloud: Cloud, auth: AuthConfig, limits: RequestLimits, body_memory: usize) -> Self {
        Gate {
            verifier: Verifier::new(auth, CloudCredentials(cloud.clone())),
            fences: Fences::new(limits),
            bodies: Bodies::new(body_memory),
            cloud: Arc::new(cloud),
        }
    }

    /// Whether a request may be signed in its body.
    pub(crate) fn takes_sigv2(&self) -> bool {
        self.verifier.config().sigv2 != SigV2Policy::Off
    }

    /// Judges a request's head, before its body is read.
    pub(crate) async fn judge<'a>(
        &self,
        head: RequestHead<'a>,
    ) -> Result<Box<Judged<'a, Arc<Principal>>>, AuthError> {
        self.verifier.judge(head, self.cloud.now().0).await
    }

    /// Who signed a request, whose body is there.
    pub(crate) async fn verify(
        &self,
        judged: Box<Judged<'_, Arc<Principal>>>,
        body: Bytes,
    ) -> Result<Verified<Arc<Principal>>, AuthError> {
        self.verifier.verify(judged, body, self.cloud.now().0).await
    }

    /// Who signed a request whose body is yet to come, and the check of that.
    pub(crate) fn verify_head(
        &self,
        judged: &Judged<'_, Arc<Principal>>,
    ) -> Result<(Arc<Principal>, Payload), AuthError> {
        let (principal, payload) = self.verifier.verify_head(judged)?;
        Ok((principal.clone(), payload))
    }

    /// Whether the key of such a request still is there, now that its body is.
    pub(crate) async fn confirm(&self, judged: &Judged<'_, Arc<Principal>>) -> Result<(), AuthError> {
        self.verifier.confirm(judged, self.cloud.now().0).await
    }
}
