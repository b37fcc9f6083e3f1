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

mod count;
mod end;
pub(crate) mod engine;
mod holds;
mod lease;
mod operation;
mod registry;
mod rows;

pub use count::{Count, Counts};
pub(crate) use end::end;
#[cfg(test)]
pub(crate) use end::end_in;
pub use lease::adopt;
#[cfg(test)]
pub(crate) use lease::lease;
pub use operation::{Batch, Context, End, Failure, How, Look, Next, Operation, Resource, Step};
pub use registry::{Kind, Of, Registry};
pub use rows::{NewOperation, Target};
pub(crate) use rows::{active, enqueue, enqueue_new, finish, go_on, proceed, state};

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
