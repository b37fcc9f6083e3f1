//! What the storage door answers to a request that it does not carry out: a status, and a sentence.

use std::{fmt, io};

use actix_web::{HttpResponse, ResponseError, http::StatusCode};
use cumulet_certs::storage_grant::GrantRefusal;
use cumulet_domain::storage::OFFSET;

/// See the module.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The request is none: what of it, and what would be right.
    Malformed(String),
    /// It has no grant that counts.
    Grant(GrantRefusal),
    /// Its grant does not name this.
    NotGranted(String),
    /// The range begins at the end or beyond it; how many bytes there are.
    NoSuchRange(u64),
    /// A piece begins beyond what is there of an upload, which is so many bytes.
    Gap(u64),
    /// A piece did not come in time.
    Late,
    /// The host has as many requests under way as it may have.
    Busy,
    /// The files.
    Files(io::Error),
}

impl From<GrantRefusal> for Refusal {
    fn from(refusal: GrantRefusal) -> Self {
        Refusal::Grant(refusal)
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Refusal::Files(error)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Malformed(why) | Refusal::NotGranted(why) => f.write_str(why),
            Refusal::Grant(refusal) => refusal.fmt(f),
            Refusal::NoSuchRange(bytes) => write!(f, "it has {bytes} bytes, and none from there on"),
            Refusal::Gap(bytes) => write!(
                f,
                "the upload has {bytes} bytes, and the piece begins beyond them"
            ),
            Refusal::Late => f.write_str("the piece did not come in time"),
            Refusal::Busy => f.write_str("the host has too many requests under way"),
            // A host needs no names of files of this machine.
            Refusal::Files(error) => match error.kind() {
                io::ErrorKind::NotFound => f.write_str("there is no such file"),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => f.write_str("the store is full"),
                io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => error.fmt(f),
                _ => f.write_str("the files can't be read or written"),
            },
        }
    }
}

impl ResponseError for Refusal {
    fn status_code(&self) -> StatusCode {
        match self {
            Refusal::Malformed(_) => StatusCode::BAD_REQUEST,
            Refusal::Grant(GrantRefusal::Invalid) => StatusCode::UNAUTHORIZED,
            Refusal::Grant(GrantRefusal::Expired) | Refusal::NotGranted(_) => StatusCode::FORBIDDEN,
            Refusal::NoSuchRange(_) => StatusCode::RANGE_NOT_SATISFIABLE,
            Refusal::Gap(_) => StatusCode::CONFLICT,
            Refusal::Late => StatusCode::REQUEST_TIMEOUT,
            Refusal::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Refusal::Files(error) => match error.kind() {
                io::ErrorKind::NotFound => StatusCode::NOT_FOUND,
                io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => StatusCode::UNPROCESSABLE_ENTITY,
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StatusCode::INSUFFICIENT_STORAGE,
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            },
        }
    }

    fn error_response(&self) -> HttpResponse {
        let status = self.status_code();
        let mut answer = HttpResponse::build(status);
        let header = match self {
            Refusal::NoSuchRange(bytes) => Some(("content-range", format!("bytes */{bytes}"))),
            Refusal::Gap(bytes) => Some((OFFSET, bytes.to_string())),
            Refusal::Grant(_) => Some(("www-authenticate", "Bearer".to_owned())),
            _ => None,
        };
        if let Some(header) = header {
            answer.insert_header(header);
        }
        if let Refusal::Files(error) = self {
            tracing::warn!(%error, %status, "a request of a host for the stores has failed");
        }
        answer
            .content_type("text/plain; charset=utf-8")
            .body(self.to_string())
    }
}
