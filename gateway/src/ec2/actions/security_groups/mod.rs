//! Security groups and their rules.

mod authorize;
mod create_security_group;
mod delete_security_group;
mod describe_security_group_rules;
mod describe_security_groups;
#[cfg(test)]
mod examples;
mod permission;
mod revoke;
mod which;

#[cfg(test)]
pub(super) use examples::EXAMPLES;
