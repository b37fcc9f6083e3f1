//! The identity domain: accounts, users and access keys, and the proof that the master key is the cloud's.

pub mod accounts;
pub mod key_proof;

// For async functions that other crates await: in a box, they are compiled here, once, and not in every crate
// that awaits them (`cargo xtask tidy` asks for it).
pub(crate) use async_recursion::async_recursion as boxed;
