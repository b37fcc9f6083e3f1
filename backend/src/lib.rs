//! The control plane: what the doors call (`api`), what places and drives instances (`scheduler`,
//! `conductor`), the journal of long operations on anything (`journal`), and the database under them (`entity`,
//! `store`).

pub mod api;
pub mod bootstrap;
pub mod conductor;
pub mod images;
pub mod retention;

pub use cumulet_journal as journal;
pub use cumulet_scheduler as scheduler;
pub use cumulet_store as store;
pub use cumulet_store::{authority, entity};

// For async functions that other crates await: in a box, they are compiled here, once, and not in every crate
// that awaits them (`cargo xtask tidy` asks for it).
pub(crate) use async_recursion::async_recursion as boxed;

#[cfg(test)]
mod disagreements;
#[cfg(test)]
mod grants;
#[cfg(test)]
mod races;
#[cfg(test)]
pub(crate) mod test_support;
#[cfg(test)]
mod upgrades;
