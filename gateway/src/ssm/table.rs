//! The dispatch table: a row for each operation of the manifest.

use cumulet_wire::ssm;

use crate::rpc::action::{Entry, document};

macro_rules! rows {
    ($($kind:ident $family:ident::$name:ident,)*) => {
        &[$($kind::<$family::$name>(),)*]
    };
}

/// Every action.
pub(super) static ENTRIES: &[Entry] = cumulet_wire::for_each_ssm_operation!(rows);
