//! Volumes.

mod attach_volume;
mod create_volume;
mod delete_volume;
mod describe_volume_attribute;
mod describe_volume_status;
mod describe_volumes;
mod describe_volumes_modifications;
mod detach_volume;
mod disable_ebs_encryption_by_default;
mod enable_volume_io;
#[cfg(test)]
mod examples;
mod get_ebs_encryption_by_default;
mod modify_volume;
mod modify_volume_attribute;

#[cfg(test)]
pub(super) use examples::EXAMPLES;
