//! Network interfaces.

mod describe_network_interfaces;
