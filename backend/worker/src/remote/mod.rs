//! The stores of images and of snapshots from afar: a host that does not have their directories asks whoever serves them,
//! with the grants that commands have brought (`cumulet_domain::storage` has the protocol).
//!
//! ```text
//! image cache ─▶ RemoteImages ────┐
//!                                 ├─▶ StorageClient ─ HTTP, a piece at a time ─▶ gateway/storage
//! SnapshotStore ─▶ RemoteBacking ─┘        grants ◀─ commands
//! ```
//!
//! - `grants`: what commands have brought.
//! - `client`: one request, again and again until it is answered or its time is over.
//! - `images`, `snapshots`: files and blocks, by pieces.

mod client;
mod grants;
mod images;
mod snapshots;

#[cfg(test)]
mod tests;

pub use client::{BadUrl, StorageClient};
pub use grants::Grants;
pub use images::RemoteImages;
pub use snapshots::RemoteSnapshots;
