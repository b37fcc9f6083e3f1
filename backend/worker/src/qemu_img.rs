//! The one wrapper of `qemu-img`. Formats are always told; nothing is probed.

use std::{ffi::OsString, io, path::Path, time::Duration};

use serde_json::{Value, json};

use crate::{
    disks::DiskFile,
    program::{self, DEADLINE, Run},
};

/// What opens an encrypted disk: its passphrase, which is read, since arguments are for everybody to see.
pub(crate) const KEY: &str = "secret,id=key,file=/dev/stdin";

/// How long the copy of a whole disk may take.
const COPY_DEADLINE: Duration = Duration::from_secs(6 * 3600);

/// What QEMU says where it can't tell how long it takes to hash a passphrase: by chance, on a machine whose clock of a
/// thread's time is coarse.
const UNMEASURED: &str = "Unable to get accurate CPU usage";

/// The arguments that make a disk, over another file or empty.
fn create_arguments(disk: &DiskFile<'_>) -> Vec<OsString> {
    let format = disk.format.name();
    let mut arguments: Vec<OsString> = ["create", "-q", "-f", format].map(OsString::from).into();
    if disk.lock.is_some() {
        // The passphrase is 256 random bits: hashing it often makes nothing safer, and each opening slower. What lies
        // below is not opened, which would need its key named, too.
        let options = "encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10";
        arguments.extend(["-u", "--object", KEY, "-o", options].map(OsString::from));
    }
    if let Some((path, format)) = disk.image {
        arguments.extend(["-F", format.name(), "-b"].map(OsString::from));
        arguments.push(path.into());
    }
    arguments.push(disk.path.into());
    arguments.push(disk.bytes.to_string().into());
    arguments
}

/// An encrypted disk with all that lies below it, as QEMU's programs take it: nothing of it is looked up in the file.
pub(crate) fn document(disk: &DiskFile<'_>) -> String {
    let node = |path: &Path, format: &str, is_locked: bool, backing: Value| {
        let mut node = json!({
            "driver": format,
            "file": {"driver": "file", "filename": path.to_string_lossy()},
        });
        if is_locked {
            node["encrypt"] = json!({"format": "luks", "key-secret": "key"});
        }
        if format == "qcow2" {
            node["backing"] = backing;
        }
        node
    };
    let below = disk.lock.as_ref().is_some_and(|lock| lock.below);
    let backing = disk.image.map_or(Value::Null, |(path, format)| {
        node(path, format.name(), below, Value::Null)
    });
    let all = node(disk.path, disk.format.name(), disk.lock.is_some(), backing);
    format!("json:{all}")
}

/// The arguments that make a disk larger.
fn resize_arguments(disk: &DiskFile<'_>) -> Vec<OsString> {
    if disk.lock.is_some() {
        let mut arguments: Vec<OsString> = ["resize", "-q", "--object", KEY].map(OsString::from).into();
        arguments.extend([document(disk).into(), disk.bytes.to_string().into()]);
        return arguments;
    }
    let mut arguments: Vec<OsString> = ["resize", "-q", "-f", disk.format.name()]
        .map(OsString::from)
        .into();
    arguments.push(disk.path.into());
    arguments.push(disk.bytes.to_string().into());
    arguments
}

/// The arguments that have a disk lie over nothing: what it takes from below is written into it first, and its header
/// changed last.
fn flatten_arguments(disk: &DiskFile<'_>) -> Vec<OsString> {
    let (mut arguments, which): (Vec<OsString>, _) = match &disk.lock {
        Some(_) => (
            ["rebase", "-q", "--object", KEY].map(OsString::from).into(),
            document(disk).into(),
        ),
        None => (
            ["rebase", "-q", "-f", disk.format.name()]
                .map(OsString::from)
                .into(),
            disk.path.into(),
        ),
    };
    arguments.extend(["-b", ""].map(OsString::from));
    arguments.push(which);
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
    run(program, disk, copy_arguments(disk, copy), COPY_DEADLINE).await
}

/// Has a disk that no guest has lie over nothing.
pub(crate) async fn flatten(program: &Path, disk: &DiskFile<'_>) -> io::Result<()> {
    run(program, disk, flatten_arguments(disk), COPY_DEADLINE).await
}

