//! The actions, one file each.

#[cfg(test)]
mod examples;
mod get_service_quota;
mod list_service_quotas;
mod list_services;

#[cfg(test)]
pub(crate) const EXAMPLES: &[&[crate::rpc::example::Example]] = &[examples::EXAMPLES];
