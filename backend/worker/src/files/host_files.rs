//! The host's files as the worker uses them: one trait, on disks and in memory. What is written is there as a whole or
//! not at all, whenever the process ends. The worker, its image cache and its network's policies go by it.

use std::{fmt, io, path::Path};

/// The files of one host. Nothing is synced: what a power failure takes is told again by the control plane.
pub trait HostFiles: fmt::Debug + Send + Sync + 'static {
    /// Whether calls may take a while, and belong on a thread that may block.
    fn may_block(&self) -> bool;

    /// Puts right what everybody on the host needs and an earlier version has spoiled.
    fn mend(&self);

    /// The path of a directory that is there, whole and without links.
    ///
    /// # Errors
    /// When it is not there.
    fn canonical(&self, dir: &Path) -> io::Result<std::path::PathBuf>;

    /// Makes a directory that guests' processes, who are in `group`, may pass through and none but root read; without
    /// a group it is nobody else's. One that is there becomes so.
    ///
    /// # Errors
    /// Those of the system.
    fn make_dir(&self, path: &Path, group: Option<u32>) -> io::Result<()>;

    /// Lets guests' processes, who are in `group`, read a file that nobody writes.
    ///
    /// # Errors
    /// Those of the system.
    fn lend(&self, path: &Path, group: Option<u32>) -> io::Result<()>;

    /// Takes a file back from the guest that had it: it is root's alone. Without a group guests' processes have no users
    /// of their own, and their files are whoever's the hypervisor makes them. One that is not there is fine.
    ///
    /// # Errors
    /// Those of the system.
    fn take_back(&self, path: &Path, group: Option<u32>) -> io::Result<()>;

    /// Closes a file to all but its owner; one that is not there is fine.
    ///
    /// # Errors
    /// Those of the system.
    fn close(&self, path: &Path) -> io::Result<()>;

    /// What is in a file.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`], and those of the system.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// Replaces a file as a whole. Only the worker reads it.
    ///
    /// # Errors
    /// Those of the system, as of all that writes.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;

    /// Writes a file that nobody takes for whole before something else is there.
    ///
    /// # Errors
    /// As [`HostFiles::write`].
    fn write_fresh(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;

    /// Replaces a small file that is replaced often. Spaces may follow the content.
    ///
    /// # Errors
    /// As [`HostFiles::write`].
    fn write_small(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;

    /// Replaces a large file that is replaced often; [`HostFiles::remove_both`] removes it.
    ///
    /// # Errors
    /// As [`HostFiles::write`].
    fn write_large(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;

    /// Adds to the end of a file that is there.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`], and as [`HostFiles::write`]. A part may be written then.
    fn append(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;

    /// A file to add to, made if it is not there. Who adds to it goes on with the same one where it is renamed.
    ///
    /// # Errors
    /// As [`HostFiles::write`].
    fn open_log(&self, path: &Path) -> io::Result<Box<dyn Log>>;

    /// Gives a file another's name, in whose place it is then.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`], and those of the system.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`], and those of the system.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Removes what [`HostFiles::write_large`] made; nothing there is fine.
    ///
    /// # Errors
    /// Those of the system.
    fn remove_both(&self, path: &Path) -> io::Result<()>;

    /// Removes a directory and all in it; one that is not there is fine.
    ///
    /// # Errors
    /// Those of the system.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;

    /// Whether there is such a file.
    ///
    /// # Errors
    /// Those of the system.
    fn exists(&self, path: &Path) -> io::Result<bool>;

    /// The names in a directory; none if it is not there.
    ///
    /// # Errors
    /// Those of the system.
    fn names(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// What the removal of a file gives back: nothing if it has another name elsewhere.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`], and those of the system.
    fn own_bytes(&self, path: &Path) -> io::Result<u64>;

    /// What somebody has written of a file is on the disk; one that is not there is fine.
    ///
    /// # Errors
    /// Those of the system.
    fn sync(&self, path: &Path) -> io::Result<()>;

    /// The size of the disk in a volume's file; `None` if there is no file.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] where it is no disk, and those of the system.
    fn disk_bytes(&self, path: &Path) -> io::Result<Option<u64>>;

    /// The length and the SHA-256 of a file.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`], and those of the system.
    fn digest(&self, path: &Path) -> io::Result<(u64, String)>;

    /// Empties a file that is longer than `limit`; whether it was.
    fn cut(&self, path: &Path, limit: u64) -> bool;
}

/// A file that is only added to.
pub trait Log: fmt::Debug + Send {
    /// Adds to its end.
    ///
    /// # Errors
    /// Those of the system.
    fn add(&mut self, bytes: &[u8]) -> io::Result<()>;
}
