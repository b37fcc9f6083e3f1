//! Copies of the disks of a guest that runs, all of one moment.

use std::path::PathBuf;

/// A disk of which a copy is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskCopy {
    /// The disk's file.
    pub disk: PathBuf,
    /// The file of the copy, raw, which is not there yet: holes are where the disk has nothing.
    pub copy: PathBuf,
}

/// How the copies of a guest's disks stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Copying {
    /// None are being made, and none were.
    Nothing,
    /// They are being made.
    Running,
    /// They are whole. This is told once.
    Done,
    /// They are not whole, and won't be. This is told once.
    Failed(String),
}
