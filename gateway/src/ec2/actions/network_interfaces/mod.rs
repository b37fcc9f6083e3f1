//! Network interfaces.

mod describe_network_interfaces;
#[cfg(test)]
mod examples;

#[cfg(test)]
pub(super) use examples::EXAMPLES;
