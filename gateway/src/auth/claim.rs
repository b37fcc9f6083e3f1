//! The signature claim of a request: what it says about its own signature, parsed but not believed.

use std::borrow::Cow;

use super::encoding::{decode, halves, pairs, parts};
use super::headers::Headers;
use super::{AuthError, RequestHead, time};

/// The one algorithm of SigV4 that is accepted.
pub(super) const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const TERMINATOR: &str = "aws4_request";
/// Longest lifetime of a presigned request: seven days.
pub(super) const MAX_EXPIRES: i64 = 604_800;
const MAX_SIGNED_HEADERS: usize = 64;
const MAX_ACCESS_KEY_ID: usize = 128;
const MAX_SCOPE_PART: usize = 64;

/// `Credential=` in its five parts.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Scope<'a> {
    pub(super) access_key_id: &'a str,
    pub(super) date: &'a str,
    pub(super) region: &'a str,
    pub(super) service: &'a str,
    /// All but the access key id: the line that is signed.
    pub(super) line: &'a str,
}

/// A SigV4 signature, in the header or in the query.
#[derive(Debug)]
pub(super) struct V4Claim<'a> {
    pub(super) scope: Scope<'a>,
    pub(super) signed_headers: &'a str,
    pub(super) signature: &'a str,
    /// The time as it is signed, `20261121T013649Z`.
    pub(super) timestamp: Cow<'a, str>,
    pub(super) signed_at: i64,
    /// Lifetime in seconds; presigned requests only.
    pub(super) expires: Option<i64>,
    pub(super) session_token: Option<&'a str>,
}

impl<'a> Scope<'a> {
    fn parse(credential: &'a str) -> Result<Self, AuthError> {
        const MALFORMED: AuthError = AuthError::Incomplete(
            "the Credential must have the form KEY/YYYYMMDD/REGION/SERVICE/aws4_request",
        );
        let (access_key_id, line) = halves(credential, b'/');
        let line = line.ok_or(MALFORMED)?;
        let mut parts = parts(line, b'/');
        let (Some(date), Some(region), Some(service), Some(TERMINATOR), None) = (
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
        ) else {
            return Err(MALFORMED);
        };
        let word = |text: &str, most: usize| {
            (1..=most).contains(&text.len())
                && text
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        };
        let plausible = word(access_key_id, MAX_ACCESS_KEY_ID)
            && word(region, MAX_SCOPE_PART)
            && word(service, MAX_SCOPE_PART)
            && date.len() == 8
            && date.bytes().all(|b| b.is_ascii_digit());
        if !plausible {
            return Err(MALFORMED);
        }
        Ok(Self {
            access_key_id,
            date,
            region,
            service,
            line,
        })
    }
}

/// The three parts of a SigV4 `Authorization` header.
struct AuthorizationParts<'a> {
    credential: &'a str,
    signed_headers: &'a str,
    signature: &'a str,
}

impl<'a> AuthorizationParts<'a> {
    fn parse(value: &'a [u8]) -> Result<Self, AuthError> {
        const MALFORMED: AuthError = AuthError::Incomplete(
            "the Authorization header must have exactly Credential, SignedHeaders and Signature",
        );
        let text = std::str::from_utf8(value).map_err(|_| MALFORMED)?;
        let (algorithm, rest) = halves(text, b' ');
        let rest = rest.unwrap_or_default();
        if algorithm != ALGORITHM {
            return Err(AuthError::Incomplete(
                "the Authorization header must use AWS4-HMAC-SHA256",
            ));
        }
        let (mut credential, mut signed_headers, mut signature) = (None, None, None);
        for part in parts(rest, b',') {
            let (name, value) = halves(part.trim(), b'=');
            let value = value.ok_or(MALFORMED)?;
            let slot = match name {
                "Credential" => &mut credential,
                "SignedHeaders" => &mut signed_headers,
                "Signature" => &mut signature,
                _ => return Err(MALFORMED),
            };
            if slot.replace(value).is_some() {
                return Err(MALFORMED);
            }
        }
        match (credential, signed_headers, signature) {
            (Some(credential), Some(signed_headers), Some(signature)) => Ok(Self {
                credential,
                signed_headers,
                signature,
            }),
            _ => Err(MALFORMED),
        }
    }
}

/// Reads the claim of a header-signed request.
pub(super) fn from_header<'a>(
    authorization: &'a [u8],
    headers: &Headers<'a>,
) -> Result<V4Claim<'a>, AuthError> {
    let parts = AuthorizationParts::parse(authorization)?;
    let (timestamp, signed_at) = header_time(headers)?;
    let token = headers.amz_token.map(std::str::from_utf8).transpose();
    Ok(V4Claim {
        scope: Scope::parse(parts.credential)?,
        signed_headers: check_signed_headers(parts.signed_headers)?,
        signature: parts.signature,
        timestamp,
        signed_at,
        expires: None,
        session_token: token.map_err(|_| AuthError::Token("the session token is not text"))?,
    })
}

