//! VPCs and subnets.

mod describe_subnets;
mod describe_vpcs;
