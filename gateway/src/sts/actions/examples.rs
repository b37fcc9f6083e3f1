//! An example of each operation.

use crate::rpc::example::{Example, example};

pub(crate) const EXAMPLES: &[Example] = &[example("GetCallerIdentity", "")];
