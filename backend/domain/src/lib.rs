//! Domain types, shared by every crate: ids, states, specifications, errors and messages, and the pure
//! functions over them. No I/O, no async, no protocol of any door.

pub mod account;
pub mod calendar;
pub mod catalogue;
pub mod console;
pub mod crash;
pub mod dns;
pub mod error;
pub mod faults;
pub mod host;
pub mod host_address;
pub mod id;
pub mod image;
pub mod instance;
pub mod message;
pub mod metadata;
pub mod names;
pub mod network;
pub mod parameter;
pub mod placement;
pub mod rng;
pub mod snapshot;
pub mod spec;
pub mod storage;
pub mod tag;
pub mod text;
pub mod time;
pub mod volume;

pub use error::{Error, Result};
pub use id::ResourceKind;
