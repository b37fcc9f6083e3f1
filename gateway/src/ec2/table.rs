//! The dispatch table: a row for each operation of the manifest.

use cumulet_wire::ec2::{
    images, instances, keypairs, network_interfaces, placement_groups, regions, security_groups, tags,
    volumes, vpcs,
};

use super::action::{Entry, action, listing};

macro_rules! rows {
    ($($kind:ident $family:ident::$name:ident,)*) => {
        &[$($kind::<$family::$name>(),)*]
    };
}

/// Every action.
pub(super) static ENTRIES: &[Entry] = cumulet_wire::for_each_ec2_operation!(rows);
