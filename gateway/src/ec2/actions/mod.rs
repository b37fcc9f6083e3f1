//! The actions, one file each, by family. A file implements `Action` or `Describe` for the operation's
//! type of the wire; `super::table` lists them.

mod images;
mod instances;
mod keypairs;
mod network_interfaces;
mod placement_groups;
mod regions;
mod security_groups;
mod snapshots;
mod tags;
mod volumes;
mod vpcs;

#[cfg(test)]
macro_rules! examples {
    ($($family:ident,)*) => {
        &[$($family::EXAMPLES,)*]
    };
}

/// An example of each.
#[cfg(test)]
pub(crate) const EXAMPLES: &[&[crate::rpc::example::Example]] = cumulet_wire::for_each_ec2_family!(examples);
