//! Why a command was not carried out, as its outcome tells it.

use std::io;

use crate::{images::ImageError, network::NetworkError, vpcs::VpcError};

/// A failure in words, and whether trying again here is of no use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) reason: String,
    pub(crate) permanent: bool,
}

impl Failure {
    pub(crate) fn temporary(reason: impl Into<String>) -> Self {
        Failure {
            reason: reason.into(),
            permanent: false,
        }
    }
}

impl From<cumulet_hypervisor::Error> for Failure {
    fn from(error: cumulet_hypervisor::Error) -> Self {
        Failure {
            permanent: error.is_permanent(),
            reason: error.to_string(),
        }
    }
}

impl From<VpcError> for Failure {
    fn from(error: VpcError) -> Self {
        Failure {
            permanent: matches!(error, VpcError::Network(NetworkError::Policy(_))),
            reason: error.to_string(),
        }
    }
}

impl From<NetworkError> for Failure {
    fn from(error: NetworkError) -> Self {
        VpcError::from(error).into()
    }
}

impl From<ImageError> for Failure {
    fn from(error: ImageError) -> Self {
        Failure {
            permanent: matches!(error, ImageError::Wrong { .. }),
            reason: error.to_string(),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::temporary(format!("host files: {error}"))
    }
}
