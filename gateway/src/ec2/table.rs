//! The dispatch table: a row for each operation of the manifest.

use super::action::{Entry, action, listing};

macro_rules! rows {
    ($($kind:ident $family:ident::$name:ident,)*) => {
        &[$($kind::<cumulet_wire::ec2::$family::$name>(),)*]
    };
}

/// Every action.
pub(super) static ENTRIES: &[Entry] = cumulet_wire::for_each_ec2_operation!(rows);
