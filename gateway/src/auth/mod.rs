//! Authentication of requests: verification of AWS signatures over the bytes received.
//!
//! Knows nothing of HTTP servers, accounts or operations: a request goes in, first its head and then its
//! body; a [`Verified`] principal with the parameters that it has signed, or an [`AuthError`], comes out.
//! Whoever acts on a request has its parameters from there and from nowhere else. A body that nobody wants
//! to hold is checked as it comes: then the head alone goes in, and a [`Payload`] comes out, which is told
//! of the body's pieces. Secrets are looked up through [`CredentialSource`]; time is handed in.
//!
//! What the HTTP layer must have done before: refused a request target whose host is not the `Host`
//! header's, folded headers and `Transfer-Encoding` together with `Content-Length`; limited the body; put
//! HTTP/2's `:authority` into the headers as `host`.

mod claim;
mod encoding;
mod error;
mod headers;
mod key_cache;
mod params;
mod payload;
mod sigv2;
mod sigv4;
mod time;
mod verifier;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use cumulet_certs::SecretString;

pub use error::{AuthError, Dialect, Rejection};
pub use payload::Payload;
pub use verifier::{Judged, Verifier};

/// A request's head as it was received: nothing decoded, nothing normalised.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    /// `GET`, `POST`, … in upper case.
    pub method: &'a str,
    /// The path of the request target, still percent-encoded.
    pub path: &'a str,
    /// The query without its `?`, still percent-encoded; empty if there is none.
    pub query: &'a str,
    /// All headers in the order of arrival. Names in any case.
    pub headers: &'a [(&'a str, &'a [u8])],
}

impl RequestHead<'_> {
    /// The service that the request claims to be signed for, without any verification: for
    /// choosing the form of an error answer only.
    pub fn claimed_service(&self) -> Option<String> {
        claim::claimed_service(self)
    }
}

/// What SigV2 may do. AWS has retired it; old EC2 clients have nothing else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SigV2Policy {
    /// Refused.
    #[default]
    Off,
    /// `HmacSHA256` only.
    Sha256,
    /// `HmacSHA256` and `HmacSHA1`.
    Sha256AndSha1,
}

/// Which regions a SigV4 scope may name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RegionPolicy {
    /// Every one: clients of a private cloud sign for whatever their profile says, and euca2ools
    /// for `undefined-1234` when it says nothing.
    #[default]
    Any,
    /// These only.
    List(Vec<String>),
}

/// Rules of the verification.
#[derive(Clone, Debug)]
pub struct AuthConfig {
    /// Whether SigV2 is accepted.
    pub sigv2: SigV2Policy,
    /// Accepted regions.
    pub regions: RegionPolicy,
    /// How far a request's time may be from ours, in both directions.
    pub max_skew: Duration,
    /// Accepted `Host` values (`name` or `name:port`); `None` takes every one. `X-Forwarded-Host`
    /// is never looked at.
    pub hosts: Option<Vec<String>>,
    /// Service names of the scope that are served behind this door.
    pub services: Vec<&'static str>,
    /// Those of them whose bodies may be unsigned (`UNSIGNED-PAYLOAD`), where they are taken as they come
    /// ([`Verifier::verify_head`]); in one that is verified as a whole, everything is signed.
    pub unsigned: Vec<&'static str>,
    /// How many derived signing keys are kept.
    pub cached_keys: usize,
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            sigv2: SigV2Policy::Off,
            regions: RegionPolicy::Any,
            max_skew: Duration::from_secs(15 * 60),
            hosts: None,
            services: vec!["ec2", "iam", "sts"],
            unsigned: Vec::new(),
            cached_keys: 1024,
        }
    }
}

/// An access key's secret and whom it stands for.
#[derive(Clone, Debug)]
pub struct Credential<P> {
    /// The secret access key.
    pub secret: Arc<SecretString>,
    /// Whom the key stands for; passed through.
    pub principal: P,
}

/// Why a credential source has no answer.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// The session token is not one of this key's.
    #[error("the session token is not valid")]
    InvalidToken,
    /// The session is over.
    #[error("the session token has expired")]
    ExpiredToken,
    /// The store can't be asked now. The text is for the log.
    #[error("credentials are unavailable: {0}")]
    Unavailable(String),
}

/// Where secrets come from. Asked for every request, so revoking a key works at once; a cache
/// belongs behind this trait, where its invalidation can be tied to the write.
pub trait CredentialSource: Send + Sync {
    /// Whom a key stands for.
    type Principal: Send;

    /// The credential of an *active* key. `None` for unknown, deactivated and deleted keys, and for
    /// those of disabled users and accounts.
    ///
    /// `session_token` is there exactly for temporary keys (`ASIA…`): the source must check that it
    /// belongs to this key and is still valid. The verifier has already refused temporary keys
    /// without a token and long-term keys with one.
    fn lookup(
        &self,
        access_key_id: &str,
        session_token: Option<&str>,
    ) -> impl Future<Output = Result<Option<Credential<Self::Principal>>, LookupError>> + Send;
}

impl<S: CredentialSource> CredentialSource for std::sync::Arc<S> {
    type Principal = S::Principal;

    fn lookup(
        &self,
        access_key_id: &str,
        session_token: Option<&str>,
    ) -> impl Future<Output = Result<Option<Credential<Self::Principal>>, LookupError>> + Send {
        (**self).lookup(access_key_id, session_token)
    }
}

/// How a request was signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureMethod {
    /// SigV4 in the `Authorization` header.
    V4Header,
    /// SigV4 in the query (presigned).
    V4Query,
    /// SigV2 in the parameters.
    V2,
}

/// The parameters of a request, exactly as its signature covers them. Only the verifier makes them.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedParameters(Bytes);

impl SignedParameters {
    /// Those of the query and of a body, which are all that a signature covers. One that is in both has been
    /// refused as given twice.
    fn of(query: &str, body: Bytes) -> Self {
        SignedParameters(match (query.is_empty(), body.is_empty()) {
            (true, _) => body,
            (false, true) => Bytes::copy_from_slice(query.as_bytes()),
            (false, false) => [query.as_bytes(), b"&", &body].concat().into(),
        })
    }

    /// `application/x-www-form-urlencoded`, or the body itself where it is no form.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for SignedParameters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // They may hold user data, passwords in it.
        write!(f, "SignedParameters({} bytes)", self.0.len())
    }
}

/// A request whose signature holds.
#[derive(Clone, Debug)]
pub struct Verified<P> {
    /// The key that signed.
    pub access_key_id: String,
    /// Whom it stands for.
    pub principal: P,
    /// The service of the signed scope: dispatch by it. SigV2 has no scope and is taken for `ec2`
    /// only.
    pub service: &'static str,
    /// The region of the signed scope; empty for SigV2.
    pub region: String,
    /// How it was signed.
    pub method: SignatureMethod,
    /// When it was signed, or for SigV2's `Expires` when it runs out; Unix seconds.
    pub signed_at: i64,
    /// What was signed.
    pub parameters: SignedParameters,
}

#[cfg(test)]
mod tests;
