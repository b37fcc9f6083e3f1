//! An example of each operation of the family.

use crate::rpc::example::{Example, example};

pub(crate) const EXAMPLES: &[Example] = &[example(
    "DescribeNetworkInterfaces",
    "NetworkInterfaceId.1={interface}",
)];
