//! The actions, one file each.

#[cfg(test)]
mod examples;
mod get_user;

#[cfg(test)]
pub(crate) const EXAMPLES: &[&[crate::rpc::example::Example]] = &[examples::EXAMPLES];
