//! Snapshots of volumes.

mod copy_snapshot;
mod create_snapshot;
mod create_snapshots;
mod delete_snapshot;
mod describe_snapshot_attribute;
mod describe_snapshots;
#[cfg(test)]
mod examples;
mod modify_snapshot_attribute;
mod reset_snapshot_attribute;

#[cfg(test)]
pub(super) use examples::EXAMPLES;
