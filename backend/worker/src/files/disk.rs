//! The host's files on its disks: modes whatever the process's mask is, and replacement of whole files by a rename, or
//! in their place where the kernel writes all of them at once.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown},
    path::{Path, PathBuf},
};

use cumulet_domain::image::DiskFormat;
use sha2::{Digest as _, Sha256};

use super::{HostFiles, Log};
use crate::qcow2;

/// The files of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiskFiles;

impl HostFiles for DiskFiles {
    fn may_block(&self) -> bool {
        true
    }

    fn mend(&self) {
        crate::null_device::give_back();
    }

    fn canonical(&self, dir: &Path) -> io::Result<PathBuf> {
        fs::canonicalize(dir)
    }

    fn make_dir(&self, path: &Path, group: Option<u32>) -> io::Result<()> {
        let Some(group) = group else {
            return directory(path, 0o700);
        };
        directory(path, 0o710)?;
        chown(path, Some(0), Some(group))
    }

    fn lend(&self, path: &Path, group: Option<u32>) -> io::Result<()> {
        if let Some(group) = group {
            chown(path, Some(0), Some(group))?;
        }
        fs::set_permissions(path, fs::Permissions::from_mode(0o440))
    }

    fn take_back(&self, path: &Path, group: Option<u32>) -> io::Result<()> {
        match group.map_or(Ok(()), |_| chown(path, Some(0), Some(0))) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(()) => only_owners(path, 0o600),
        }
    }

    fn close(&self, path: &Path) -> io::Result<()> {
        only_owners(path, 0o600)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let fresh = path.with_extension("new");
        self.write_fresh(&fresh, bytes)?;
        fs::rename(&fresh, path)
    }

    fn write_fresh(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut options = fs::OpenOptions::new();
        let mut file = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)?;
        file.write_all(bytes)
    }

    /// In its place where that is whole or not at all. (A file that takes another's place costs an inode each time,
    /// and file systems that look for one that is not recently deleted then spend more on that than on all the rest of
    /// a launch.)
    fn write_small(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        use std::os::unix::fs::FileExt as _;

        let file = match fs::OpenOptions::new().write(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return self.write(path, bytes),
            other => other?,
        };
        let long = file.metadata()?.len();
        if long.max(bytes.len() as u64) > PAGE {
            return self.write(path, bytes);
        }
        let mut padded = bytes.to_vec();
        padded.resize(bytes.len().max(usize::try_from(long).unwrap_or(0)), b' ');
        file.write_all_at(&padded, 0)
    }

    /// The file before stays beside it, for the next time.
    fn write_large(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

        if !path.try_exists()? {
            return self.write(path, bytes);
        }
        let fresh = path.with_extension("new");
        self.write_fresh(&fresh, bytes)?;
        match renameat2(AT_FDCWD, &fresh, AT_FDCWD, path, RenameFlags::RENAME_EXCHANGE) {
            Ok(()) => Ok(()),
            // Not every file system can do that.
            Err(_) => fs::rename(&fresh, path),
        }
    }

    fn append(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        fs::OpenOptions::new().append(true).open(path)?.write_all(bytes)
    }

    fn open_log(&self, path: &Path) -> io::Result<Box<dyn Log>> {
        let mut options = fs::OpenOptions::new();
        let file = options.append(true).create(true).mode(0o600).open(path)?;
        Ok(Box::new(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_both(&self, path: &Path) -> io::Result<()> {
        for path in [path, &path.with_extension("new")] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn names(&self, dir: &Path) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let mut names = Vec::new();
        for entry in entries {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn own_bytes(&self, path: &Path) -> io::Result<u64> {
        let found = fs::metadata(path)?;
        Ok(if found.nlink() > 1 {
            0
        } else {
            found.blocks() * 512
        })
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        match fs::File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            opened => opened?.sync_data(),
        }
    }

    fn disk_bytes(&self, path: &Path) -> io::Result<Option<u64>> {
        let is_raw = path
            .extension()
            .is_some_and(|kind| kind == DiskFormat::Raw.name());
        let format = if is_raw {
            DiskFormat::Raw
        } else {
            DiskFormat::Qcow2
        };
        disk_size(path, format)
    }

    fn digest(&self, path: &Path) -> io::Result<(u64, String)> {
        let mut file = fs::File::open(path)?;
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 1 << 20];
        let mut length = 0;
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                return Ok((length, hex::encode(hasher.finalize())));
            }
            hasher.update(&buffer[..read]);
            length += read as u64;
        }
    }

    /// By one call: whoever writes to it goes on at its beginning.
    fn cut(&self, path: &Path, limit: u64) -> bool {
        let long = fs::metadata(path).is_ok_and(|m| m.len() > limit);
        let emptied = || {
            fs::OpenOptions::new()
                .write(true)
                .open(path)
                .and_then(|f| f.set_len(0))
        };
        long && emptied().is_ok()
    }
}

impl Log for fs::File {
    fn add(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }
}

/// A directory of this mode, whatever the process's mask is.
fn directory(path: &Path, mode: u32) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// Sets a file's mode, whoever owns it; one that is not there is fine.
pub(crate) fn only_owners(path: &Path, mode: u32) -> io::Result<()> {
    match fs::set_permissions(path, fs::Permissions::from_mode(mode)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The size of the disk in a file; `None` if there is no file.
pub(crate) fn disk_size(path: &Path, format: DiskFormat) -> io::Result<Option<u64>> {
    let mut file = match fs::File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    if format == DiskFormat::Raw {
        return Ok(Some(file.metadata()?.len()));
    }
    // The header of qcow2: magic, version, the file below, and the size at offset 24.
    let mut header = [0; 32];
    file.read_exact(&mut header)?;
    qcow2::disk_bytes(&header).map(Some)
}

/// What the kernel writes at once: a process that is killed has written all of it or nothing.
const PAGE: u64 = 4096;
