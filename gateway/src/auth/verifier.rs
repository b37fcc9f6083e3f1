//! The order of checks: structure, then time and scope, then the secret, all of which the head tells; then
//! the signature over head and body. Where the head states the body's hash, the signature can be verified over the
//! head alone ([`Verifier::verify_head`]), and the body is checked against the hash as it comes.
//!
//! Everything that costs a stranger nothing to get wrong is refused before a secret is looked up, and before
//! a body is read.

use bytes::Bytes;
use cumulet_certs::{AccessKeyKind, SecretString};

use super::claim::{Presigned, V4Claim, from_header};
use super::headers::Headers;
use super::key_cache::KeyCache;
use super::params::Parameters;
use super::payload::Payload;
use super::sigv2::{V2Claim, When};
use super::sigv4::Content;
use super::{
    AuthConfig, AuthError, Credential, CredentialSource, LookupError, RegionPolicy, RequestHead,
    SignatureMethod, SignedParameters, Verified, sigv2, sigv4,
};

const TWO_WAYS: AuthError = AuthError::Ambiguous("only one way of signing a request is allowed at a time");

/// A request's head that nothing is wrong with, before its body is there.
pub struct Judged<'a, P> {
    head: RequestHead<'a>,
    headers: Headers<'a>,
    way: Way<'a, P>,
    /// Whether the body is a form, whose parameters are read.
    form: bool,
    /// When it was judged, in Unix seconds.
    now: i64,
}

/// Seconds that a body may take until the key is looked for once more: it may have been revoked.
const FRESH: i64 = 1;

/// How a request is signed, as far as its head tells.
enum Way<'a, P> {
    /// SigV4 in the header.
    Header(V4Claim<'a>, Signer<P>),
    /// SigV4 in the query.
    Query(Presigned<'a>, Signer<P>),
    /// SigV2 in the parameters, which may be in the body; or not at all.
    Parameters,
}

/// Who is said to have signed it.
struct Signer<P> {
    credential: Credential<P>,
    service: &'static str,
}

impl<P> Judged<'_, P> {
    /// Whether the head names a key that is here. Where it does not, the body is a stranger's.
    pub fn names_key(&self) -> bool {
        !matches!(self.way, Way::Parameters)
    }

    /// The service that the head names, one of those that are served. What is signed in its parameters is `ec2`'s.
    pub fn service(&self) -> Option<&'static str> {
        match &self.way {
            Way::Header(_, signer) | Way::Query(_, signer) => Some(signer.service),
            Way::Parameters => None,
        }
    }

    /// The same for a body that is no form: nothing in it is a parameter, and nothing in the query is one of the
    /// operation's.
    #[must_use]
    pub fn with_document(mut self: Box<Self>) -> Box<Self> {
        self.form = false;
        self
    }
}

