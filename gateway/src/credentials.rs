//! The credential source of the signature verifier: the cloud's access keys.

use std::sync::Arc;

use cumulet_backend::api::{Cloud, accounts};
use cumulet_domain::account::Principal;

use crate::auth::{Credential, CredentialSource, LookupError};

/// Looks access keys up in the cloud, which keeps the ones used lately.
#[derive(Clone, Debug)]
pub(crate) struct CloudCredentials(pub(crate) Cloud);

impl CredentialSource for CloudCredentials {
    type Principal = Arc<Principal>;

    async fn lookup(
        &self,
        access_key_id: &str,
        session_token: Option<&str>,
    ) -> Result<Option<Credential<Arc<Principal>>>, LookupError> {
        if session_token.is_some() {
            return Err(LookupError::InvalidToken); // no temporary keys are given out yet
        }
        match accounts::credential(&self.0, &self.0.credentials, access_key_id).await {
            Ok(found) => Ok(found.map(|credential| Credential {
                secret: credential.secret.clone(),
                principal: credential.principal.clone(),
            })),
            Err(error) => Err(LookupError::Unavailable(error.to_string())),
        }
    }
}