/// The time of a header-signed request: `X-Amz-Date`, else `Date`.
fn header_time<'a>(headers: &Headers<'a>) -> Result<(Cow<'a, str>, i64), AuthError> {
    const MALFORMED: AuthError = AuthError::Incomplete("the request's date is malformed");
    if let Some(text) = headers.amz_date {
        let unix = time::parse_basic(text).ok_or(MALFORMED)?;
        return Ok((
            Cow::Borrowed(std::str::from_utf8(text).map_err(|_| MALFORMED)?),
            unix,
        ));
    }
    let text = headers
        .date
        .ok_or(AuthError::Incomplete("a signed request needs X-Amz-Date or Date"))?;
    let unix = time::parse_http(text)
        .or_else(|| time::parse_basic(text))
        .ok_or(MALFORMED)?;
    Ok((Cow::Owned(time::format_basic(unix)), unix))
}

/// The parameters of a presigned request, decoded. The claim borrows from it.
#[derive(Default)]
pub(super) struct Presigned<'a> {
    algorithm: Option<Cow<'a, str>>,
    credential: Option<Cow<'a, str>>,
    date: Option<Cow<'a, str>>,
    expires: Option<Cow<'a, str>>,
    signed_headers: Option<Cow<'a, str>>,
    signature: Option<Cow<'a, str>>,
    token: Option<Cow<'a, str>>,
}

impl<'a> Presigned<'a> {
    /// Reads the `X-Amz-*` parameters. That none is repeated has been checked before.
    pub(super) fn read(query: &'a str) -> Result<Self, AuthError> {
        let mut found = Self::default();
        for (name, value) in pairs(query.as_bytes()) {
            let slot = match &*decode(name)? {
                "X-Amz-Algorithm" => &mut found.algorithm,
                "X-Amz-Credential" => &mut found.credential,
                "X-Amz-Date" => &mut found.date,
                "X-Amz-Expires" => &mut found.expires,
                "X-Amz-SignedHeaders" => &mut found.signed_headers,
                "X-Amz-Signature" => &mut found.signature,
                "X-Amz-Security-Token" => &mut found.token,
                _ => continue,
            };
            *slot = Some(decode(value)?);
        }
        Ok(found)
    }

    /// The claim that the parameters make.
    pub(super) fn claim(&self) -> Result<V4Claim<'_>, AuthError> {
        const ABSENT: AuthError = AuthError::Incomplete(
            "a presigned request needs X-Amz-Algorithm, -Credential, -Date, -Expires, -SignedHeaders and -Signature",
        );
        let parts = (
            &self.algorithm,
            &self.credential,
            &self.date,
            &self.expires,
            &self.signed_headers,
            &self.signature,
        );
        let (
            Some(algorithm),
            Some(credential),
            Some(date),
            Some(expires),
            Some(signed_headers),
            Some(signature),
        ) = parts
        else {
            return Err(ABSENT);
        };
        if algorithm != ALGORITHM {
            return Err(AuthError::Incomplete("X-Amz-Algorithm must be AWS4-HMAC-SHA256"));
        }
        let signed_at =
            time::parse_basic(date.as_bytes()).ok_or(AuthError::Incomplete("X-Amz-Date is malformed"))?;
        Ok(V4Claim {
            scope: Scope::parse(credential)?,
            signed_headers: check_signed_headers(signed_headers)?,
            signature,
            timestamp: Cow::Borrowed(date),
            signed_at,
            expires: Some(parse_expires(expires)?),
            session_token: self.token.as_deref(),
        })
    }
}

/// `X-Amz-Expires`: 1 to 604800 seconds in plain digits.
fn parse_expires(text: &str) -> Result<i64, AuthError> {
    let digits = (1..=6).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    digits
        .then(|| text.parse().ok())
        .flatten()
        .filter(|seconds| (1..=MAX_EXPIRES).contains(seconds))
        .ok_or(AuthError::Lifetime(
            "X-Amz-Expires must be a number of seconds from 1 to 604800",
        ))
}

/// The list must be in canonical form: lower case, sorted, no name twice. So the list as received
/// is the list that was signed, and it names `host`.
fn check_signed_headers(list: &str) -> Result<&str, AuthError> {
    let mut previous = "";
    let mut host = false;
    for (index, name) in parts(list, b';').enumerate() {
        let token = !name.is_empty()
            && name
                .bytes()
                .all(|b| b.is_ascii_graphic() && !b.is_ascii_uppercase() && b != b',' && b != b':');
        if !token || name <= previous || index >= MAX_SIGNED_HEADERS {
            return Err(AuthError::Incomplete(
                "SignedHeaders must be lower case, sorted and without repetition",
            ));
        }
        host |= name == "host";
        previous = name;
    }
    if host {
        Ok(list)
    } else {
        Err(AuthError::Unsigned("the Host header must be signed".into()))
    }
}

/// The service named by the request's unverified scope.
pub(super) fn claimed_service(head: &RequestHead<'_>) -> Option<String> {
    let authorization = head
        .headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("authorization"));
    if let Some((_, value)) = authorization {
        let parts = AuthorizationParts::parse(value.trim_ascii()).ok()?;
        return Scope::parse(parts.credential)
            .ok()
            .map(|scope| scope.service.to_owned());
    }
    let presigned = Presigned::read(head.query).ok()?;
    Scope::parse(presigned.credential.as_deref()?)
        .ok()
        .map(|scope| scope.service.to_owned())
}
