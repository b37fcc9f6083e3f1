//! The security token service: its table of actions, and the actions.

mod actions;
mod table;

use std::sync::LazyLock;

use crate::{
    rpc::{Rpc, by_name},
    words,
};

/// The service.
pub(crate) static STS: Rpc = Rpc {
    model: &cumulet_wire::sts::SERVICE,
    by_name: LazyLock::new(|| by_name(table::ENTRIES)),
    words: words::query,
    as_if_unknown: &[],
    #[cfg(test)]
    examples: actions::EXAMPLES,
};
