//! Systems Manager's Parameter Store, as far as images are found by it: the public parameters below `/aws/service/`, which
//! are the operator's aliases of images. A service of awsJson 1.1.

mod actions;
mod parameter;
mod table;

use std::sync::LazyLock;

use cumulet_domain::Error;

use crate::{
    fault::{Answer, Fault},
    rpc::{Rpc, by_name},
    words,
};

/// The service.
pub(crate) static SSM: Rpc = Rpc {
    model: &cumulet_wire::ssm::SERVICE,
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
        Fault::Domain(Error::InvalidPaginationToken) => ("InvalidNextToken", 400),
        Fault::Domain(Error::Internal(_)) => ("InternalServerError", 500),
        _ => return answer,
    };
    Answer::new(code, status, answer.message)
}
