//! The one wrapper of `qemu-nbd`: a disk's content in the clear for this process, through a socket that nobody else may
//! connect to. The server takes one client and ends with it.

use std::{
    fs, io,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::net::UnixStream,
    },
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use crate::{
    blocking::blocking,
    disks::DiskFile,
    program::{self, Run},
    qemu_img::{KEY, document},
};

/// A server's socket is called so.
const SOCKET: &str = "nbd";

/// A disk that is served, for one client.
#[derive(Debug, Default)]
pub struct Served {
    /// Its directory, open: paths of sockets may not be long.
    dir: Option<OwnedFd>,
    name: String,
}

impl Served {
    /// The socket.
    pub fn socket(&self) -> PathBuf {
        let dir = self.dir.as_ref().map_or(-1, |dir| dir.as_raw_fd());
        PathBuf::from(format!("/proc/self/fd/{dir}")).join(&self.name)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if self.dir.is_some() {
            end(&self.socket());
        }
    }
}

/// Ends a server that has had no client, and removes its socket.
fn end(socket: &Path) {
    drop(UnixStream::connect(socket));
    if let Err(error) = fs::remove_file(socket)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%error, "the socket of a disk that was served stays");
    }
}

/// The arguments that serve a disk; the socket's path is of the server's own directory.
fn arguments(disk: &DiskFile<'_>, write: bool, name: &str) -> Vec<String> {
    let mut arguments: Vec<String> = ["--fork", "--object", KEY, "--cache=writeback", "--discard=unmap"]
        .map(str::to_owned)
        .into();
    if !write {
        arguments.push("--read-only".to_owned());
    }
    arguments.extend(["-k".to_owned(), format!("/proc/self/cwd/{name}"), document(disk)]);
    arguments
}

/// Serves an encrypted disk that no guest has: `write`, to be written.
pub(crate) async fn serve(program: &Path, disk: &DiskFile<'_>, write: bool) -> io::Result<Served> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("{}-{number}.{SOCKET}", std::process::id());
    let dir = disk.path.parent().unwrap_or(Path::new("/")).to_owned();
    let open = dir.clone();
    let served = Served {
        dir: Some(blocking(move || Ok(OwnedFd::from(fs::File::open(open)?))).await?),
        name,
    };
    let run = Run {
        arguments: arguments(disk, write, &served.name)
            .into_iter()
            .map(Into::into)
            .collect(),
        stdin: disk.passphrase(),
        dir: Some(dir),
        deadline: program::DEADLINE,
    };
    // It ends when its child is there to be connected to.
    program::run(program, run).await?;
    Ok(served)
}

/// Whether a file is the socket of a server, which a worker of before has left.
pub(crate) fn is_socket(path: &Path) -> bool {
    path.extension().is_some_and(|kind| kind == SOCKET)
}

/// Ends what a worker of before has left.
pub(crate) fn end_left(path: &Path) -> io::Result<()> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(());
    };
    drop(Served {
        dir: Some(OwnedFd::from(fs::File::open(dir)?)),
        name: name.to_string_lossy().into_owned(),
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use cumulet_certs::DiskKey;
    use cumulet_domain::{image::DiskFormat, rng::SharedRng};
    use cumulet_snapshots::{NbdDisk, Source as _, Target as _};

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
        let [key, other] = [(); 2].map(|()| rng.with(|rng| DiskKey::generate(rng)));
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
            let served = disks.serve(file, true).await.unwrap();
            let socket = served.socket();
            blocking(move || {
                let served = NbdDisk::connect(&socket, NbdDisk::TIMEOUT)?;
                served.write_at(offset, text)?;
                served.flush()
            })
            .await
            .unwrap();
        }
        assert!(!contains(&below, text) && !contains(&over, text));
        let larger = DiskFile {
            bytes: 3 * MIB,
            ..disk
        };
        assert!(disks.ensure(&larger, may).await.unwrap());
        assert_eq!(disk_size(&over, DiskFormat::Qcow2).unwrap(), Some(3 * MIB));
        let served = disks.serve(&larger, false).await.unwrap();
        let socket = served.socket();
        let found = blocking(move || {
            let served = NbdDisk::connect(&socket, NbdDisk::TIMEOUT)?;
            let mut block = vec![0; 512 << 10];
            let mut found = Vec::new();
            for offset in [0, 512 << 10] {
                served.read_block(offset, &mut block)?;
                found.push(block.starts_with(text));
            }
            Ok((found, served.size()?))
        });
        assert_eq!(found.await.unwrap(), (vec![true, true], 3 * MIB));
        drop(served);
        // One that nobody comes to ends, too.
        drop(disks.serve(&larger, true).await.unwrap());
        drop(disks.serve(&larger, true).await.unwrap());
        let wrong = DiskFile {
            lock: lock(&other),
            ..disk
        };
        assert!(disks.serve(&wrong, false).await.is_err());
        let left: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|file| file.unwrap().path())
            .collect();
        assert_eq!(left.iter().filter(|path| is_socket(path)).count(), 0, "{left:?}");
    }
}
