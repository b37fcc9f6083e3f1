//! Key pairs.

mod create_key_pair;
mod delete_key_pair;
mod describe_key_pairs;
#[cfg(test)]
mod examples;
mod import_key_pair;

#[cfg(test)]
pub(super) use examples::EXAMPLES;
