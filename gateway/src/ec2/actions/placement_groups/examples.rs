//! An example of each operation of the family.

use crate::rpc::example::{Example, example};

pub(crate) const EXAMPLES: &[Example] = &[
    example(
        "CreatePlacementGroup",
        "GroupName=new&Strategy=partition&PartitionCount=3",
    ),
    example("DeletePlacementGroup", "GroupName=p"),
    example("DescribePlacementGroups", "GroupId.1={placement}"),
];
