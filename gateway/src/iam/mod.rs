//! Identity and access management: its table of actions, and the actions.

mod actions;
mod table;

use std::sync::LazyLock;

use crate::{
    rpc::{Rpc, by_name},
    words,
};

/// The service.
pub(crate) static IAM: Rpc = Rpc {
    model: &cumulet_wire::iam::SERVICE,
    by_name: LazyLock::new(|| by_name(table::ENTRIES)),
    words: words::query,
    as_if_unknown: &[],
    #[cfg(test)]
    examples: actions::EXAMPLES,
};
