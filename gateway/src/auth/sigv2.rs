//! Signature Version 2 for old EC2 clients: HMAC over method, host, path and sorted parameters.
//!
//! Off unless configured. It signs neither headers nor the way the parameters travel, and AWS has
//! retired it; versions 0 and 1, which can be shifted between parameters, are never accepted.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cumulet_certs::SecretString;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::Sha256;
use std::borrow::Cow;
use subtle::ConstantTimeEq;

use super::claim::MAX_EXPIRES;
use super::encoding::{canonical_path_v2, canonical_query, decode, pairs};
use super::headers::Headers;
use super::{AuthError, RequestHead, SigV2Policy, SignedParameters, time};

/// What a SigV2 request claims.
pub(super) struct V2Claim<'a> {
    pub(super) access_key_id: Cow<'a, str>,
    pub(super) session_token: Option<Cow<'a, str>>,
    /// Signing time, or the end where `Expires` is given.
    pub(super) when: When,
    sha1: bool,
    signature: Vec<u8>,
}

/// The two ways in which SigV2 is bound to a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// `Timestamp`: Unix seconds of signing.
    Signed(i64),
    /// `Expires`: Unix seconds of the end.
    Ends(i64),
}

impl<'a> V2Claim<'a> {
    /// Reads the claim off the parameters of query and body. That none is repeated has been checked before.
    pub(super) fn read(parameters: &'a SignedParameters, policy: SigV2Policy) -> Result<Self, AuthError> {
        const ABSENT: AuthError = AuthError::Incomplete(
            "SigV2 needs AWSAccessKeyId, SignatureVersion, SignatureMethod, Signature and Timestamp or Expires",
        );
        let mut found: [Option<Cow<'a, str>>; 7] = Default::default();
        const NAMES: [&str; 7] = [
            "AWSAccessKeyId",
            "SignatureVersion",
            "SignatureMethod",
            "Signature",
            "Timestamp",
            "Expires",
            "SecurityToken",
        ];
        for (name, value) in pairs(parameters.bytes()) {
            let name = decode(name)?;
            if let Some(index) = NAMES.iter().position(|known| *known == name) {
                found[index] = Some(decode(value)?);
            }
        }
        let [key, version, method, signature, timestamp, expires, session_token] = found;
        if version.as_deref() != Some("2") {
            return Err(AuthError::Unsupported(
                "SignatureVersion must be 2, or use Signature Version 4",
            ));
        }
        let sha1 = match (policy, method.as_deref()) {
            (SigV2Policy::Off, _) => {
                return Err(AuthError::Unsupported(
                    "Signature Version 2 is not enabled; use Signature Version 4",
                ));
            }
            (_, Some("HmacSHA256")) => false,
            (SigV2Policy::Sha256AndSha1, Some("HmacSHA1")) => true,
            (_, None) => return Err(ABSENT),
            _ => return Err(AuthError::Unsupported("this SignatureMethod is not enabled")),
        };
        let (Some(access_key_id), Some(signature)) = (key, signature) else {
            return Err(ABSENT);
        };
        let signature = STANDARD
            .decode(&*signature)
            .map_err(|_| AuthError::SignatureMismatch)?;
        let when = read_time(timestamp.as_deref(), expires.as_deref())?;
        Ok(Self {
            access_key_id,
            session_token,
            when,
            sha1,
            signature,
        })
    }

    /// Whether the secret makes the claimed signature over all parameters.
    pub(super) fn verify(
        &self,
        head: &RequestHead<'_>,
        headers: &Headers<'_>,
        parameters: &SignedParameters,
        secret: &SecretString,
    ) -> Result<(), AuthError> {
        let host = headers.host.and_then(|host| std::str::from_utf8(host).ok());
        let host = host
            .ok_or(AuthError::Incomplete("the Host header is missing"))?
            .to_ascii_lowercase();
        // boto signs the name alone, euca2ools and botocore what the Host header says.
        let bare = without_port(&host);
        let mut rest = Vec::with_capacity(256);
        rest.push(b'\n');
        canonical_path_v2(&mut rest, head.path);
        rest.push(b'\n');
        canonical_query(&mut rest, pairs(parameters.bytes()), "Signature")?;
        let mut matches = subtle::Choice::from(0);
        for host in [host.as_str(), bare] {
            let text = [head.method.as_bytes(), b"\n", host.as_bytes(), &rest].concat();
            let computed = if self.sha1 {
                hmac_sha1(secret, &text)
            } else {
                hmac_sha256(secret, &text)
            };
            matches |= computed.ct_eq(&self.signature);
        }
        if matches.into() {
            Ok(())
        } else {
            Err(AuthError::SignatureMismatch)
        }
    }
}

fn read_time(timestamp: Option<&str>, expires: Option<&str>) -> Result<When, AuthError> {
    const MALFORMED: AuthError =
        AuthError::Incomplete("Timestamp or Expires is not a time like 2026-11-21T01:36:49Z");
    let parse = |text: &str| time::parse_extended(text.as_bytes()).ok_or(MALFORMED);
    match (timestamp, expires) {
        (Some(text), None) => Ok(When::Signed(parse(text)?)),
        (None, Some(text)) => Ok(When::Ends(parse(text)?)),
        (Some(_), Some(_)) => Err(AuthError::Ambiguous("give either Timestamp or Expires, not both")),
        (None, None) => Err(AuthError::Incomplete(
            "a signed request needs Timestamp or Expires",
        )),
    }
}

/// Checks a time against the clock; `now` in Unix seconds.
pub(super) fn check_time(when: When, now: i64, skew: i64) -> Result<(), AuthError> {
    match when {
        When::Signed(at) if now - at > skew => Err(AuthError::Expired),
        When::Signed(at) if at - now > skew => Err(AuthError::NotYetValid),
        When::Ends(at) if at <= now => Err(AuthError::Expired),
        When::Ends(at) if at - now > MAX_EXPIRES => {
            Err(AuthError::Lifetime("Expires must be less than seven days ahead"))
        }
        _ => Ok(()),
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        // An IPv6 address without port ends with its bracket.
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

fn hmac_sha256(secret: &SecretString, text: &[u8]) -> Vec<u8> {
    Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes())
        .map(|mac| mac.chain_update(text).finalize().into_bytes().to_vec())
        .unwrap_or_default()
}

fn hmac_sha1(secret: &SecretString, text: &[u8]) -> Vec<u8> {
    Hmac::<Sha1>::new_from_slice(secret.expose().as_bytes())
        .map(|mac| mac.chain_update(text).finalize().into_bytes().to_vec())
        .unwrap_or_default()
}
