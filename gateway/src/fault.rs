//! Faults: the refusals of a door, each a code, a status and a sentence in the words of its service.

use std::borrow::Cow;

use cumulet_domain::Error;
use cumulet_wire::WireError;

/// Why a request was refused, before any service's spelling.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// The domain refused.
    Domain(Error),
    /// The request's form is wrong.
    Wire(WireError),
    /// The door itself refused.
    Coded(Answer),
    /// AWS has the operation of this name, and this cloud hasn't.
    Unserved(String),
    /// One request too many.
    Throttled,
}

/// A service's table of errors.
pub(crate) type Words = fn(&Fault) -> Answer;

/// A refusal as the client sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The error code.
    pub(crate) code: Cow<'static, str>,
    /// The HTTP status.
    pub(crate) status: u16,
    /// The sentence.
    pub(crate) message: String,
}

impl Answer {
    /// A refusal.
    pub(crate) fn new(code: &'static str, status: u16, message: impl Into<String>) -> Self {
        Answer {
            code: Cow::Borrowed(code),
            status,
            message: message.into(),
        }
    }
}

impl Fault {
    /// A refusal of the door's own.
    pub(crate) fn coded(code: &'static str, status: u16, message: impl Into<String>) -> Self {
        Fault::Coded(Answer::new(code, status, message))
    }

    /// A parameter with a value that can't be.
    pub(crate) fn invalid(name: &str, value: &str, reason: impl Into<String>) -> Self {
        Fault::Domain(Error::invalid(name, value, reason))
    }

    /// Parameters that don't go together.
    pub(crate) fn combination(reason: impl Into<String>) -> Self {
        Fault::Domain(Error::InvalidCombination {
            reason: reason.into(),
        })
    }

    /// A parameter that must be there.
    pub(crate) fn missing(name: &str) -> Self {
        Fault::Domain(Error::MissingParameter { name: name.into() })
    }

    /// What only the log may see, where the client sees a fixed sentence.
    pub(crate) fn hidden(&self) -> Option<&str> {
        match self {
            Fault::Domain(Error::Internal(text) | Error::Unavailable(text)) => Some(text),
            _ => None,
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Fault::Domain(error)
    }
}

impl From<WireError> for Fault {
    fn from(error: WireError) -> Self {
        Fault::Wire(error)
    }
}
