//! QEMU's server, with files of qcow2. Where it is not installed these are skipped.

use std::{
    cell::RefCell,
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    BLOCK, BlockKey, NbdDisk, Source, Target as _,
    tests::{Rig, block, content},
};

/// What the disk has: blocks by their numbers, and holes.
const BLOCKS: [u8; 5] = [0, 1, 0, 0, 2];
const SIZE: u64 = 5 * BLOCK - 512;

fn is_here() -> bool {
    let is_here = ["qemu-img", "qemu-nbd", "timeout"]
        .iter()
        .all(|program| Path::new("/usr/bin").join(program).exists());
    if !is_here {
        println!("skipped: there is no qemu-nbd");
    }
    is_here
}

/// One that encrypts fails by chance, where QEMU can't tell how long it takes to hash a passphrase: then it is run again.
fn qemu_img(arguments: &[&str]) {
    let run = || {
        Command::new("/usr/bin/qemu-img")
            .args(arguments)
            .output()
            .unwrap()
    };
    let unmeasured = |output: &Output| {
        String::from_utf8_lossy(&output.stderr).contains("Unable to get accurate CPU usage")
    };
    let mut output = run();
    for _ in 0..10 {
        if !unmeasured(&output) {
            break;
        }
        output = run();
    }
    assert!(output.status.success(), "{arguments:?}: {output:?}");
}

/// A server of one connection. It is ended with the test, and by itself after a minute where nobody does that.
struct Server {
    child: Child,
    socket: PathBuf,
}

impl Server {
    fn start(rig: &Rig, arguments: &[&str]) -> Self {
        let socket = rig.path("socket");
        drop(fs::remove_file(&socket));
        let mut command = Command::new("/usr/bin/timeout");
        command.args(["60", "/usr/bin/qemu-nbd", "-k"]).arg(&socket);
        command.args(arguments).stdin(Stdio::null());
        let child = command.spawn().unwrap();
        Server { child, socket }
    }

    fn connect(&mut self) -> NbdDisk {
        let (_never, pause) = mpsc::channel::<()>();
        loop {
            match NbdDisk::connect(&self.socket, NbdDisk::TIMEOUT) {
                Ok(disk) => return disk,
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                    ) =>
                {
                    let ended = self.child.try_wait().unwrap();
                    assert!(ended.is_none(), "qemu-nbd has ended: {ended:?}");
                    let _ = pause.recv_timeout(Duration::from_millis(10));
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Ends by itself, since its client has gone.
    fn end(mut self) {
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            // It passes that on to the server.
            let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
            let _ = kill(pid, Signal::SIGTERM);
            drop(self.child.wait());
        }
    }
}

/// A disk, and what was read of it.
struct Counted(NbdDisk, RefCell<Vec<u64>>);

impl Source for Counted {
    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }

    fn data_blocks(&self) -> Box<dyn Iterator<Item = io::Result<u64>> + '_> {
        self.0.data_blocks()
    }

    fn read_block(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.1.borrow_mut().push(offset);
        self.0.read_block(offset, into)
    }
}

#[test]
fn what_is_written_comes_back_and_holes_are_never_read() {
    if !is_here() {
        return;
    }
    let rig = Rig::new();
    let file = rig.path("disk.qcow2");
    let file = file.to_str().unwrap();
    qemu_img(&["create", "-q", "-f", "qcow2", file, &SIZE.to_string()]);

    let mut server = Server::start(&rig, &["-f", "qcow2", file]);
    let disk = server.connect();
    assert_eq!(disk.size().unwrap(), SIZE);
    assert_eq!(disk.data_blocks().count(), 0);
    disk.prepare(SIZE).unwrap();
    disk.write_at(BLOCK, &block(1)).unwrap();
    let last = &block(2)[..block(2).len() - 512];
    disk.write_at(4 * BLOCK, last).unwrap();
    disk.flush().unwrap();
    drop(disk);
    server.end();

    let mut server = Server::start(&rig, &["-r", "-f", "qcow2", file]);
    let disk = Counted(server.connect(), RefCell::default());
    let taken = rig.store.take(&disk, None, None).unwrap();
    assert_eq!(*disk.1.borrow(), [BLOCK, 4 * BLOCK]);
    assert!(rig.content(taken.manifest, None).unwrap() == content(&BLOCKS));
    // As of a raw file with the same content.
    assert_eq!(rig.take(&BLOCKS, None, None).manifest, taken.manifest);
    let error = disk.0.prepare(SIZE).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    let error = disk.0.write_at(0, &[1; 512]).unwrap_err();
    assert!(
        error.to_string().contains("NBD Write at 0: the server says"),
        "{error}"
    );
    drop(disk);
    server.end();

    let mut server = Server::start(&rig, &["-f", "qcow2", file]);
    let disk = server.connect();
    let error = disk.prepare(SIZE).unwrap_err();
    assert!(error.to_string().contains("has content already"), "{error}");
    drop(disk);
    server.end();
}

#[test]
fn an_encrypted_disk_is_made_of_a_snapshot_and_taken_again() {
    if !is_here() {
        return;
    }
    let rig = Rig::new();
    let (file, secret) = (rig.path("disk.qcow2"), rig.path("secret"));
    fs::write(&secret, "correct horse").unwrap();
    let (path, secret) = (file.to_str().unwrap(), secret.to_str().unwrap());
    let object = format!("secret,id=k,file={secret}");
    let options = "encrypt.format=luks,encrypt.key-secret=k,encrypt.iter-time=10";
    let size = SIZE.to_string();
    let create = [
        "create", "-q", "-f", "qcow2", "--object", &object, "-o", options, path, &size,
    ];
    qemu_img(&create);
    let image = format!("driver=qcow2,encrypt.key-secret=k,file.driver=file,file.filename={path}");
    let served = ["--object", &object, "--image-opts", &image];

    let key = BlockKey::new(&[7; 32]);
    let first = rig.take(&BLOCKS, Some(&key), None);
    let mut server = Server::start(&rig, &served);
    let disk = server.connect();
    rig.store
        .restore(first.manifest, Some(&key), &disk, SIZE)
        .unwrap();
    drop(disk);
    server.end();
    let kept = fs::read(&file).unwrap();
    let plain = block(1);
    let runs: HashSet<&[u8]> = plain.chunks_exact(16).collect();
    // Clusters begin where runs do.
    assert!(!kept.chunks_exact(16).any(|run| runs.contains(run)));

    let mut server = Server::start(&rig, &served);
    let disk = Counted(server.connect(), RefCell::default());
    let again = rig.store.take(&disk, Some(&key), Some(first.manifest)).unwrap();
    assert_eq!((again.fresh, again.manifest), (0, first.manifest));
    assert_eq!(*disk.1.borrow(), [BLOCK, 4 * BLOCK]);
    drop(disk);
    server.end();
    assert!(rig.content(again.manifest, Some(&key)).unwrap() == content(&BLOCKS));
}

#[test]
fn a_server_that_dies_is_an_error() {
    if !is_here() {
        return;
    }
    let rig = Rig::new();
    let disk = rig.disk(&BLOCKS);
    let mut server = Server::start(&rig, &["-f", "raw", disk.to_str().unwrap()]);
    let disk = server.connect();
    drop(server);
    let files = rig.files();
    assert!(rig.store.take(&disk, None, None).is_err());
    assert_eq!(rig.files(), files);
}
