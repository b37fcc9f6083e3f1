//! EC2: its table of actions, its errors, and the actions.
//!
//! A new operation is one file in `actions/<family>/`; [`table`] is made from the manifest.

mod actions;
mod block_devices;
pub(crate) mod ctx;
pub(crate) mod error;
mod kinds;
mod render;
mod sharing;
mod table;
mod user_data;

use std::sync::LazyLock;

use cumulet_wire::ec2::operations;

use crate::rpc::{Rpc, by_name};
/// What its actions are written with.
pub(crate) use crate::rpc::{action, describe, filter};

/// The service.
pub(crate) static EC2: Rpc = Rpc {
    model: &operations::SERVICE,
    by_name: LazyLock::new(|| by_name(table::ENTRIES)),
    words: error::words,
    // Terraform's `aws_eip` reads the sentence.
    as_if_unknown: &["DescribeAddressesAttribute"],
    #[cfg(test)]
    examples: actions::EXAMPLES,
};
