//! The one wrapper of `qemu-nbd`: a disk's content in the clear for this process, through a socket that nobody else may
//! connect to. The server takes one client and ends with it. What is served is encrypted, or an image in the pool.

use std::{
    ffi::OsString,
    fs, io,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::net::UnixStream,
    },
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use cumulet_hypervisor::RbdImage;
use cumulet_snapshots::NbdDisk;
use tokio::{process::Child, time::Instant};

use crate::{
    blocking::blocking,
    disks::DiskFile,
    document::Document,
    pool::{Pool, no_pool},
    program::{DEADLINE, Run, complaint, start},
    qemu_img::{KEY, of_pool},
};

/// A server's socket is called so, until its client has come.
const SOCKET: &str = "nbd";

/// How long a server that was left has to answer.
const LEFT: Duration = Duration::from_secs(5);

/// How long a server that is about to end has for it; one that is not is ended.
const SOON: Duration = Duration::from_millis(500);

/// How long one has that has written an image: it lets go of that first. For a killed one the cluster does half a minute
/// later, and nobody could write the image, or remove it, until then.
const LETS_GO: Duration = Duration::from_secs(10);

/// How often it is looked whether a server is there: nothing tells.
const LOOK: Duration = Duration::from_millis(10);

/// A disk that is served, and the connection to its server.
#[derive(Debug)]
pub struct Served {
    stream: Option<UnixStream>,
    server: Option<Child>,
    is_image: bool,
    /// It was served to be written.
    is_written: bool,
}

impl Served {
    /// Nothing, by nobody.
    ///
    /// # Errors
    /// Where the system has no more descriptors.
    pub fn nothing() -> io::Result<Served> {
        let (stream, _) = UnixStream::pair()?;
        Ok(Served {
            stream: Some(stream),
            server: None,
            is_image: false,
            is_written: false,
        })
    }

