//! Volumes.

mod attach_volume;
mod copy_volumes;
mod create_volume;
mod delete_volume;
mod describe_volume_attribute;
mod describe_volume_status;
mod describe_volumes;
mod describe_volumes_modifications;
mod detach_volume;
mod disable_ebs_encryption_by_default;
mod enable_ebs_encryption_by_default;
mod enable_volume_io;
#[cfg(test)]
mod examples;
mod get_ebs_default_kms_key_id;
mod get_ebs_encryption_by_default;
mod modify_ebs_default_kms_key_id;
mod modify_volume;
mod modify_volume_attribute;
mod reset_ebs_default_kms_key_id;

#[cfg(test)]
pub(super) use examples::EXAMPLES;