/// Makes a disk. Both paths are absolute: `qemu-img` takes a path with a colon for a protocol.
pub(crate) async fn create(program: &Path, disk: &DiskFile<'_>) -> io::Result<()> {
    let mut again = 10;
    loop {
        match run(program, disk, create_arguments(disk), DEADLINE).await {
            Err(error) if again > 0 && error.to_string().contains(UNMEASURED) => again -= 1,
            done => return done,
        }
    }
}

/// Makes a disk larger that no guest has.
pub(crate) async fn resize(program: &Path, disk: &DiskFile<'_>) -> io::Result<()> {
    run(program, disk, resize_arguments(disk), DEADLINE).await
}

async fn run(
    program: &Path,
    disk: &DiskFile<'_>,
    arguments: Vec<OsString>,
    deadline: Duration,
) -> io::Result<()> {
    let run = Run {
        arguments,
        stdin: disk.passphrase(),
        dir: None,
    };
    program::run(program, run, deadline).await
}

#[cfg(test)]
mod tests {
    use cumulet_certs::DiskKey;
    use cumulet_domain::image::DiskFormat;
    use rand::SeedableRng as _;

    use super::*;
    use crate::disks::Lock;

    #[test]
    fn formats_are_always_told() {
        let disk = DiskFile {
            path: Path::new("/i/disk.qcow2"),
            format: DiskFormat::Qcow2,
            bytes: 8 << 30,
            image: Some((Path::new("/c/ab"), DiskFormat::Raw)),
            lock: None,
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
            lock: None,
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
        let flattened = ["rebase", "-q", "-f", "qcow2", "-b", "", "/i/disk.qcow2"];
        assert_eq!(flatten_arguments(&disk), flattened);
        assert_eq!(resize_arguments(&empty), ["resize", "-q", "-f", "raw", "/d", "1"]);
    }

    #[test]
    fn the_key_of_an_encrypted_disk_is_no_argument() {
        let key = DiskKey::generate(&mut rand::rngs::StdRng::seed_from_u64(1));
        let disk = DiskFile {
            path: Path::new("/v/a,b.qcow2"),
            format: DiskFormat::Qcow2,
            bytes: 1,
            image: Some((Path::new("/c/ab"), DiskFormat::Raw)),
            lock: Some(Lock {
                key: &key,
                below: false,
            }),
        };
        let options = "encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10";
        let create = create_arguments(&disk);
        let told = [
            "create",
            "-q",
            "-f",
            "qcow2",
            "-u",
            "--object",
            KEY,
            "-o",
            options,
            "-F",
            "raw",
            "-b",
            "/c/ab",
            "/v/a,b.qcow2",
            "1",
        ];
        assert_eq!(create, told);
        let whole = document(&disk);
        let read: Value = serde_json::from_str(whole.strip_prefix("json:").unwrap()).unwrap();
        let locked = json!({"format": "luks", "key-secret": "key"});
        assert_eq!(
            (&read["encrypt"], &read["backing"]["encrypt"]),
            (&locked, &Value::Null)
        );
        assert_eq!(read["file"]["filename"], "/v/a,b.qcow2");
        assert_eq!(
            resize_arguments(&disk),
            ["resize", "-q", "--object", KEY, &whole, "1"].map(OsString::from)
        );
        assert_eq!(
            flatten_arguments(&disk),
            ["rebase", "-q", "--object", KEY, "-b", "", &whole].map(OsString::from)
        );
        // A plain file below is not asked what lies below it.
        let below = DiskFile {
            image: Some((Path::new("/c/ab"), DiskFormat::Qcow2)),
            lock: disk.lock.map(|lock| Lock { below: true, ..lock }),
            ..disk
        };
        let read: Value = serde_json::from_str(document(&below).strip_prefix("json:").unwrap()).unwrap();
        assert_eq!(
            (&read["backing"]["encrypt"], &read["backing"]["backing"]),
            (&locked, &Value::Null)
        );
        assert!(read["backing"].as_object().unwrap().contains_key("backing"));
    }
}
