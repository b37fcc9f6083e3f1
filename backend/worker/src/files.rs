//! The worker's files: what they are kept in, the machine's disks or, in the simulator, memory. Where each is, the
//! layout says (`layout.rs`).

mod disk;
mod host_files;
mod memory;
#[cfg(test)]
mod tests;

pub use disk::DiskFiles;
pub(crate) use disk::{disk_size, only_owners};
pub use host_files::{HostFiles, Log};
pub use memory::{MemoryDisks, MemoryFiles};
