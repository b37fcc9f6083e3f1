//! Instances, their life and their types.

mod describe_instance_attribute;
mod describe_instance_status;
mod describe_instance_type_offerings;
mod describe_instance_types;
mod describe_instances;
#[cfg(test)]
mod examples;
mod get_console_output;
mod get_console_screenshot;
mod image_alias;
mod modify_instance_attribute;
mod modify_instance_metadata_options;
mod power;
mod run_instances;
mod type_info;

#[cfg(test)]
pub(super) use examples::EXAMPLES;
