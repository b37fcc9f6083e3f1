//! EC2: the framework around the actions, and the actions.
//!
//! A new operation is one file in `actions/<family>/` and one line in [`table`].

pub(crate) mod action;
mod actions;
mod body;
pub(crate) mod ctx;
pub(crate) mod describe;
pub(crate) mod error;
pub(crate) mod filter;
mod hash;
pub(crate) mod page;
mod prologue;
mod reading;
mod render;
mod table;
mod user_data;

pub use body::Body;
pub(crate) use prologue::{Caller, serve};
