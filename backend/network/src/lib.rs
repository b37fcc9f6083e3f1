//! The network domain: VPCs, subnets, security groups and network interfaces, as calls have them. What enforces them is
//! on hosts.

pub mod default_network;
pub mod interface_view;
pub mod network_interfaces;
pub mod security_groups;
pub mod vpcs;

// For async functions that other crates await: in a box, they are compiled here, once, and not in every crate
// that awaits them (`cargo xtask tidy` asks for it).
pub(crate) use async_recursion::async_recursion as boxed;
