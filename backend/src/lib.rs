//! The control plane: what the doors call (`api`), what places and drives instances (`scheduler`,
//! `conductor`), and the database under them (`entity`, `store`).

pub mod api;
pub mod conductor;
pub mod entity;
pub mod scheduler;
pub mod store;
