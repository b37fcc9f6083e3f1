//! Writers of a file: whether somebody else has it open to write, by whatever descriptor or mapping, which the kernel tells
//! to whoever asks for a read lease on it. What a guest's process has written is read by QEMU's programs after this says
//! that it is nobody's but ours. Nothing has a safe form of leases.
#![allow(unsafe_code)]

use std::{
    ffi::c_int,
    fs::{File, Permissions},
    io,
    os::{
        fd::AsRawFd as _,
        unix::fs::{PermissionsExt as _, fchown},
    },
    path::Path,
};

use nix::{
    libc,
    unistd::{getegid, geteuid},
};

/// Which signal tells of a lease that ends; the C library's headers have it under a feature that its bindings lack.
const F_SETSIG: c_int = 10;

/// Takes a file, so that nobody but this process's user opens it to write from now on; whether nobody has it open so.
///
/// # Errors
/// Those of the system, which has leases on its own file systems alone.
pub(crate) fn take(path: &Path) -> io::Result<bool> {
    let file = File::open(path)?;
    fchown(&file, Some(geteuid().as_raw()), Some(getegid().as_raw()))?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(!is_written(&file)?)
}

/// Whether a file, which is open to be read, is open to be written somewhere.
fn is_written(file: &File) -> io::Result<bool> {
    // Whoever opens it while the lease lasts makes the kernel send a signal: this one nobody minds. The usual one would end
    // the process.
    set(file, F_SETSIG, libc::SIGURG)?;
    match set(file, libc::F_SETLEASE, libc::F_RDLCK) {
        Ok(()) => set(file, libc::F_SETLEASE, libc::F_UNLCK).map(|()| false),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
        Err(error) => Err(error),
    }
}

fn set(file: &File, command: c_int, value: c_int) -> io::Result<()> {
    // SAFETY: the descriptor is borrowed for the call, and these commands take a number and no memory.
    match unsafe { libc::fcntl(file.as_raw_fd(), command, value) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::MetadataExt as _};

    use super::*;

    #[test]
    fn a_file_is_ours_when_nobody_else_has_it_open_to_write() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("copy");
        fs::write(&path, "what a guest's process has written").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
        let reader = File::open(&path).unwrap();
        let writer = fs::OpenOptions::new().write(true).open(&path).unwrap();
        let another = writer.try_clone().unwrap();
        for writer in [writer, another] {
            assert!(!take(&path).unwrap());
            drop(writer);
        }
        assert!(take(&path).unwrap());
        drop(reader);
        // Its owner can write it.
        let found = fs::metadata(&path).unwrap();
        assert_eq!((found.mode() & 0o777, found.uid()), (0o600, geteuid().as_raw()));
        drop(fs::OpenOptions::new().append(true).open(&path).unwrap());
        assert!(take(&path).unwrap());
    }
}
