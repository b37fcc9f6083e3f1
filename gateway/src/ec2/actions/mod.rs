//! The actions, one file each, by family. A file implements `Action` or `Describe` for the operation's
//! type of the wire; `super::table` lists them.

mod images;
mod instances;
mod keypairs;
mod network_interfaces;
mod placement_groups;
mod regions;
mod security_groups;
mod tags;
mod volumes;
mod vpcs;

/// An example of each.
#[cfg(test)]
pub(crate) const EXAMPLES: &[&[crate::rpc::example::Example]] = &[
    images::EXAMPLES,
    instances::EXAMPLES,
    keypairs::EXAMPLES,
    network_interfaces::EXAMPLES,
    placement_groups::EXAMPLES,
    regions::EXAMPLES,
    security_groups::EXAMPLES,
    tags::EXAMPLES,
    volumes::EXAMPLES,
    vpcs::EXAMPLES,
];
