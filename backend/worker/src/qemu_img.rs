//! The one wrapper of `qemu-img`. Formats are always told; nothing is probed.

use std::{ffi::OsString, io, path::Path, process::Stdio, time::Duration};

use cumulet_domain::image::DiskFormat;
use tokio::process::Command;

/// How long one run may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// What of the program's complaint is kept.
const COMPLAINT: usize = 500;

/// The arguments that make a qcow2 disk, over another file or empty.
fn create_arguments(disk: &Path, bytes: u64, backing: Option<(&Path, DiskFormat)>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = ["create", "-q", "-f", "qcow2"].map(OsString::from).into();
    if let Some((path, format)) = backing {
        arguments.extend(["-F", format.name(), "-b"].map(OsString::from));
        arguments.push(path.into());
    }
    arguments.push(disk.into());
    arguments.push(bytes.to_string().into());
    arguments
}

/// Makes a qcow2 disk. Both paths are absolute: `qemu-img` takes a path with a colon for a protocol.
pub(crate) async fn create(
    program: &Path,
    disk: &Path,
    bytes: u64,
    backing: Option<(&Path, DiskFormat)>,
) -> io::Result<()> {
    let mut command = Command::new(program);
    command
        .args(create_arguments(disk, bytes, backing))
        .env_clear()
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let output = tokio::time::timeout(DEADLINE, command.output())
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "qemu-img did not end in time"))??;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said: String = said.trim().chars().take(COMPLAINT).collect();
    Err(io::Error::other(format!("qemu-img: {}: {said}", output.status)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_always_told() {
        let arguments = create_arguments(
            Path::new("/i/disk.qcow2"),
            8 << 30,
            Some((Path::new("/c/ab"), DiskFormat::Raw)),
        );
        assert_eq!(
            arguments,
            [
                "create",
                "-q",
                "-f",
                "qcow2",
                "-F",
                "raw",
                "-b",
                "/c/ab",
                "/i/disk.qcow2",
                "8589934592"
            ]
        );
        let arguments = create_arguments(Path::new("/d"), 1, None);
        assert_eq!(arguments, ["create", "-q", "-f", "qcow2", "/d", "1"]);
    }
}
