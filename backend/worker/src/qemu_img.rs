//! The one wrapper of `qemu-img`. Formats are always told; nothing is probed.

use std::{ffi::OsString, io, path::Path, process::Stdio, time::Duration};

use tokio::process::Command;

use crate::disks::DiskFile;

/// How long one run may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// How long the copy of a whole disk may take.
const COPY_DEADLINE: Duration = Duration::from_secs(6 * 3600);

/// What of the program's complaint is kept.
const COMPLAINT: usize = 500;

/// The arguments that make a disk, over another file or empty.
fn create_arguments(disk: &DiskFile<'_>) -> Vec<OsString> {
    let format = disk.format.name();
    let mut arguments: Vec<OsString> = ["create", "-q", "-f", format].map(OsString::from).into();
    if let Some((path, format)) = disk.image {
        arguments.extend(["-F", format.name(), "-b"].map(OsString::from));
        arguments.push(path.into());
    }
    arguments.push(disk.path.into());
    arguments.push(disk.bytes.to_string().into());
    arguments
}

/// The arguments that make a disk larger.
fn resize_arguments(disk: &DiskFile<'_>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = ["resize", "-q", "-f", disk.format.name()]
        .map(OsString::from)
        .into();
    arguments.push(disk.path.into());
    arguments.push(disk.bytes.to_string().into());
    arguments
}

/// The arguments that make a raw copy of a disk. Stretches of zeros are left out from 64 KiB on.
fn copy_arguments(disk: &DiskFile<'_>, copy: &Path) -> Vec<OsString> {
    let format = disk.format.name();
    let mut arguments: Vec<OsString> = ["convert", "-q", "-f", format, "-O", "raw", "-S", "65536"]
        .map(OsString::from)
        .into();
    arguments.push(disk.path.into());
    arguments.push(copy.into());
    arguments
}

/// Makes a raw copy of a disk that no guest has.
pub(crate) async fn copy(program: &Path, disk: &DiskFile<'_>, copy: &Path) -> io::Result<()> {
    run(program, copy_arguments(disk, copy), COPY_DEADLINE).await
}

/// Makes a disk. Both paths are absolute: `qemu-img` takes a path with a colon for a protocol.
pub(crate) async fn create(program: &Path, disk: &DiskFile<'_>) -> io::Result<()> {
    run(program, create_arguments(disk), DEADLINE).await
}

/// Makes a disk larger that no guest has.
pub(crate) async fn resize(program: &Path, disk: &DiskFile<'_>) -> io::Result<()> {
    run(program, resize_arguments(disk), DEADLINE).await
}

async fn run(program: &Path, arguments: Vec<OsString>, deadline: Duration) -> io::Result<()> {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let output = tokio::time::timeout(deadline, command.output())
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
    use cumulet_domain::image::DiskFormat;

    use super::*;

    #[test]
    fn formats_are_always_told() {
        let disk = DiskFile {
            path: Path::new("/i/disk.qcow2"),
            format: DiskFormat::Qcow2,
            bytes: 8 << 30,
            image: Some((Path::new("/c/ab"), DiskFormat::Raw)),
        };
        let arguments = create_arguments(&disk);
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
        let empty = DiskFile {
            path: Path::new("/d"),
            format: DiskFormat::Raw,
            bytes: 1,
            image: None,
        };
        assert_eq!(create_arguments(&empty), ["create", "-q", "-f", "raw", "/d", "1"]);
        let copied = copy_arguments(&disk, Path::new("/c"));
        let told = [
            "convert",
            "-q",
            "-f",
            "qcow2",
            "-O",
            "raw",
            "-S",
            "65536",
            "/i/disk.qcow2",
            "/c",
        ];
        assert_eq!(copied, told);
        assert_eq!(resize_arguments(&empty), ["resize", "-q", "-f", "raw", "/d", "1"]);
    }
}
