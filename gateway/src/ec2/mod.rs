//! EC2: its table of actions, its errors, and the actions.
//!
//! A new operation is one file in `actions/<family>/` and one line in [`table`].

mod actions;
pub(crate) mod error;
mod render;
pub(crate) mod table;
mod user_data;

/// What its actions are written with.
pub(crate) use crate::rpc::{action, ctx, describe, filter, page};
