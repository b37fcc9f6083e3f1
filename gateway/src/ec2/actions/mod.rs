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
mod vpcs;