    /// The connection, once. Whoever has it lets go of it before [`Served::end`].
    ///
    /// # Errors
    /// `NotConnected` the second time.
    pub fn connection(&mut self) -> io::Result<UnixStream> {
        self.stream
            .take()
            .ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Ends the server, so that nobody has the disk: others may open it from then on. What was flushed stays. What came
    /// of the disk is handed through; where that is an error and the server has one, too, the server's says why.
    ///
    /// # Errors
    /// That, or when the server can't be ended.
    pub async fn end<T>(mut self, done: io::Result<T>) -> io::Result<T> {
        drop(self.stream.take());
        let Some(mut server) = self.server.take() else {
            return done;
        };
        let lets_go = self.is_image && self.is_written;
        if done.is_ok() {
            // Its only client has gone.
            let has_ended = lets_go && tokio::time::timeout(LETS_GO, server.wait()).await.is_ok();
            if !has_ended {
                server.kill().await?;
            }
            return done;
        }
        // It may be about to end by itself.
        let patience = if lets_go { LETS_GO } else { SOON };
        let ended = tokio::time::timeout(patience, server.wait_with_output()).await;
        match ended {
            Ok(output) => complaint("qemu-nbd", &output?)
                .map_err(|error| of_pool(self.is_image, error))
                .and(done),
            Err(_) => done,
        }
    }
}

/// The arguments that serve a disk; the socket's path is of the server's own directory.
fn arguments(disk: &DiskFile<'_>, document: &Document, write: bool, name: &str) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = ["--cache=writeback", "--discard=unmap"]
        .map(OsString::from)
        .into();
    if disk.lock.is_some() {
        arguments.extend(["--object", KEY].map(OsString::from));
    }
    if !write {
        arguments.push("--read-only".into());
    }
    let socket = format!("/proc/self/cwd/{name}");
    arguments.extend([OsString::from("-k"), socket.into(), document.argument()]);
    arguments
}

/// Where the socket of a disk's server is: beside its file, or where the host has those of images.
fn place(disk: &DiskFile<'_>, pool: Option<&Pool>) -> io::Result<PathBuf> {
    let dir = match RbdImage::of(disk.path) {
        Some(_) => pool.ok_or_else(no_pool)?.sockets(),
        None => disk.path.parent().unwrap_or(Path::new("/")),
    };
    Ok(dir.to_owned())
}

/// Starts a server, whose socket is of this name.
async fn launch(
    program: &Path,
    disk: &DiskFile<'_>,
    pool: Option<&Pool>,
    write: bool,
    name: &str,
) -> io::Result<Child> {
    let document = Document::of(disk, pool).await?;
    let run = Run {
        arguments: arguments(disk, &document, write, name),
        stdin: disk.passphrase(),
        dir: Some(place(disk, pool)?),
    };
    let started = start(program, run).await;
    started.map_err(|error| of_pool(RbdImage::of(disk.path).is_some(), error))
}

/// Serves a disk that no guest has: `write`, to be written.
pub(crate) async fn serve(
    program: &Path,
    disk: &DiskFile<'_>,
    pool: Option<&Pool>,
    write: bool,
) -> io::Result<Served> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("{}-{number}.{SOCKET}", std::process::id());
    let dir = place(disk, pool)?;
    let is_image = RbdImage::of(disk.path).is_some();
    let mut server = launch(program, disk, pool, write, &name).await?;
    let until = Instant::now() + DEADLINE;
    loop {
        let (dir, name) = (dir.clone(), name.clone());
        if let Some(stream) = blocking(move || connect(&dir, &name)).await? {
            return Ok(Served {
                stream: Some(stream),
                server: Some(server),
                is_image,
                is_written: write,
            });
        }
        if Instant::now() > until {
            server.start_kill()?;
        }
        if server.try_wait()?.is_some() {
            let ended = || io::Error::other("qemu-nbd has ended before its client came");
            let said = complaint("qemu-nbd", &server.wait_with_output().await?);
            let why = said.err().unwrap_or_else(ended);
            return Err(of_pool(is_image, why));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Connects to a server, whose socket is of no use to anybody else from then on; `None` where there is none yet.
fn connect(dir: &Path, name: &str) -> io::Result<Option<UnixStream>> {
    // Paths of sockets may not be long.
    let dir = OwnedFd::from(fs::File::open(dir)?);
    let socket = PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd())).join(name);
    match UnixStream::connect(&socket) {
        Ok(stream) => {
            fs::remove_file(&socket)?;
            Ok(Some(stream))
        }
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Whether a file is the socket of a server, whose client never came.
pub(crate) fn is_socket(path: &Path) -> bool {
    path.extension().is_some_and(|kind| kind == SOCKET)
}

/// Ends a server that a worker of before has left: it ends with a client that says so.
pub(crate) fn end_left(path: &Path) -> io::Result<()> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(());
    };
    match connect(dir, &name.to_string_lossy())? {
        Some(stream) => NbdDisk::from_stream(stream, LEFT).map(drop).or(Ok(())),
        None => fs::remove_file(path),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use cumulet_certs::DiskKey;
    use cumulet_domain::{image::DiskFormat, rng::SharedRng};
    use cumulet_snapshots::{Source as _, Target as _};

    use super::*;
    use crate::{
        disks::{Disks as _, Lock, May, QemuDisks},
        files::disk_size,
    };

    const QEMU_IMG: &str = "/usr/bin/qemu-img";
    const MIB: u64 = 1 << 20;

    fn contains(path: &Path, text: &[u8]) -> bool {
        let bytes = fs::read(path).unwrap();
        bytes.windows(text.len()).any(|window| window == text)
    }

    /// What is written in the clear is nowhere in the file, and comes back with the key alone; so does what lies below.
    #[tokio::test(flavor = "multi_thread")]
    async fn an_encrypted_disk_is_read_and_written_in_the_clear_with_its_key_alone() {
        if !Path::new(QEMU_IMG).exists() {
            return println!("not run: {QEMU_IMG} is not there");
        }
        let dir = tempfile::tempdir().unwrap();
        let (below, over) = (
            dir.path().join("below, of it.qcow2"),
            dir.path().join("over.qcow2"),
        );
        let rng = SharedRng::seeded(1);
        let [key, other] = [(); 2].map(|()| rng.with(DiskKey::generate));
        let disks = QemuDisks::new(QEMU_IMG);
        let lock = |key| Some(Lock { key, below: true });
        let base = DiskFile {
            path: &below,
            format: DiskFormat::Qcow2,
            bytes: MIB,
            image: None,
            lock: lock(&key),
        };
        let disk = DiskFile {
            path: &over,
            bytes: 2 * MIB,
            image: Some((&below, DiskFormat::Qcow2)),
            ..base
        };
        let may = May {
            make: true,
            grow: true,
        };
        let text = b"what nobody else may read";
        assert!(disks.ensure(&base, may).await.unwrap());
        for (file, offset) in [(&base, 0), (&disk, 512 << 10)] {
            assert!(disks.ensure(file, may).await.unwrap());
            let mut served = disks.serve(file, true).await.unwrap();
            let stream = served.connection().unwrap();
            blocking(move || {
                let disk = NbdDisk::from_stream(stream, NbdDisk::TIMEOUT)?;
                disk.write_at(offset, text)?;
                disk.flush()
            })
            .await
            .unwrap();
            served.end(Ok(())).await.unwrap();
        }
        assert!(!contains(&below, text) && !contains(&over, text));
        let larger = DiskFile {
            bytes: 3 * MIB,
            ..disk
        };
        assert!(disks.ensure(&larger, may).await.unwrap());
        assert_eq!(disk_size(&over, DiskFormat::Qcow2).unwrap(), Some(3 * MIB));
        let mut served = disks.serve(&larger, false).await.unwrap();
        let stream = served.connection().unwrap();
        let found = blocking(move || {
            let disk = NbdDisk::from_stream(stream, NbdDisk::TIMEOUT)?;
            let mut block = vec![0; 512 << 10];
            let mut found = Vec::new();
            for offset in [0, 512 << 10] {
                disk.read_block(offset, &mut block)?;
                found.push(block.starts_with(text));
            }
            Ok((found, disk.size()?))
        });
        assert_eq!(found.await.unwrap(), (vec![true, true], 3 * MIB));
        served.end(Ok(())).await.unwrap();
        // One that nobody asks anything ends, too, and others have the disk then.
        for _ in 0..2 {
            disks
                .serve(&larger, true)
                .await
                .unwrap()
                .end(Ok(()))
                .await
                .unwrap();
        }
        let wrong = DiskFile {
            lock: lock(&other),
            ..disk
        };
        let refused = async {
            let mut served = disks.serve(&wrong, false).await?;
            let stream = served.connection()?;
            let disk = blocking(move || NbdDisk::from_stream(stream, NbdDisk::TIMEOUT).map(drop));
            let disk = disk.await;
            served.end(disk).await
        };
        let why = refused.await.unwrap_err().to_string();
        assert!(why.contains("Invalid password"), "{why}");
        let left: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|file| file.unwrap().path())
            .collect();
        assert_eq!(left.iter().filter(|path| is_socket(path)).count(), 0, "{left:?}");
    }

    /// A worker that dies before its server's client comes leaves both that and its socket.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_server_that_was_left_ends_and_so_does_a_socket_of_nobody() {
        if !Path::new(QEMU_IMG).exists() {
            return println!("not run: {QEMU_IMG} is not there");
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk.qcow2");
        let key = SharedRng::seeded(2).with(DiskKey::generate);
        let lock = Lock {
            key: &key,
            below: false,
        };
        let disk = DiskFile {
            path: &path,
            format: DiskFormat::Qcow2,
            bytes: MIB,
            image: None,
            lock: Some(lock),
        };
        let disks = QemuDisks::new(QEMU_IMG);
        disks.make(&disk).await.unwrap();
        let socket = dir.path().join("1-2.nbd");
        assert!(is_socket(&socket) && !is_socket(&path));
        let program = Path::new(QEMU_IMG).with_file_name("qemu-nbd");
        let mut left = launch(&program, &disk, None, true, "1-2.nbd").await.unwrap();
        // Whoever says nothing does not end it.
        while UnixStream::connect(&socket).is_err() {
            tokio::time::sleep(LOOK).await;
        }
        let path = socket.clone();
        blocking(move || end_left(&path)).await.unwrap();
        let ended = tokio::time::timeout(DEADLINE, left.wait()).await;
        assert!(ended.unwrap().unwrap().success());
        assert!(!socket.exists());
        drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
        end_left(&socket).unwrap();
        assert!(!socket.exists());
    }

    /// One that is killed has not let go of it.
    #[tokio::test]
    async fn who_has_written_an_image_ends_by_itself() {
        for (is_image, is_written, ends) in [(true, true, true), (true, false, false), (false, true, false)] {
            let dir = tempfile::tempdir().unwrap();
            let end = dir.path().join("end");
            let script = format!("sleep 0.3; : >{}", end.display());
            let run = Run {
                arguments: ["-c", script.as_str()].map(OsString::from).into(),
                stdin: None,
                dir: None,
            };
            let served = Served {
                server: Some(start(Path::new("/bin/sh"), run).await.unwrap()),
                is_image,
                is_written,
                ..Served::nothing().unwrap()
            };
            served.end(Ok(())).await.unwrap();
            assert_eq!(end.exists(), ends, "{is_image} {is_written}");
        }
    }
}
