//! Renderers of the cloud's resources in EC2's shapes, where more than one action shows them.

pub(crate) mod instance;
pub(crate) mod network_interface;
pub(crate) mod security_group;
