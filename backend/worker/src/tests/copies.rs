//! Copies of whole disks: images that are fetched, and volumes that are made of snapshots. What copies nothing does not wait
//! for them, and no account for all that another has copied.

use std::{collections::BTreeSet, io};

use async_trait::async_trait;
use cumulet_certs::DiskKey;
use cumulet_domain::{
    account::AccountId,
    id::SnapshotId,
    image::DiskFormat,
    message::Change,
    snapshot::SnapshotRef,
    spec::{DiskSource, DiskSpec, InstanceSpec},
    volume::VolumeStore,
};
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

use super::{snapshots::Given, *};
use crate::{
    snapshots::{Content, SnapshotData, Stored, Taking},
    testing::{data, metadata},
};

const ONE: AccountId = AccountId(111_111_111_111);
const OTHER: AccountId = AccountId(222_222_222_222);

/// A store out of which disks come as slowly as they are let.
struct Slow {
    /// How many more may come to their end.
    let_go: Semaphore,
    begun: Mutex<Vec<u64>>,
}

#[async_trait]
impl SnapshotData for Slow {
    async fn take(&self, _: &Taking, _: Content<'_>, _: Option<&str>) -> io::Result<Stored> {
        Err(io::ErrorKind::Unsupported.into())
    }

    async fn encrypt(&self, _: &Taking, _: &str, _: &DiskKey) -> io::Result<Stored> {
        Err(io::ErrorKind::Unsupported.into())
    }

    async fn restore(&self, _: &str, disk: Content<'_>, bytes: u64) -> io::Result<()> {
        self.begun.lock().unwrap().push(bytes >> 30);
        self.let_go.acquire().await.unwrap().forget();
        match disk {
            Content::Plain(path) => std::fs::write(path, "restored"),
            Content::Encrypted(..) | Content::Served(_) => Ok(()),
        }
    }
}

impl Slow {
    /// Waits until so many copies have begun.
    async fn until_begun(&self, count: usize) {
        while self.begun.lock().unwrap().len() < count {
            tokio::task::yield_now().await;
        }
    }
}

impl Host {
    /// A host with files, such a store, and the image of all instances in its cache.
    async fn with_slow_store() -> (Host, Arc<Slow>) {
        let store = Arc::new(Slow {
            let_go: Semaphore::new(0),
            begun: Mutex::default(),
        });
        let kept = store.clone();
        let host = Host::with(|deps| {
            deps.snapshots = kept;
            deps.disks = Arc::new(Given);
        });
        let host = host.await;
        let image = host.worker.cache.path(spec(1, 1).disks[0].image().unwrap());
        std::fs::write(image, "image").unwrap();
        (host, store)
    }

    /// Waits until all of these have been carried out.
    async fn all_done(&mut self, operations: impl IntoIterator<Item = OperationId>) {
        let mut left: BTreeSet<OperationId> = operations.into_iter().collect();
        self.until(|content| {
            if let ReportContent::Done(done) = content
                && left.remove(&done.operation)
            {
                assert_eq!(done.failure, None);
            }
            left.is_empty().then_some(())
        })
        .await;
    }

    /// Waits until so many wait for places.
    async fn until_waiting(&self, count: usize) {
        while self.worker.copies.waiting() < count {
            tokio::task::yield_now().await;
        }
    }
}

/// An instance of an account.
fn of(n: u8, account: AccountId) -> InstanceSpec {
    InstanceSpec {
        metadata: Arc::new(InstanceMetadata {
            account,
            ..metadata(n, 1)
        }),
        ..spec(n, 1)
    }
}

/// The same with a volume of so many GiB that is to be made of a snapshot.
fn copying(n: u8, account: AccountId, gib: u64) -> InstanceSpec {
    let mut spec = of(n, account);
    spec.disks.push(DiskSpec {
        source: DiskSource::Volume {
            store: VolumeStore::Local,
            format: DiskFormat::Raw,
            create: true,
            generation: 1,
            from: Some(SnapshotRef {
                id: SnapshotId::new(1 << 40),
                manifest: "a".repeat(64),
            }),
        },
        ..data(n, gib)
    });
    spec
}

fn running(spec: InstanceSpec) -> Action {
    let all: Vec<u8> = (1..40).collect();
    Action::Run {
        spec: Box::new(spec),
        policy: Arc::new(policy(1, &all)),
    }
}

fn attaching(n: u8, account: AccountId) -> Action {
    let Action::Run { spec, policy } = running(InstanceSpec {
        generation: 2,
        ..copying(n, account, 1)
    }) else {
        unreachable!()
    };
    Action::Change {
        spec,
        policy,
        what: Change::AttachVolume,
    }
}

/// Once eight launches with volumes of snapshots were all that a host launched, until the volumes were made.
#[tokio::test]
async fn launches_that_copy_nothing_go_on_while_others_copy() {
    let (mut host, store) = Host::with_slow_store().await;
    let mut operations = Vec::new();
    for n in 1..=12 {
        operations.push(host.send(running(copying(n, ONE, 1))).await);
    }
    host.until_waiting(11).await;
    store.until_begun(1).await;
    assert_eq!(host.order(running(of(20, ONE))).await.failure, None);
    assert_eq!(host.order(running(of(21, OTHER))).await.failure, None);
    // One account has half of the places, and another's copy begins at once. (The last one is for images.)
    assert_eq!(*store.begun.lock().unwrap(), [1]);
    operations.push(host.send(running(copying(30, OTHER, 2))).await);
    store.until_begun(2).await;
    assert_eq!(*store.begun.lock().unwrap(), [1, 2]);
    store.let_go.add_permits(100);
    host.all_done(operations).await;
    assert_eq!(store.begun.lock().unwrap().len(), 13, "each once");
}

