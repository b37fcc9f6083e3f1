//! The order of checks: structure, then time and scope, then the secret, then the signature.
//!
//! Everything that costs a stranger nothing to get wrong is refused before a secret is looked up.

use cumulet_certs::{AccessKeyKind, SecretString};

use super::claim::{Presigned, V4Claim, from_header};
use super::headers::Headers;
use super::key_cache::KeyCache;
use super::params::Parameters;
use super::sigv2::{V2Claim, When};
use super::{
    AuthConfig, AuthError, Credential, CredentialSource, LookupError, RegionPolicy, RequestView,
    SignatureMethod, Verified, sigv2, sigv4,
};

/// Verifies requests against one source of credentials.
pub struct Verifier<S> {
    config: AuthConfig,
    source: S,
    keys: KeyCache,
}

impl<S: CredentialSource> Verifier<S> {
    /// A verifier with an empty key cache.
    pub fn new(config: AuthConfig, source: S) -> Self {
        let keys = KeyCache::new(config.cached_keys);
        Self { config, source, keys }
    }

    /// The rules in force.
    pub fn config(&self) -> &AuthConfig {
        &self.config
    }

    /// Who signed this request? `now_ms` is the time in milliseconds since 1970.
    pub async fn verify(
        &self,
        view: &RequestView<'_>,
        now_ms: i64,
    ) -> Result<Verified<S::Principal>, AuthError> {
        let now = now_ms.div_euclid(1000);
        if !(view.path.is_empty() || view.path.starts_with('/')) {
            return Err(AuthError::Ambiguous("the request target must be a path"));
        }
        let headers = Headers::of(view)?;
        let parameters = Parameters::scan(view, &headers)?;
        let ways = [
            headers.authorization.is_some(),
            parameters.presigned,
            parameters.query_signed,
        ];
        match ways {
            [false, false, false] => Err(AuthError::Missing),
            [true, false, false] => {
                let claim = from_header(headers.authorization.unwrap_or_default(), &headers)?;
                self.verify_v4(view, &headers, &claim, now).await
            }
            [false, true, false] => {
                let presigned = Presigned::read(view.query)?;
                self.verify_v4(view, &headers, &presigned.claim()?, now).await
            }
            [false, false, true] => self.verify_v2(view, &headers, now).await,
            _ => Err(AuthError::Ambiguous(
                "only one way of signing a request is allowed at a time",
            )),
        }
    }

    async fn verify_v4(
        &self,
        view: &RequestView<'_>,
        headers: &Headers<'_>,
        claim: &V4Claim<'_>,
        now: i64,
    ) -> Result<Verified<S::Principal>, AuthError> {
        self.check_host(headers)?;
        self.check_v4_time(claim, now)?;
        let service = self.check_scope(claim)?;
        sigv4::check_coverage(view, headers, claim)?;
        let credential = self
            .look_up(claim.scope.access_key_id, claim.session_token)
            .await?;
        self.check_v4_signature(view, headers, claim, &credential.secret)?;
        let method = match claim.expires {
            None => SignatureMethod::V4Header,
            Some(_) => SignatureMethod::V4Query,
        };
        Ok(Verified {
            access_key_id: claim.scope.access_key_id.to_owned(),
            principal: credential.principal,
            service,
            region: claim.scope.region.to_owned(),
            method,
            signed_at: claim.signed_at,
        })
    }

    async fn verify_v2(
        &self,
        view: &RequestView<'_>,
        headers: &Headers<'_>,
        now: i64,
    ) -> Result<Verified<S::Principal>, AuthError> {
        let claim = V2Claim::read(view, headers, self.config.sigv2)?;
        self.check_host(headers)?;
        sigv2::check_time(claim.when, now, self.skew())?;
        let service = self
            .served("ec2")
            .ok_or(AuthError::Unsupported("use Signature Version 4"))?;
        let credential = self
            .look_up(&claim.access_key_id, claim.session_token.as_deref())
            .await?;
        claim.verify(view, headers, &credential.secret)?;
        let (When::Signed(signed_at) | When::Ends(signed_at)) = claim.when;
        Ok(Verified {
            access_key_id: claim.access_key_id.into_owned(),
            principal: credential.principal,
            service,
            region: String::new(),
            method: SignatureMethod::V2,
            signed_at,
        })
    }

    fn skew(&self) -> i64 {
        i64::try_from(self.config.max_skew.as_secs()).unwrap_or(i64::MAX)
    }

    fn served(&self, name: &str) -> Option<&'static str> {
        self.config
            .services
            .iter()
            .copied()
            .find(|service| *service == name)
    }

    fn check_host(&self, headers: &Headers<'_>) -> Result<(), AuthError> {
        let host = headers
            .host
            .ok_or(AuthError::Incomplete("the Host header is missing"))?;
        match &self.config.hosts {
            Some(hosts)
                if !hosts
                    .iter()
                    .any(|ours| ours.as_bytes().eq_ignore_ascii_case(host)) =>
            {
                Err(AuthError::Host)
            }
            _ => Ok(()),
        }
    }

    fn check_v4_time(&self, claim: &V4Claim<'_>, now: i64) -> Result<(), AuthError> {
        let lifetime = claim.expires.unwrap_or(self.skew());
        if claim.signed_at - now > self.skew() {
            return Err(AuthError::NotYetValid);
        }
        if now - claim.signed_at > lifetime {
            return Err(AuthError::Expired);
        }
        Ok(())
    }

    fn check_scope(&self, claim: &V4Claim<'_>) -> Result<&'static str, AuthError> {
        if !claim.timestamp.starts_with(claim.scope.date) {
            return Err(AuthError::Scope(
                "the Credential's date is not the day of the request's date",
            ));
        }
        match &self.config.regions {
            RegionPolicy::List(regions) if !regions.iter().any(|ours| ours == claim.scope.region) => {
                return Err(AuthError::Scope(
                    "the Credential is scoped to a region that is not served here",
                ));
            }
            _ => {}
        }
        self.served(claim.scope.service).ok_or(AuthError::Scope(
            "the Credential is scoped to a service that is not served here",
        ))
    }

    async fn look_up(
        &self,
        access_key_id: &str,
        session_token: Option<&str>,
    ) -> Result<Credential<S::Principal>, AuthError> {
        let temporary = access_key_id.starts_with(AccessKeyKind::Session.prefix());
        match (temporary, session_token) {
            (true, None) => return Err(AuthError::Token("a temporary key needs its session token")),
            (false, Some(_)) => return Err(AuthError::Token("this access key has no session token")),
            _ => {}
        }
        match self.source.lookup(access_key_id, session_token).await {
            Ok(Some(credential)) => Ok(credential),
            Ok(None) => Err(AuthError::UnknownKey),
            Err(LookupError::InvalidToken) => Err(AuthError::Token("the session token is not valid")),
            Err(LookupError::ExpiredToken) => Err(AuthError::TokenExpired),
            Err(LookupError::Unavailable(why)) => Err(AuthError::Unavailable(why)),
        }
    }

    fn check_v4_signature(
        &self,
        view: &RequestView<'_>,
        headers: &Headers<'_>,
        claim: &V4Claim<'_>,
        secret: &SecretString,
    ) -> Result<(), AuthError> {
        if let Some(key) = self.keys.get(&claim.scope, secret) {
            return sigv4::verify(view, headers, claim, key);
        }
        let key = sigv4::derive_key(secret, &claim.scope);
        sigv4::verify(view, headers, claim, key.clone())?;
        self.keys.put(&claim.scope, secret, key);
        Ok(())
    }
}

impl<S> std::fmt::Debug for Verifier<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifier")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
