//! Snapshots' data, in a directory that the control plane and hosts have in common. A snapshot is a manifest: for each
//! block of the disk that is not all zeros its digest, and where its bytes are. These are in segments: files with the
//! blocks that one snapshot has brought. A later one of the same volume names the blocks of the earlier, so that it
//! takes as much room as has changed, and either can go first: a segment's block stays for as long as a manifest that
//! is wanted names it.
//!
//! A manifest is known by its SHA-256, which is in the database; it has its blocks' digests, and what is read is
//! compared with them. So a snapshot is what it was or an error. Nothing is ever written in place: files come by a
//! rename, whole and on disk.
//!
//! A snapshot may be encrypted: then what is kept, and what digests are of, is ciphertext, so that only taking and
//! restoring need the key.
//!
//! - `cipher`: how blocks are encrypted.
//! - `manifest`: what a snapshot consists of, and how that is written.
//! - `source`: the disks that snapshots are taken of and restored to; `raw`: those that are files; `nbd`: those that a
//!   server has.
//! - `progress`: how far the taking of one has come.
//! - `making`, `content`: a snapshot that is taken, and one that is read.
//! - `store`: taking and restoring.
//! - `backing`: who has the files; `directory`: a directory.
//! - `uploads`: what comes into a directory from hosts that do not have it; `growing`: the file of such an upload.
//! - `sweep`: the room of what nobody wants any more comes back.

mod backing;
mod cipher;
mod content;
mod directory;
mod files;
mod growing;
mod making;
mod manifest;
mod nbd;
mod progress;
mod raw;
mod source;
mod store;
mod sweep;
mod uploads;

#[cfg(test)]
mod tests;

pub use backing::{Backing, NewSegment, Segments};
pub use cipher::BlockKey;
pub use directory::Directory;
pub use growing::Part;
pub use making::Taken;
pub use manifest::{BLOCK, Digest};
pub use nbd::NbdDisk;
pub use progress::Progress;
pub use raw::RawDisk;
pub use source::{Source, Target};
pub use store::SnapshotStore;
pub use sweep::{Swept, Wanted};
pub use uploads::{Most, Put, UploadName, Uploads};
