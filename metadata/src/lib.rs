//! The instance metadata service: what a guest reads at 169.254.169.254.
//!
//! It runs on every compute host, inside the worker's process or linked to it, and needs no control plane: an
//! instance's [`InstanceMetadata`](cumulet_domain::metadata::InstanceMetadata) is rendered once into an
//! immutable table, and a request is a look-up in it. A caller is identified by the VPC that the
//! listening socket belongs to and by its address, which the host's network pins to the guest's
//! interface; never by a header.
//!
//! ```text
//! service    the handle: put, remove, serve, stop, counters
//! server     threads, accept loops, connections
//! stream     a guest's socket: limit on what is read, IP TTL of token responses
//! http       one request in actix-http's types to an answer and back
//! answer     the decision: identity, options, method, token, path
//! registry   (VPC, address) -> instance
//! instance   snapshot, limits and counters of one instance
//! render     snapshot -> table; document: the identity document
//! link       the service in a process of its own
//! table      the immutable tree with its listings
//! path       a request's path -> version and key; version: the dated versions
//! ```

mod answer;
mod config;
mod counters;
mod document;
mod http;
mod instance;
mod limit;
pub mod link;
mod path;
mod registry;
mod render;
mod server;
mod service;
mod stream;
mod table;
mod version;

#[cfg(test)]
mod fixture;

pub use config::{Config, Hosts, Limits, TokenSecret};
pub use counters::Counters;
pub use service::MetadataService;
