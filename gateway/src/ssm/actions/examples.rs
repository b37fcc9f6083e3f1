//! An example of each operation.

use crate::rpc::example::{Example, example};

pub(crate) const EXAMPLES: &[Example] = &[
    example("GetParameter", r#"{"Name":"/aws/service/tiny/latest:1"}"#),
    example(
        "GetParameters",
        r#"{"Names":["/aws/service/tiny/latest","/none"]}"#,
    ),
    example(
        "GetParametersByPath",
        r#"{"Path":"/aws/service","Recursive":true}"#,
    ),
];
