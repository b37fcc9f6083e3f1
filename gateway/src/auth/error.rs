//! Authentication errors, and what the client is told of each, per protocol.

use std::borrow::Cow;

/// Why a request was not authenticated.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// No signature of any kind.
    #[error("the request is not signed")]
    Missing,
    /// The signature's own parts are malformed or absent.
    #[error("{0}")]
    Incomplete(&'static str),
    /// The same thing is said twice, so that two readers could understand it differently.
    #[error("{0}")]
    Ambiguous(&'static str),
    /// The query string or the names in the body can't be read in exactly one way.
    #[error("{0}")]
    MalformedQuery(&'static str),
    /// A parameter is there more than once. The name is printable and short.
    #[error("the parameter {0} is given more than once")]
    DuplicateParameter(String),
    /// A signature version or algorithm that is not accepted here.
    #[error("{0}")]
    Unsupported(&'static str),
    /// No active key of this id.
    #[error("no active access key of this id")]
    UnknownKey,
    /// The signature is not the one that we compute.
    #[error("the signature does not match")]
    SignatureMismatch,
    /// The scope's date, region or service is not this request's or ours.
    #[error("{0}")]
    Scope(&'static str),
    /// Something that must be signed is not.
    #[error("{0}")]
    Unsigned(Cow<'static, str>),
    /// The declared hash is not the body's.
    #[error("{0}")]
    Payload(&'static str),
    /// Signed too long ago, or the presigned request's time is over.
    #[error("the request has expired")]
    Expired,
    /// Signed too far in the future.
    #[error("the request's time is in the future")]
    NotYetValid,
    /// `X-Amz-Expires` or `Expires` is not a usable lifetime.
    #[error("{0}")]
    Lifetime(&'static str),
    /// The `Host` is not one of ours.
    #[error("the host is not served here")]
    Host,
    /// A temporary key without a session token, a long-term key with one, or a foreign token.
    #[error("{0}")]
    Token(&'static str),
    /// The session token's time is over.
    #[error("the session token has expired")]
    TokenExpired,
    /// The credentials can't be read now. The text is for the log, never for the client.
    #[error("credentials are unavailable: {0}")]
    Unavailable(String),
}

/// The protocols' different words for the same refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// EC2.
    Ec2,
    /// IAM, STS and the other services of the `query` protocol.
    Query,
    /// Services of awsJson.
    Json,
}

/// What the client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The error code.
    pub code: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// A sentence without secrets.
    pub message: Cow<'static, str>,
}

const EC2_NOT_VALIDATED: &str = "AWS was not able to validate the provided access credentials";
const MISMATCH: &str = "The request signature we calculated does not match the signature you provided. \
    Check your AWS Secret Access Key and signing method. Consult the service documentation for details.";
const BAD_TOKEN: &str = "The security token included in the request is invalid.";
const OLD_TOKEN: &str = "The security token included in the request is expired";

impl AuthError {
    /// Code, status and message for a protocol.
    pub fn reject(&self, dialect: Dialect) -> Rejection {
        if let Some(rejection) = self.reject_json(dialect) {
            return rejection;
        }
        let own = || Cow::Owned(sentence(self));
        let (code, status, message) = match self {
            Self::Missing => (
                "MissingAuthenticationToken",
                403,
                Cow::Borrowed("Request is missing Authentication Token"),
            ),
            Self::Incomplete(_) | Self::Ambiguous(_) => ("IncompleteSignature", 400, own()),
            Self::MalformedQuery(_) | Self::DuplicateParameter(_) => ("MalformedQueryString", 400, own()),
            Self::Lifetime(_) => ("InvalidQueryParameter", 400, own()),
            Self::Unsigned(_) | Self::Payload(_) | Self::Host => ("SignatureDoesNotMatch", 403, own()),
            Self::Expired | Self::NotYetValid => ("RequestExpired", 400, own()),
            Self::UnknownKey | Self::SignatureMismatch | Self::Scope(_) | Self::Unsupported(_) => {
                return self.reject_credentials(dialect);
            }
            Self::Token(_) => match dialect {
                Dialect::Ec2 => ("AuthFailure", 401, Cow::Borrowed(EC2_NOT_VALIDATED)),
                Dialect::Query => ("InvalidClientTokenId", 403, Cow::Borrowed(BAD_TOKEN)),
                Dialect::Json => ("UnrecognizedClientException", 400, Cow::Borrowed(BAD_TOKEN)),
            },
            Self::TokenExpired => match dialect {
                Dialect::Ec2 => ("RequestExpired", 400, Cow::Borrowed("Request has expired.")),
                Dialect::Query => ("ExpiredToken", 403, Cow::Borrowed(OLD_TOKEN)),
                Dialect::Json => ("ExpiredTokenException", 400, Cow::Borrowed(OLD_TOKEN)),
            },
            Self::Unavailable(_) => (
                match dialect {
                    Dialect::Ec2 => "Unavailable",
                    Dialect::Query => "ServiceUnavailable",
                    Dialect::Json => "ServiceUnavailableException",
                },
                503,
                Cow::Borrowed("The service is temporarily unavailable"),
            ),
        };
        Rejection {
            code,
            status,
            message,
        }
    }

    /// What services of JSON call otherwise.
    fn reject_json(&self, dialect: Dialect) -> Option<Rejection> {
        let (code, message) = match (dialect, self) {
            (Dialect::Ec2 | Dialect::Query, _) => return None,
            (Dialect::Json, Self::Missing) => (
                "MissingAuthenticationTokenException",
                Cow::Borrowed("Missing Authentication Token"),
            ),
            (Dialect::Json, Self::Incomplete(_) | Self::Ambiguous(_)) => {
                ("IncompleteSignatureException", Cow::Owned(sentence(self)))
            }
            (Dialect::Json, Self::UnknownKey) => ("UnrecognizedClientException", Cow::Borrowed(BAD_TOKEN)),
            (Dialect::Json, Self::SignatureMismatch) => {
                ("InvalidSignatureException", Cow::Borrowed(MISMATCH))
            }
            (Dialect::Json, Self::Token(_) | Self::TokenExpired | Self::Unavailable(_)) => return None,
            (Dialect::Json, _) => ("InvalidSignatureException", Cow::Owned(sentence(self))),
        };
        Some(Rejection {
            code,
            status: 400,
            message,
        })
    }

    fn reject_credentials(&self, dialect: Dialect) -> Rejection {
        let (code, status, message) = match (dialect, self) {
            // What is wrong with the signed scope or version is no secret and saves hours.
            (Dialect::Ec2, Self::Scope(why) | Self::Unsupported(why)) => (
                "AuthFailure",
                401,
                Cow::Owned(format!("{EC2_NOT_VALIDATED} ({why})")),
            ),
            // An unknown key and a wrong secret look alike: ids can't be tried out.
            (Dialect::Ec2, _) => ("AuthFailure", 401, Cow::Borrowed(EC2_NOT_VALIDATED)),
            (Dialect::Query, Self::UnknownKey) => ("InvalidClientTokenId", 403, Cow::Borrowed(BAD_TOKEN)),
            (Dialect::Query, Self::Scope(_) | Self::Unsupported(_)) => {
                ("SignatureDoesNotMatch", 403, Cow::Owned(sentence(self)))
            }
            (Dialect::Query | Dialect::Json, _) => ("SignatureDoesNotMatch", 403, Cow::Borrowed(MISMATCH)),
        };
        Rejection {
            code,
            status,
            message,
        }
    }
}

/// The error's text as a sentence.
fn sentence(error: &AuthError) -> String {
    let text = error.to_string();
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_uppercase().chain(chars).collect(),
        None => text,
    }
}
