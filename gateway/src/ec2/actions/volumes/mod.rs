//! Volumes.

mod attach_volume;
mod create_volume;
mod delete_volume;
mod describe_volumes;
mod detach_volume;
#[cfg(test)]
mod examples;

#[cfg(test)]
pub(super) use examples::EXAMPLES;
