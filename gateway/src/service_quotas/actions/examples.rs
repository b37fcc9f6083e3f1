//! An example of each operation.

use crate::rpc::example::{Example, example};

pub(crate) const EXAMPLES: &[Example] = &[
    example(
        "GetServiceQuota",
        r#"{"ServiceCode":"vpc","QuotaCode":"L-0EA8095F"}"#,
    ),
    example("ListServiceQuotas", r#"{"ServiceCode":"ec2"}"#),
    example("ListServices", "{}"),
];
