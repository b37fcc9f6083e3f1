//! The core of the control plane: what the functions of every domain are given, and what resources of every kind have.
//!
//! - `context`: the request context, with what is configured.
//! - `asking`: the frame of a call that asks for an operation.
//! - `audit_log`, `refusals`: who has asked for what.
//! - `tags`, `tag_room`: tags of resources of any kind.
//! - `quota`: what an account may have.
//! - `token`: client tokens. `presence`: whether who asked still waits.
//! - `regions`: regions and zones. `retention`: how long what has ended is kept. `wake`: wakes the conductor.

mod asking;
pub mod audit_log;
mod context;
mod presence;
pub mod quota;
mod refusals;
pub mod regions;
pub mod retention;
pub mod tag_room;
pub mod tags;
mod token;
mod wake;

pub use context::{CloudConfig, Parts, RequestContext};
pub use cumulet_store::{
    Spent,
    page::{Page, PageRequest},
};
pub use presence::Presence;
pub use quota::Quotas;
pub use token::ClientToken;
pub use wake::Wake;

// For async functions that other crates await: in a box, they are compiled here, once, and not in every crate
// that awaits them (`cargo xtask tidy` asks for it).
pub(crate) use async_recursion::async_recursion as boxed;