impl<P> std::fmt::Debug for Judged<'_, P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Judged")
            .field("head", &self.head)
            .finish_non_exhaustive()
    }
}

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

    /// What the head tells of who signed the request, all of it checked that needs no body: how it is signed,
    /// when and for what, that the key is there. `now_ms` is the time in milliseconds since 1970.
    ///
    /// # Errors
    /// Whatever is wrong with the head.
    pub async fn judge<'a>(
        &self,
        head: RequestHead<'a>,
        now_ms: i64,
    ) -> Result<Box<Judged<'a, S::Principal>>, AuthError> {
        let now = now_ms.div_euclid(1000);
        if !(head.path.is_empty() || head.path.starts_with('/')) {
            return Err(AuthError::Ambiguous("the request target must be a path"));
        }
        let headers = Headers::of(&head)?;
        let parameters = Parameters::scan(&head, &[])?;
        let way = match (headers.authorization, parameters.presigned) {
            (Some(_), true) => return Err(TWO_WAYS),
            _ if parameters.query_signed && (headers.authorization.is_some() || parameters.presigned) => {
                return Err(TWO_WAYS);
            }
            (Some(authorization), false) => {
                let claim = from_header(authorization, &headers)?;
                let signer = self.judge_v4(&head, &headers, &claim, now).await?;
                Way::Header(claim, signer)
            }
            (None, true) => {
                let presigned = Presigned::read(head.query)?;
                let signer = self.judge_v4(&head, &headers, &presigned.claim()?, now).await?;
                Way::Query(presigned, signer)
            }
            (None, false) => Way::Parameters,
        };
        // In a box: it goes on through several functions, and would be copied into each of their futures.
        Ok(Box::new(Judged {
            head,
            headers,
            way,
            form: true,
            now,
        }))
    }

    /// Who signed this request, whose head was judged, and what. `now_ms` is the time when all of it is there.
    ///
    /// # Errors
    /// Whatever is wrong with the request.
    pub async fn verify(
        &self,
        judged: Box<Judged<'_, S::Principal>>,
        body: Bytes,
        now_ms: i64,
    ) -> Result<Verified<S::Principal>, AuthError> {
        let Judged {
            head,
            headers,
            way,
            form,
            now,
        } = *judged;
        // A body that is no form has no parameters, and no operation of these services takes anything else.
        if form && !body.is_empty() && !headers.body_is_form() {
            return Err(AuthError::MalformedQuery(
                "a request with a body needs the Content-Type application/x-www-form-urlencoded",
            ));
        }
        let names = Parameters::scan(&head, if form { &body } else { &[] })?;
        let stale = now_ms.div_euclid(1000) - now > FRESH;
        match way {
            Way::Header(..) | Way::Query(..) if names.query_signed => Err(TWO_WAYS),
            Way::Header(claim, mut signer) => {
                if stale {
                    signer = self.judge_v4(&head, &headers, &claim, now).await?;
                }
                let method = SignatureMethod::V4Header;
                self.verify_v4(&head, &headers, (body, form), &claim, (method, signer))
            }
            Way::Query(presigned, mut signer) => {
                let claim = presigned.claim()?;
                if stale {
                    signer = self.judge_v4(&head, &headers, &claim, now).await?;
                }
                let method = SignatureMethod::V4Query;
                self.verify_v4(&head, &headers, (body, form), &claim, (method, signer))
            }
            Way::Parameters if form && names.query_signed => self.verify_v2(&head, &headers, body, now).await,
            Way::Parameters => Err(AuthError::Missing),
        }
    }

    /// Who signed this request, whose head was judged, and the check of its body, which is yet to come and is no form:
    /// the signature is over what the head states of it. Of a head that was judged a while ago, [`Verifier::confirm`]
    /// tells whether that still holds.
    ///
    /// # Errors
    /// [`AuthError::Payload`] where the head does not state the body's hash; otherwise whatever is wrong with the
    /// signature.
    pub fn verify_head<'j>(
        &self,
        judged: &'j Judged<'_, S::Principal>,
    ) -> Result<(&'j S::Principal, Payload), AuthError> {
        let presigned;
        let (claim, signer) = match &judged.way {
            Way::Header(claim, signer) => (claim, signer),
            Way::Query(parameters, signer) => {
                presigned = parameters.claim()?;
                (&presigned, signer)
            }
            Way::Parameters => return Err(AuthError::Missing),
        };
        let stated = judged.headers.amz_content_sha256.unwrap_or_default();
        let payload = Payload::stated(stated)?;
        let (content, credential) = (Content::Stated(stated), &signer.credential);
        self.check_v4_signature(&judged.head, &judged.headers, content, claim, &credential.secret)?;
        Ok((&credential.principal, payload))
    }

    /// Whether the key of a request still is there whose body has come since its head was judged. `now_ms` is the time
    /// when all of it is there, in milliseconds since 1970.
    ///
    /// # Errors
    /// What is wrong with the key by now.
    pub async fn confirm(&self, judged: &Judged<'_, S::Principal>, now_ms: i64) -> Result<(), AuthError> {
        let Judged {
            head, headers, now, ..
        } = judged;
        if now_ms.div_euclid(1000) - *now <= FRESH {
            return Ok(());
        }
        let signer = match &judged.way {
            Way::Header(claim, _) => self.judge_v4(head, headers, claim, *now).await,
            Way::Query(presigned, _) => self.judge_v4(head, headers, &presigned.claim()?, *now).await,
            Way::Parameters => Err(AuthError::Missing),
        };
        signer.map(drop)
    }

    async fn judge_v4(
        &self,
        head: &RequestHead<'_>,
        headers: &Headers<'_>,
        claim: &V4Claim<'_>,
        now: i64,
    ) -> Result<Signer<S::Principal>, AuthError> {
        self.check_host(headers)?;
        self.check_v4_time(claim, now)?;
        let service = self.check_scope(claim)?;
        let unsigned = self.config.unsigned.contains(&service);
        sigv4::check_coverage(head, headers, claim, unsigned)?;
        let credential = self
            .look_up(claim.scope.access_key_id, claim.session_token)
            .await?;
        Ok(Signer { credential, service })
    }

    fn verify_v4(
        &self,
        head: &RequestHead<'_>,
        headers: &Headers<'_>,
        (body, form): (Bytes, bool),
        claim: &V4Claim<'_>,
        (method, signer): (SignatureMethod, Signer<S::Principal>),
    ) -> Result<Verified<S::Principal>, AuthError> {
        let content = Content::Whole(&body);
        self.check_v4_signature(head, headers, content, claim, &signer.credential.secret)?;
        Ok(Verified {
            access_key_id: claim.scope.access_key_id.to_owned(),
            principal: signer.credential.principal,
            service: signer.service,
            region: claim.scope.region.to_owned(),
            method,
            signed_at: claim.signed_at,
            parameters: SignedParameters::of(if form { head.query } else { "" }, body),
        })
    }

    async fn verify_v2(
        &self,
        head: &RequestHead<'_>,
        headers: &Headers<'_>,
        body: Bytes,
        now: i64,
    ) -> Result<Verified<S::Principal>, AuthError> {
        let parameters = SignedParameters::of(head.query, body);
        let claim = V2Claim::read(&parameters, self.config.sigv2)?;
        self.check_host(headers)?;
        sigv2::check_time(claim.when, now, self.skew())?;
        let service = self
            .served("ec2")
            .ok_or(AuthError::Unsupported("use Signature Version 4"))?;
        let credential = self
            .look_up(&claim.access_key_id, claim.session_token.as_deref())
            .await?;
        claim.verify(head, headers, &parameters, &credential.secret)?;
        let (When::Signed(signed_at) | When::Ends(signed_at)) = claim.when;
        let access_key_id = claim.access_key_id.clone().into_owned();
        drop(claim);
        Ok(Verified {
            access_key_id,
            principal: credential.principal,
            service,
            region: String::new(),
            method: SignatureMethod::V2,
            signed_at,
            parameters,
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
        head: &RequestHead<'_>,
        headers: &Headers<'_>,
        content: Content<'_>,
        claim: &V4Claim<'_>,
        secret: &SecretString,
    ) -> Result<(), AuthError> {
        if let Some(key) = self.keys.get(&claim.scope, secret) {
            return sigv4::verify(head, headers, content, claim, key);
        }
        let key = sigv4::derive_key(secret, &claim.scope);
        sigv4::verify(head, headers, content, claim, key.clone())?;
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
