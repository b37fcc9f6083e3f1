//! The link to a metadata process: the worker's process holds a [`Link`], the metadata process serves it
//! ([`listen`]). Over a Unix socket of packets go snapshots, and the listening sockets themselves, which the
//! worker has bound inside the VPCs' namespaces.
//!
//! The worker's side keeps a copy of all that it has said. When the metadata process ends, guests'
//! connections wait in the listeners' queues, which the worker holds open; as soon as one is there again it
//! is told everything anew.

mod client;
mod protocol;
mod server;

pub use client::Link;
pub use server::{Server, listen};

#[cfg(test)]
mod tests;
