//! Placement groups.
mod create_placement_group;
mod delete_placement_group;
mod describe_placement_groups;
#[cfg(test)]
mod examples;

#[cfg(test)]
pub(super) use examples::EXAMPLES;
