//! An example of each operation of the family.

use crate::rpc::example::{Example, example};

pub(crate) const EXAMPLES: &[Example] = &[
    example("DescribeSubnets", "SubnetId.1={subnet}"),
    example("DescribeVpcs", "VpcId.1={vpc}"),
];
