//! Service Quotas: what an account may have, as a service of awsJson 1.1.
//!
//! Quotas that AWS has too have its codes; the others begin with `C-`. Values are those that are enforced.

mod actions;
mod quota;
mod table;

use std::sync::LazyLock;

use cumulet_domain::Error;

use crate::{
    fault::{Answer, Fault},
    rpc::{Rpc, by_name},
    words,
};

/// The service.
pub(crate) static SERVICE_QUOTAS: Rpc = Rpc {
    model: &cumulet_wire::service_quotas::SERVICE,
    by_name: LazyLock::new(|| by_name(table::ENTRIES)),
    words: says,
    as_if_unknown: &[],
    #[cfg(test)]
    examples: actions::EXAMPLES,
};

/// Its table of errors: its model has names of its own.
fn says(fault: &Fault) -> Answer {
    let answer = words::json(fault);
    let (code, status) = match fault {
        Fault::Throttled => ("TooManyRequestsException", 400),
        Fault::Domain(Error::NotFound { .. }) => ("NoSuchResourceException", 400),
        Fault::Domain(Error::InvalidPaginationToken) => ("InvalidPaginationTokenException", 400),
        Fault::Domain(Error::InvalidParameter { .. }) => ("IllegalArgumentException", 400),
        Fault::Domain(Error::Internal(_)) => ("ServiceException", 500),
        _ => return answer,
    };
    Answer::new(code, status, answer.message)
}
