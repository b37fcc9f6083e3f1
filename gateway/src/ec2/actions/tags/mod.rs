//! Tags.

mod create_tags;
mod delete_tags;
mod describe_tags;
#[cfg(test)]
mod examples;

#[cfg(test)]
pub(super) use examples::EXAMPLES;
