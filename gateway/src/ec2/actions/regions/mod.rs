//! Regions, zones and the account.

mod describe_account_attributes;
mod describe_availability_zones;
mod describe_regions;
#[cfg(test)]
mod examples;

#[cfg(test)]
pub(super) use examples::EXAMPLES;
