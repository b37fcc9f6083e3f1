//! An example of each operation of the family.

use crate::rpc::example::{Example, example};

pub(crate) const EXAMPLES: &[Example] = &[
    example("CreateTags", "ResourceId.1={instance}&Tag.1.Key=b&Tag.1.Value=1"),
    example("DeleteTags", "ResourceId.1={instance}&Tag.1.Key=a"),
    example("DescribeTags", ""),
];
