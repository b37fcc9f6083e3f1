//! The operation journal: long work on resources of any kind, in rows, one step after the other. It knows rows,
//! holds, leases and deadlines, and no resource (`cargo xtask tidy` checks that); what an operation does is its own
//! file's business, an [`Operation`].
//!
//! An operation is enqueued in the transaction that changes what is wanted of its subject. Whatever it takes (a
//! host's capacity, addresses) is written in rows in the same transaction as the step that takes it, so that nothing
//! needs undo notes of its own. What it works on it holds, by a unique key, until the transaction that ends it. A
//! lease keeps two engines from running the same step; a step that runs twice is harmless anyway.
//!
//! - `operation`: what an operation says of itself, and does.
//! - `registry`: all operations of a program, by name: crash points, metrics and docs/operations.md come from it.
//! - `rows`: the operations' table: enqueue, reschedule, finish.
//! - `holds`: what open operations hold.
//! - `lease`: what is due, and who works on it.
//! - `engine`: takes what is due and runs one step of each.
//! - `end`: the one transaction that ends an operation.
//! - `count`: how many steps have run and how operations have ended.

// For async functions that other crates await: in a box, they are compiled here, once, and not in every crate
// that awaits them (`cargo xtask tidy` asks for it).
pub(crate) use async_recursion::async_recursion as boxed;

mod count;
mod end;
pub mod engine;
mod holds;
mod lease;
mod operation;
mod registry;
mod rows;

pub use count::{Count, Counts};
pub use end::end;
pub use end::end_in;
pub use lease::adopt;
pub use lease::lease;
pub use operation::{Batch, Context, End, Failure, How, Look, Next, Operation, Resource, Step};
pub use registry::{Kind, Of, Registry};
pub use rows::{NewOperation, Target};
pub use rows::{active, enqueue, enqueue_new, finish, go_on, postpone, proceed, state, written};

#[cfg(any(test, feature = "testing"))]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, async_fn_in_trait)] // for tests alone
pub mod testing;
#[cfg(test)]
mod tests;
