//! Snapshots that a host takes: of what guests have in hands, of what nobody has, and what is left of them.

use std::{io, path::Path};

use async_trait::async_trait;
use cumulet_certs::{DiskKey, HostPublicKey};
use cumulet_domain::{
    id::SnapshotId,
    image::DiskFormat,
    message::{SealedKey, SnapshotOutcome, SnapshotSource},
    rng::SharedRng,
    snapshot::{NO_VOLUME, SnapshotRef},
    spec::{DiskSource, DiskSpec},
    volume::VolumeStore,
};
use cumulet_hypervisor::Copying;

use super::*;
use crate::{
    snapshots::{Content, SnapshotData, Stored, Taking},
    testing::data,
};

/// A store that remembers what it was asked for.
#[derive(Default)]
pub(super) struct Recorder {
    pub(super) takes: Mutex<Vec<(String, Option<String>)>>,
    encrypts: Mutex<Vec<(String, DiskKey)>>,
    restores: Mutex<Vec<(String, u64)>>,
    failures: Mutex<Vec<io::ErrorKind>>,
    /// Holds whoever takes until it is told.
    pub(super) gate: tokio::sync::Mutex<()>,
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

impl Recorder {
    fn fails(&self) -> io::Result<()> {
        match self.failures.lock().unwrap().pop() {
            Some(kind) => Err(kind.into()),
            None => Ok(()),
        }
    }
}

#[async_trait]
impl SnapshotData for Recorder {
    async fn take(&self, snapshot: &Taking, disk: Content<'_>, base: Option<&str>) -> io::Result<Stored> {
        snapshot.progress.done(1, 4, 100);
        let disk = match disk {
            Content::Plain(disk) => disk,
            Content::Encrypted(..) => Path::new("encrypted"),
            Content::Served(_) => Path::new("served"),
        };
        self.takes
            .lock()
            .unwrap()
            .push((file_name(disk), base.map(str::to_owned)));
        drop(self.gate.lock().await);
        self.fails()?;
        Ok(Stored {
            manifest: "a".repeat(64),
            fresh_bytes: 1,
            bytes: 2,
        })
    }

    async fn encrypt(&self, _: &Taking, manifest: &str, key: &DiskKey) -> io::Result<Stored> {
        self.encrypts
            .lock()
            .unwrap()
            .push((manifest.to_owned(), key.clone()));
        self.fails()?;
        Ok(Stored {
            manifest: "e".repeat(64),
            fresh_bytes: 3,
            bytes: 4,
        })
    }

    async fn restore(&self, manifest: &str, disk: Content<'_>, bytes: u64) -> io::Result<()> {
        self.restores.lock().unwrap().push((manifest.to_owned(), bytes));
        if let Content::Plain(path) = disk {
            std::fs::write(path, "restored")?;
        }
        // In the middle of it.
        self.fails()
    }
}

fn source(n: u64, root_of: Option<u8>, base: Option<&str>) -> SnapshotSource {
    SnapshotSource {
        store: VolumeStore::Local,
        snapshot: SnapshotId::new(n << 40),
        volume: match root_of {
            Some(n) => spec(n, 1).disks[0].volume,
            None => data(1, 1).volume,
        },
        root_of: root_of.map(instance),
        base: base.map(str::to_owned),
        encrypted: false,
        of: None,
    }
}

fn run(n: u8, generation: u64, source: Option<DiskSource>) -> Action {
    let mut spec = spec(n, generation);
    spec.disks
        .extend(source.map(|source| DiskSpec { source, ..data(1, 3) }));
    Action::Run {
        spec: Box::new(spec),
        policy: Arc::new(policy(generation, &[1, 2])),
    }
}

impl Host {
    async fn with_snapshots() -> (Host, Arc<Recorder>) {
        let data = Arc::new(Recorder::default());
        let kept = data.clone();
        let host = Host::with(|deps| deps.snapshots = kept).await;
        (host, data)
    }

