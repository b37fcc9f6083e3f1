//! The one wrapper of `qemu-img`. Formats are always told, nothing is probed, and a disk that is there is told as a whole
//! (`document.rs`), so that no file's header is gone by.

use std::{ffi::OsString, io, path::Path, time::Duration};

use cumulet_hypervisor::RbdImage;

use crate::{
    disks::DiskFile,
    document::{Document, look_below},
    pool::Pool,
    program::{self, DEADLINE, Run},
    rbd::Trouble,
};

/// What opens an encrypted disk: its passphrase, which is read, since arguments are for everybody to see.
pub(crate) const KEY: &str = "secret,id=key,file=/dev/stdin";

/// How long the copy of a whole disk may take.
const COPY_DEADLINE: Duration = Duration::from_secs(6 * 3600);

/// What QEMU says where it can't tell how long it takes to hash a passphrase: by chance, on a machine whose clock of a
/// thread's time is coarse.
const UNMEASURED: &str = "Unable to get accurate CPU usage";

/// The arguments that make a disk, over another file or empty, in a file or in the pool.
fn create_arguments(disk: &DiskFile<'_>, pool: Option<&Pool>) -> Vec<OsString> {
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
    let image = RbdImage::of(disk.path).zip(pool);
    arguments.push(image.map_or_else(|| disk.path.into(), |(image, pool)| pool.argument(&image)));
    arguments.push(disk.bytes.to_string().into());
    arguments
}

/// What a command begins with that opens a disk, which is named by its document alone.
fn opening(command: &str, disk: &DiskFile<'_>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = [command, "-q"].map(OsString::from).into();
    if disk.lock.is_some() {
        arguments.extend(["--object", KEY].map(OsString::from));
    }
    arguments
}

/// The arguments that make a disk larger.
fn resize_arguments(disk: &DiskFile<'_>, document: &Document) -> Vec<OsString> {
    let mut arguments = opening("resize", disk);
    arguments.extend([document.argument(), disk.bytes.to_string().into()]);
    arguments
}

/// The arguments that have a disk lie over nothing: what it takes from below is written into it first, and its header
/// changed last.
fn flatten_arguments(disk: &DiskFile<'_>, document: &Document) -> Vec<OsString> {
    let mut arguments = opening("rebase", disk);
    arguments.extend(["-b", ""].map(OsString::from));
    arguments.push(document.argument());
    arguments
}

/// The arguments that make a raw copy of a disk. Stretches of zeros are left out from 64 KiB on.
fn copy_arguments(disk: &DiskFile<'_>, document: &Document, copy: &Path) -> Vec<OsString> {
    let mut arguments = opening("convert", disk);
    arguments.extend(["-O", "raw", "-S", "65536"].map(OsString::from));
    arguments.push(document.argument());
    arguments.push(copy.into());
    arguments
}

/// Makes a raw copy of a disk that no guest has.
pub(crate) async fn copy(
    program: &Path,
    disk: &DiskFile<'_>,
    pool: Option<&Pool>,
    copy: &Path,
) -> io::Result<()> {
    let arguments = copy_arguments(disk, &Document::of(disk, pool).await?, copy);
    let done = run_for(program, disk, arguments, COPY_DEADLINE).await;
    done.map_err(|error| match error.kind() {
        // The copy is a file.
        io::ErrorKind::StorageFull => error,
        _ => of_pool(is_image(disk), error),
    })
}

/// Has a disk that no guest has lie over nothing: a file, since no image lies over anything.
pub(crate) async fn flatten(program: &Path, disk: &DiskFile<'_>) -> io::Result<()> {
    let arguments = flatten_arguments(disk, &Document::of(disk, None).await?);
    run(program, disk, arguments, COPY_DEADLINE).await
}

/// Makes a disk. Both paths are absolute: `qemu-img` takes a path with a colon for a protocol. What it is to lie over is a
/// file that no guest's process can write.
pub(crate) async fn create(program: &Path, disk: &DiskFile<'_>, pool: Option<&Pool>) -> io::Result<()> {
    look_below(disk).await?;
    let mut again = 10;
    loop {
        match run(program, disk, create_arguments(disk, pool), DEADLINE).await {
            Err(error) if again > 0 && error.to_string().contains(UNMEASURED) => again -= 1,
            done => return done,
        }
    }
}

