//! VPCs and subnets.

mod describe_subnets;
mod describe_vpcs;
#[cfg(test)]
mod examples;

#[cfg(test)]
pub(super) use examples::EXAMPLES;
