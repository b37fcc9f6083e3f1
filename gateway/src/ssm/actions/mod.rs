//! The actions, one file each.

#[cfg(test)]
mod examples;
mod get_parameter;
mod get_parameters;
mod get_parameters_by_path;

#[cfg(test)]
pub(crate) const EXAMPLES: &[&[crate::rpc::example::Example]] = &[examples::EXAMPLES];