/// Makes a disk larger that no guest has.
pub(crate) async fn resize(program: &Path, disk: &DiskFile<'_>, pool: Option<&Pool>) -> io::Result<()> {
    let arguments = resize_arguments(disk, &Document::of(disk, pool).await?);
    run(program, disk, arguments, DEADLINE).await
}

fn is_image(disk: &DiskFile<'_>) -> bool {
    RbdImage::of(disk.path).is_some()
}

/// Runs what changes a disk.
async fn run(
    program: &Path,
    disk: &DiskFile<'_>,
    arguments: Vec<OsString>,
    deadline: Duration,
) -> io::Result<()> {
    let done = run_for(program, disk, arguments, deadline).await;
    done.map_err(|error| of_pool(is_image(disk), error))
}

async fn run_for(
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

/// What a program of QEMU's has not done, which is the pool's trouble where its disk is an image. Its exit status says
/// nothing of why: unless there is no room, the pool is likely not to be reached, and it is tried again.
pub(crate) fn of_pool(is_image: bool, error: io::Error) -> io::Error {
    if !is_image {
        return error;
    }
    let kind = match error.kind() {
        // Of the program itself: it is not installed.
        io::ErrorKind::NotFound => io::ErrorKind::Unsupported,
        io::ErrorKind::Other => io::ErrorKind::HostUnreachable,
        kind => kind,
    };
    Trouble::error(kind, error.to_string())
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
        let arguments = create_arguments(&disk, None);
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
        assert_eq!(
            create_arguments(&empty, None),
            ["create", "-q", "-f", "raw", "/d", "1"]
        );
    }

    /// A path by itself would have QEMU go by the file's header.
    #[test]
    fn a_disk_that_is_there_is_never_told_by_its_path() {
        let path = Path::new("/i/disk.qcow2");
        let disk = DiskFile {
            path,
            format: DiskFormat::Qcow2,
            bytes: 8 << 30,
            image: Some((Path::new("/c/ab"), DiskFormat::Raw)),
            lock: None,
        };
        let document = Document::unseen(&disk);
        let whole = document.argument();
        let copied = copy_arguments(&disk, &document, Path::new("/c"));
        let told = ["convert", "-q", "-O", "raw", "-S", "65536"].map(OsString::from);
        assert_eq!(copied[..6], told);
        assert_eq!(copied[6..], [whole.clone(), "/c".into()]);
        let flattened = flatten_arguments(&disk, &document);
        assert_eq!(flattened[..4], ["rebase", "-q", "-b", ""].map(OsString::from));
        assert_eq!(flattened[4..], *std::slice::from_ref(&whole));
        let resized = resize_arguments(&disk, &document);
        assert_eq!(resized[..2], ["resize", "-q"].map(OsString::from));
        assert_eq!(resized[2..], [whole, "8589934592".into()]);
        for arguments in [copied, flattened, resized] {
            assert!(!arguments.iter().any(|argument| argument.as_os_str() == path));
            assert!(!arguments.contains(&OsString::from("-f")), "the document has it");
        }
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
        let create = create_arguments(&disk, None);
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
        let document = Document::unseen(&disk);
        let whole = document.argument();
        let resized = resize_arguments(&disk, &document);
        assert_eq!(
            resized[..4],
            ["resize", "-q", "--object", KEY].map(OsString::from)
        );
        assert_eq!(resized[4..], [whole.clone(), "1".into()]);
        let flattened = flatten_arguments(&disk, &document);
        let told = ["rebase", "-q", "--object", KEY, "-b", ""].map(OsString::from);
        assert_eq!(flattened[..6], told);
        assert_eq!(flattened[6..], [whole]);
    }

    /// What a file's disk did not get stays the file's.
    #[test]
    fn what_is_not_done_with_an_image_is_the_pools_trouble() {
        use io::ErrorKind::{HostUnreachable, NotFound, Other, StorageFull, TimedOut, Unsupported};
        for (kind, of_image) in [
            (Other, HostUnreachable),
            (TimedOut, TimedOut),
            (StorageFull, StorageFull),
            (NotFound, Unsupported),
        ] {
            let said = || io::Error::new(kind, "qemu-img: exit status: 1: error connecting");
            let troubled = of_pool(true, said());
            assert!(Trouble::is(&troubled), "{kind}");
            assert_eq!(troubled.kind(), of_image);
            assert_eq!(troubled.to_string(), said().to_string());
            let plain = of_pool(false, said());
            assert_eq!((plain.kind(), Trouble::is(&plain)), (kind, false));
        }
    }
}