    /// The same host with other parts.
    pub(super) async fn with(change: impl FnOnce(&mut WorkerDeps)) -> Host {
        let mut host = Host::start().await;
        host.kill().await;
        host.forget_reports().await;
        host.worker = host.another_worker();
        change(&mut Arc::get_mut(&mut host.worker).unwrap().deps);
        host.run().await;
        host
    }

    pub(super) async fn snapshots_done(&mut self, operation: OperationId) -> SnapshotOutcome {
        self.until(|content| match content {
            ReportContent::SnapshotDone(done) if done.operation == operation => Some(done),
            _ => None,
        })
        .await
    }

    async fn take(&mut self, sources: Vec<SnapshotSource>) -> SnapshotOutcome {
        let operation = self.send(Action::TakeSnapshots(sources)).await;
        self.snapshots_done(operation).await
    }

    /// Copies that are left anywhere on the host.
    fn copies(&self) -> usize {
        let dirs = [
            "hosts/one/volumes".to_owned(),
            format!("hosts/one/instances/{}", instance(1)),
        ];
        let files = dirs
            .iter()
            .flat_map(|dir| std::fs::read_dir(self.dir.path().join(dir)).unwrap());
        let names = files.map(|file| file_name(&file.unwrap().path()));
        names.filter(|name| name.ends_with(".copy")).count()
    }
}

#[tokio::test]
async fn a_running_guests_disks_are_copied_and_a_still_ones_are_read() {
    let (mut host, data) = Host::with_snapshots().await;
    host.order(run(1, 1, Some(self::data(1, 3).source))).await;
    let base = "b".repeat(64);
    let sources = vec![source(1, Some(1), None), source(2, None, Some(&base))];
    let done = host.take(sources.clone()).await;
    assert_eq!((done.failure, done.taken.len()), (None, 2));
    assert_eq!((done.taken[1].id, done.taken[1].bytes), (sources[1].snapshot, 2));
    let copy = |n: usize| format!("{}.copy", sources[n].snapshot);
    let expected = [(copy(0), None), (copy(1), Some(base.clone()))];
    assert_eq!(*data.takes.lock().unwrap(), expected);
    assert_eq!(host.hypervisor.copying(instance(1)).await, Ok(Copying::Nothing));

    host.order(stop(1, 2)).await;
    data.takes.lock().unwrap().clear();
    let done = host.take(sources).await;
    assert_eq!((done.failure, done.taken.len()), (None, 2));
    assert_eq!(*data.takes.lock().unwrap(), expected);
    assert_eq!(host.copies(), 0);
}

#[tokio::test]
async fn some_in_a_guests_hands_and_some_not_have_no_moment_in_common() {
    let (mut host, _) = Host::with_snapshots().await;
    host.order(run(1, 1, None)).await;
    let done = host
        .take(vec![source(1, Some(1), None), source(2, None, None)])
        .await;
    let failure = done.failure.unwrap();
    assert!(failure.contains("some are not") && !done.permanent, "{failure}");
}

#[tokio::test]
async fn a_snapshot_is_taken_once_however_often_it_is_asked_for() {
    let (mut host, data) = Host::with_snapshots().await;
    host.order(run(1, 1, None)).await;
    let gate = data.gate.lock().await;
    let operation = OperationId::new(77);
    let command = Command {
        operation: Some(operation),
        deadline: host.clock.now().after(Duration::from_secs(300)),
        action: Action::TakeSnapshots(vec![source(1, Some(1), None)]),
        keys: Vec::new(),
        storage: None,
    };
    let repeated = host.worker.counters().read();
    for _ in 0..3 {
        host.bus.send(&name(), command.clone()).await.unwrap();
    }
    let is_kept = || !data.takes.lock().unwrap().is_empty();
    while host.worker.counters().read() == repeated || !is_kept() {
        tokio::task::yield_now().await;
    }
    host.worker.heartbeat(1).await;
    let told = host.until(|content| match content {
        ReportContent::Heartbeat(told) => told.snapshots.first().copied(),
        _ => None,
    });
    assert_eq!(told.await.percent, 25);
    // The instance is nobody's meanwhile: it can be stopped.
    host.order(stop(1, 2)).await;
    drop(gate);
    assert_eq!(host.snapshots_done(operation).await.failure, None);
    assert_eq!(data.takes.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn what_fails_says_why_and_leaves_nothing() {
    let (mut host, data) = Host::with_snapshots().await;
    host.order(run(1, 1, None)).await;
    for (kind, words) in [
        (io::ErrorKind::StorageFull, "the store of snapshots is full"),
        (io::ErrorKind::InvalidData, "invalid data"),
    ] {
        data.failures.lock().unwrap().push(kind);
        let done = host.take(vec![source(1, Some(1), None)]).await;
        let failure = done.failure.unwrap();
        assert!(failure.contains(words) && done.taken.is_empty(), "{failure}");
        assert_eq!(host.copies(), 0);
    }
}

#[tokio::test]
async fn copies_of_a_worker_that_died_are_removed() {
    let (mut host, _) = Host::with_snapshots().await;
    host.order(run(1, 1, None)).await;
    let snapshot = source(1, None, None).snapshot;
    for dir in [
        "hosts/one/volumes".to_owned(),
        format!("hosts/one/instances/{}", instance(1)),
    ] {
        let dir = host.dir.path().join(dir);
        std::fs::write(dir.join(format!("{snapshot}.copy")), "half").unwrap();
        std::fs::write(dir.join("README.copy"), "ours").unwrap();
    }
    assert_eq!(host.copies(), 4);
    host.die_and_come_back().await;
    assert_eq!(host.copies(), 2, "what nobody here has made stays");
}

/// The command says whose root it was when that was sent.
#[tokio::test]
async fn a_root_that_has_outlived_its_instance_meanwhile_is_taken_as_a_volume() {
    let (mut host, data) = Host::with_files().await;
    let done = host.take(vec![source(1, Some(1), None)]).await;
    assert!(done.failure.unwrap().contains("is not on this host"));
    let volume = spec(1, 1).disks[0].volume;
    let file = host.worker.layout.volume(volume, DiskFormat::Qcow2);
    std::fs::write(file, "root").unwrap();
    let done = host.take(vec![source(1, Some(1), None)]).await;
    assert_eq!((done.failure, done.taken.len()), (None, 1));
    assert_eq!(data.takes.lock().unwrap().len(), 1);
}

/// With files, as on a real host: it is made of the snapshot once, whole, and never again.
#[tokio::test]
async fn a_volume_is_made_of_its_snapshot_once() {
    let (mut host, data) = Host::with_files().await;
    // The image of the root was fetched before.
    let root = spec(1, 1).disks.remove(0);
    let image = host
        .dir
        .path()
        .join("hosts/one/cache")
        .join(&root.image().unwrap().sha256);
    std::fs::write(image, "image").unwrap();
    let made_of = |create: bool| DiskSource::Volume {
        store: VolumeStore::Local,
        format: DiskFormat::Raw,
        create,
        generation: 1,
        from: create.then(|| SnapshotRef {
            id: SnapshotId::new(1 << 40),
            manifest: "a".repeat(64),
        }),
    };
    data.failures.lock().unwrap().push(io::ErrorKind::InvalidData);
    let done = host.order(run(1, 1, Some(made_of(true)))).await;
    let failure = done.failure.unwrap();
    assert!(
        failure.contains("can't be made of snap-") && done.permanent,
        "{failure}"
    );
    let file = host
        .dir
        .path()
        .join("hosts/one/volumes")
        .join(format!("{}.raw", self::data(1, 1).volume));
    // The room is given back: without it, nothing else could be kept on a host that is full.
    let left = std::fs::read_dir(file.parent().unwrap()).unwrap();
    assert_eq!(left.count(), 0);
    assert_eq!(host.order(run(1, 2, Some(made_of(true)))).await.failure, None);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "restored");
    std::fs::write(&file, "changed").unwrap();
    host.order(stop(1, 3)).await;
    assert_eq!(host.order(run(1, 4, Some(made_of(true)))).await.failure, None);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "changed");
    assert_eq!(*data.restores.lock().unwrap(), vec![("a".repeat(64), 3 << 30); 2]);
}

/// What is made of a plain snapshot needs its own key, and no volume; beside it others are taken as ever.
#[tokio::test]
async fn a_plain_snapshots_content_is_encrypted_with_the_key_that_came_along() {
    let (mut host, data) = Host::with_snapshots().await;
    host.order(run(1, 1, None)).await;
    let plain = "b".repeat(64);
    let copy = SnapshotSource {
        store: VolumeStore::Local,
        volume: NO_VOLUME,
        encrypted: true,
        of: Some(plain.clone()),
        ..source(2, None, None)
    };
    let lacking = host.take(vec![copy.clone()]).await;
    let failure = lacking.failure.unwrap();
    assert!(failure.contains("not been given the key of snap-"), "{failure}");
    assert!(!lacking.permanent && data.encrypts.lock().unwrap().is_empty());

    let rng = SharedRng::seeded(3);
    let key = rng.with(DiskKey::generate);
    for (n, fails) in [(900, false), (901, true), (902, false)] {
        let operation = OperationId::new(n);
        let public: HostPublicKey = host.worker.keys.public().parse().unwrap();
        let text = copy.snapshot.to_string();
        let sealed = rng.with(|rng| public.seal(rng, &text, &key)).unwrap();
        let command = Command {
            operation: Some(operation),
            deadline: host.clock.now().after(Duration::from_secs(300)),
            action: Action::TakeSnapshots(vec![source(1, Some(1), None), copy.clone()]),
            keys: vec![SealedKey {
                of: copy.snapshot.into(),
                sealed,
            }],
            storage: None,
        };
        if fails {
            data.failures.lock().unwrap().push(io::ErrorKind::InvalidData);
        }
        host.bus.send(&name(), command).await.unwrap();
        let done = host.snapshots_done(operation).await;
        assert_eq!(done.failure.is_some(), fails, "{:?}", done.failure);
        if !fails {
            let taken: Vec<_> = done.taken.iter().map(|each| (each.id, each.bytes)).collect();
            assert_eq!(taken, [(SnapshotId::new(1 << 40), 2), (copy.snapshot, 4)]);
            assert_eq!(done.taken[1].manifest, "e".repeat(64));
        }
        assert!(host.worker.keys.get(copy.snapshot).is_err(), "it is not kept");
    }
    let encrypts = data.encrypts.lock().unwrap();
    assert!(encrypts.iter().all(|done| *done == (plain.clone(), key.clone())));
    assert!(encrypts.len() >= 2);
}

impl Host {
    /// A host with files, and what snapshots are taken and made of there.
    async fn with_files() -> (Host, Arc<Recorder>) {
        let data = Arc::new(Recorder::default());
        let kept = data.clone();
        let host = Host::with(|deps| {
            deps.snapshots = kept;
            deps.disks = Arc::new(Given);
        });
        (host.await, data)
    }
}

/// Disks that are there, whatever they are.
pub(super) struct Given;

#[async_trait]
impl crate::disks::Disks for Given {
    fn uses_images(&self) -> bool {
        true
    }

    async fn ensure(&self, _: &crate::disks::DiskFile<'_>, _: crate::disks::May) -> io::Result<bool> {
        Ok(true)
    }

    async fn make(&self, _: &crate::disks::DiskFile<'_>) -> io::Result<()> {
        Ok(())
    }

    async fn copy(&self, _: &crate::disks::DiskFile<'_>, _: &Path) -> io::Result<()> {
        Ok(())
    }

    async fn capacity_gib(&self, _: &[std::path::PathBuf]) -> io::Result<u64> {
        Ok(77)
    }
}
