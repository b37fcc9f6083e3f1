//! Copies of the disks of a guest that runs, all of one moment.

use std::path::PathBuf;

use crate::DiskSecret;

/// A disk of which a copy is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskCopy {
    /// The disk's file.
    pub disk: PathBuf,
    /// The file of the copy: holes are where the disk has nothing. It is not there yet, unless one of those that are made
    /// together is encrypted: then all are there, empty and as large as their disks, the encrypted ones in the format
    /// qcow2. (A hypervisor that made those would take seconds to find how often it should hash a passphrase, for which
    /// its guest would stand still.)
    pub copy: PathBuf,
    /// What both are encrypted with; `None`: the copy is raw, and the disk plain.
    pub secret: Option<DiskSecret>,
}

/// How the copies of a guest's disks stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Copying {
    /// None are being made, and none were.
    Nothing,
    /// They are being made: so many bytes of all.
    Running {
        /// Those that are.
        done: u64,
        /// All, as far as is known.
        of: u64,
    },
    /// They are whole. This is told once.
    Done,
    /// They are not whole, and won't be. This is told once.
    Failed(String),
}
