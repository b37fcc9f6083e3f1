//! The operator's domain: hosts and aggregates, the registry of services, quotas, console tokens, and the first start.

pub mod bootstrap;
pub mod consoles;
pub mod hosts;
pub mod quotas;
pub mod services;

// For async functions that other crates await: in a box, they are compiled here, once, and not in every crate
// that awaits them (`cargo xtask tidy` asks for it).
pub(crate) use async_recursion::async_recursion as boxed;
