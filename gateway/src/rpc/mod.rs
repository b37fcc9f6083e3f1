//! The framework of operations that have a name and parameters: what is the same around every one of them.

pub(crate) mod action;
pub(crate) mod ctx;
pub(crate) mod describe;
pub(crate) mod filter;
mod hash;
pub(crate) mod page;
mod prologue;
mod reading;

pub(crate) use prologue::{Caller, serve};
