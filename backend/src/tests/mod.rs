//! The tests of calls and operations, over a whole cloud without hosts. What needs no cloud is tested beside the code.

mod aliases;
mod bootstrap;
mod columns;
mod confirm;
mod disagreements;
mod grants;
mod images;
mod instances;
mod key_pairs;
mod network_interfaces;
mod operations;
mod placement_groups;
mod races;
mod refusals;
mod security_groups;
mod snapshot_limits;
mod tags;
mod upgrades;
mod volume_copies;
mod volumes;
