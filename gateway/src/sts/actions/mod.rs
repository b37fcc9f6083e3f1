//! The actions, one file each.

#[cfg(test)]
mod examples;
mod get_caller_identity;

#[cfg(test)]
pub(crate) const EXAMPLES: &[&[crate::rpc::example::Example]] = &[examples::EXAMPLES];
