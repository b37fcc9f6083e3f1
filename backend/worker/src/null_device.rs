//! `/dev/null` of the host, which everybody writes to and which is root's: earlier versions had a DHCP server log to
//! it, which gave it to that server's user. A worker that finds it so gives it back.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, chown},
    path::Path,
};

/// Its path.
const NULL: &str = "/dev/null";

/// Its mode: everybody reads and writes.
const MODE: u32 = 0o666;

/// Gives the device back to root, if it is not root's.
pub(crate) fn give_back() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    match restore(Path::new(NULL)) {
        Ok(None) => {}
        Ok(Some(was)) => tracing::warn!(was, "/dev/null was not root's to keep (0666): it is given back"),
        Err(error) => tracing::error!(%error, "/dev/null is not as it should be and can't be given back"),
    }
}

/// How it was, where that was wrong.
fn restore(path: &Path) -> io::Result<Option<String>> {
    let found = fs::symlink_metadata(path)?;
    let (mode, rdev) = (found.mode() & 0o7777, found.rdev());
    if !found.file_type().is_char_device()
        || (nix::sys::stat::major(rdev), nix::sys::stat::minor(rdev)) != (1, 3)
    {
        return Err(io::Error::other("it is not the null device"));
    }
    if (found.uid(), found.gid(), mode) == (0, 0, MODE) {
        return Ok(None);
    }
    chown(path, Some(0), Some(0))?;
    fs::set_permissions(path, fs::Permissions::from_mode(MODE))?;
    Ok(Some(format!("{}:{} {mode:04o}", found.uid(), found.gid())))
}

#[cfg(test)]
mod tests {
    use nix::sys::stat::{Mode, SFlag, makedev, mknod};

    use super::*;

    #[test]
    fn a_null_device_that_was_given_away_is_given_back_and_nothing_else_is_touched() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("null");
        fs::write(&path, "text").unwrap();
        assert!(restore(&path).is_err(), "a file");
        fs::remove_file(&path).unwrap();
        let mode = Mode::from_bits_truncate(0o600);
        if mknod(&path, SFlag::S_IFCHR, mode, makedev(1, 3)).is_err() {
            return; // not everybody may
        }
        for (uid, gid, mode) in [(65_534, 0, 0o666), (0, 7, 0o666), (0, 0, 0o600)] {
            chown(&path, Some(uid), Some(gid)).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert!(restore(&path).unwrap().is_some());
            let now = fs::symlink_metadata(&path).unwrap();
            assert_eq!((now.uid(), now.gid(), now.mode() & 0o7777), (0, 0, MODE));
            assert_eq!(restore(&path).unwrap(), None);
        }
        fs::remove_file(&path).unwrap();
        mknod(&path, SFlag::S_IFCHR, mode, makedev(1, 5)).unwrap();
        assert!(restore(&path).is_err(), "another device");
    }
}
