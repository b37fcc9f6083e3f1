//! The compute domain: instances and what only they have.
//!
//! - `instances`: launched, described, powered, changed and ended.
//! - `instance_types`, `catalogue`: what sizes they have. `key_pairs`, `placement_groups`: what a launch may name.
//! - `attachments`: their volumes.
//! - `compute`: what the domain keeps between calls.

pub mod attachments;
pub mod catalogue;
mod compute;
pub mod instance_types;
pub mod instances;
pub mod key_pairs;
pub mod placement_groups;

pub use compute::Compute;
pub use key_pairs::KeyForge;

// For async functions that other crates await: in a box, they are compiled here, once, and not in every crate
// that awaits them (`cargo xtask tidy` asks for it).
pub(crate) use async_recursion::async_recursion as boxed;