/// Attachments were in no place at all: each was a copy of its own, however many there were.
#[tokio::test]
async fn attachments_copy_a_few_at_a_time() {
    let (mut host, store) = Host::with_slow_store().await;
    for n in 1..=6 {
        let account = if n == 6 { OTHER } else { ONE };
        assert_eq!(host.order(running(of(n, account))).await.failure, None);
    }
    let mut operations = Vec::new();
    for n in 1..=6 {
        let account = if n == 6 { OTHER } else { ONE };
        operations.push(host.send(attaching(n, account)).await);
    }
    host.until_waiting(4).await;
    store.until_begun(2).await;
    assert_eq!(store.begun.lock().unwrap().len(), 2);
    store.let_go.add_permits(100);
    host.all_done(operations).await;
    let open = host.hypervisor.open_disks().await.unwrap();
    assert_eq!(open.len(), 12, "a root and a volume each");
}

#[tokio::test]
async fn an_instance_that_waits_for_a_copy_is_ended_at_once() {
    let (mut host, store) = Host::with_slow_store().await;
    let first = host.send(running(copying(1, ONE, 1))).await;
    store.until_begun(1).await;
    let waits = host.send(running(copying(2, ONE, 1))).await;
    host.until_waiting(1).await;
    let end = host.send(destroy(2, 2)).await;
    let failure = host.outcome(waits).await.failure;
    assert_eq!(failure.as_deref(), Some("something newer is to be done"));
    assert_eq!(host.outcome(end).await.failure, None);
    assert_eq!(store.begun.lock().unwrap().len(), 1);
    store.let_go.add_permits(1);
    assert_eq!(host.outcome(first).await.failure, None);
}

/// Whoever gets a place first brings an image, and all others who wait for it go on.
#[tokio::test]
async fn an_image_is_not_waited_for_in_the_turn_of_an_account_that_copies_for_hours() {
    let (mut host, store) = Host::with_slow_store().await;
    let content = b"of two accounts";
    let sha256 = hex::encode(Sha256::digest(content));
    std::fs::write(host.dir.path().join(&sha256), content).unwrap();
    let wanting = |n, account| {
        let mut spec = of(n, account);
        if let DiskSource::Image(image) = &mut spec.disks[0].source {
            image.sha256.clone_from(&sha256);
            image.size_bytes = content.len() as u64;
        }
        running(spec)
    };
    host.send(running(copying(1, ONE, 1))).await;
    store.until_begun(1).await;
    let waits = host.send(wanting(2, ONE)).await;
    host.until_waiting(1).await;
    let brings = host.send(wanting(3, OTHER)).await;
    host.all_done([waits, brings]).await;
    assert_eq!(host.worker.copies.waiting(), 0);
    assert_eq!(store.begun.lock().unwrap().len(), 1, "the first is still at it");
}

/// Volumes of others are made of snapshots, for hours: a launch of somebody else gets its image all the same.
#[tokio::test]
async fn the_last_place_is_for_images() {
    let (mut host, store) = Host::with_slow_store().await;
    let content = b"of another account";
    let sha256 = hex::encode(Sha256::digest(content));
    std::fs::write(host.dir.path().join(&sha256), content).unwrap();
    let third = AccountId(333_333_333_333);
    for (n, account) in [(1, ONE), (2, OTHER), (3, third)] {
        host.send(running(copying(n, account, 1))).await;
    }
    store.until_begun(2).await;
    host.until_waiting(1).await;
    let mut spec = of(4, AccountId(444_444_444_444));
    if let DiskSource::Image(image) = &mut spec.disks[0].source {
        image.sha256.clone_from(&sha256);
        image.size_bytes = content.len() as u64;
    }
    assert_eq!(host.order(running(spec)).await.failure, None);
    assert_eq!(store.begun.lock().unwrap().len(), 2);
}

/// A volume is read for hours, as a snapshot of one that no guest has: who waits for it keeps no launch's place, and ends.
#[tokio::test]
async fn whoever_waits_for_a_volume_that_is_read_has_no_place_and_is_ended_at_once() {
    let (mut host, _) = Host::with_slow_store().await;
    let read = (1..=12).map(|n| spec(n, 1).disks[0].volume);
    let read = host.worker.volumes.turns(read).await;
    let mut waiting = Vec::new();
    for n in 1..=12 {
        waiting.push(host.send(running(of(n, ONE))).await);
    }
    assert_eq!(host.order(running(of(20, ONE))).await.failure, None);
    let end = host.send(destroy(1, 2)).await;
    let failure = host.outcome(waiting.remove(0)).await.failure;
    assert_eq!(failure.as_deref(), Some("something newer is to be done"));
    drop(read);
    host.all_done(waiting.into_iter().chain([end])).await;
}
