//! Volumes in the pool that hosts share: told of in heartbeats, in guests' hands by their places, deleted there, and never
//! by a host that has no pool.

use std::{collections::BTreeSet, io, path::Path};

use async_trait::async_trait;
use cumulet_domain::{
    id::{SnapshotId, VolumeId},
    message::{SnapshotSource, VolumeOutcome},
    spec::{DiskSource, DiskSpec, Throttle},
    volume::VolumeStore,
};
use cumulet_hypervisor::{PluggedDisk, RbdImage};

use super::*;
use crate::{
    disks::{DiskFile, Disks, May},
    rbd::Trouble,
    testing::data,
};

/// A pool in which there are these images, the first of which is open for as many removals as that. It does not answer as
/// many questions.
#[derive(Default)]
struct Images {
    names: Mutex<BTreeSet<String>>,
    open: Mutex<u32>,
    /// An image that another host renames when it is to be removed, and how: then there is none of the name.
    renamed: Mutex<Option<(String, String)>>,
    /// What stays, though its removal has said that it is done.
    stays: Option<String>,
    /// How long a removal takes.
    takes: Duration,
    /// How often it was asked whether it is there.
    asked: Mutex<u32>,
    /// How often the pool does not answer yet.
    silent: Mutex<u32>,
}

#[async_trait]
impl Disks for Images {
    fn uses_images(&self) -> bool {
        false
    }

    async fn ensure(&self, _: &DiskFile<'_>, _: May) -> io::Result<bool> {
        Ok(true)
    }

    async fn make(&self, _: &DiskFile<'_>) -> io::Result<()> {
        Ok(())
    }

    async fn copy(&self, _: &DiskFile<'_>, _: &Path) -> io::Result<()> {
        Ok(())
    }

    async fn capacity_gib(&self, _: &[std::path::PathBuf]) -> io::Result<u64> {
        Ok(77)
    }

    fn pool(&self) -> Option<&str> {
        Some("pool")
    }

    async fn reached(&self) -> Option<String> {
        *self.asked.lock().unwrap() += 1;
        let mut silent = self.silent.lock().unwrap();
        let is_there = *silent == 0;
        *silent = silent.saturating_sub(1);
        is_there.then(|| "id/pool".into())
    }

    async fn image_bytes(&self, place: &Path) -> io::Result<Option<u64>> {
        let names = self.names.lock().unwrap();
        let name = place.strip_prefix("rbd:pool").unwrap();
        Ok(names.contains(name.to_str().unwrap()).then_some(7))
    }

    async fn images(&self) -> io::Result<Vec<String>> {
        Ok(self.names.lock().unwrap().iter().cloned().collect())
    }

    async fn remove_image(&self, place: &Path) -> io::Result<()> {
        if !self.takes.is_zero() {
            tokio::time::sleep(self.takes).await;
        }
        let mut open = self.open.lock().unwrap();
        if *open > 0 {
            *open -= 1;
            return Err(Trouble::error(io::ErrorKind::ResourceBusy, "it has watchers"));
        }
        let name = place.strip_prefix("rbd:pool").unwrap().to_str().unwrap();
        let mut names = self.names.lock().unwrap();
        if self.stays.as_deref() != Some(name) {
            names.remove(name);
        }
        let mut renamed = self.renamed.lock().unwrap();
        if let Some((_, to)) = renamed.take_if(|(from, _)| from == name) {
            names.insert(to);
        }
        Ok(())
    }
}

impl Images {
    fn of(names: &[String]) -> Arc<Images> {
        Arc::new(Images {
            names: Mutex::new(names.iter().cloned().collect()),
            ..Images::default()
        })
    }

    fn left(&self) -> Vec<String> {
        self.names.lock().unwrap().iter().cloned().collect()
    }
}

fn volume() -> VolumeId {
    data(1, 1).volume
}

/// Instance 1 with the volume, at a generation of both.
fn with(generation: u64) -> Action {
    let mut spec = spec(1, generation);
    let mut disk: DiskSpec = data(1, 3);
    if let DiskSource::Volume {
        store,
        generation: of,
        ..
    } = &mut disk.source
    {
        (*store, *of) = (VolumeStore::Rbd, generation);
    }
    spec.disks.push(disk);
    Action::Run {
        spec: Box::new(spec),
        policy: Arc::new(policy(generation, &[1])),
    }
}

impl Host {
    async fn delete_image(&mut self, generation: u64) -> VolumeOutcome {
        let delete = Action::DeleteVolume {
            volume: volume(),
            generation,
            store: VolumeStore::Rbd,
        };
        let operation = self.send(delete).await;
        self.until(|content| match content {
            ReportContent::VolumeDone(done) if done.operation == operation => Some(done),
            _ => None,
        })
        .await
    }
}

#[tokio::test(start_paused = true)]
async fn heartbeats_tell_the_pool_that_is_reached() {
    let pools = [None, Some("pool")];
    for pool in pools {
        let disks = FakeDisks {
            pool,
            ..FakeDisks::default()
        };
        let mut host = Host::with(|deps| deps.disks = Arc::new(disks)).await;
        let told = host
            .until(|content| match content {
                // The first may be older than the first answer.
                ReportContent::Heartbeat(told) if told.rbd.is_some() == pool.is_some() => Some(told.rbd),
                _ => None,
            })
            .await;
        let expected = pool.map(|pool| format!("00000000-0000-4000-8000-000000000000/{pool}"));
        assert_eq!(told, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_guest_has_an_image_in_hands_until_it_is_let_go_of() {
    let image = format!("{}.qcow2", volume());
    let images = Images::of(std::slice::from_ref(&image));
    let disks = images.clone();
    let mut host = Host::with(|deps| deps.disks = disks).await;
    assert_eq!(host.order(with(1)).await.failure, None);
    let has = host.hypervisor.devices(instance(1)).await.unwrap();
    let place = format!("rbd:pool/{image}");
    assert!(
        has.disks.iter().any(|disk| disk.path == Path::new(&place)),
        "{has:?}"
    );
    let plugged = host.worker.inventory().await.unwrap();
    let plugged = plugged.iter().find(|object| object.kind == ObjectKind::Plugged);
    assert_eq!(plugged.and_then(|object| object.volume), Some(volume()));
    let done = host.delete_image(2).await;
    let failure = format!("{} has {} in use", instance(1), volume());
    assert_eq!((done.failure, done.permanent), (Some(failure), false));
    assert_eq!(images.left(), [image]);
    // Without it.
    assert_eq!(host.order(run(1, 2, &[1])).await.failure, None);
    assert_eq!(host.delete_image(3).await.failure, None);
    assert!(images.left().is_empty());
}

/// Its process would stand still for as long as the pool does not answer.
#[tokio::test(start_paused = true)]
async fn a_guest_with_an_image_is_asked_for_nothing_until_the_pool_answers() {
    let images = Images::of(&[format!("{}.qcow2", volume())]);
    let disks = images.clone();
    let mut host = Host::with(|deps| deps.disks = disks).await;
    let is_left = async |host: &Host| {
        let has = host.hypervisor.devices(instance(1)).await.unwrap();
        has.disks.iter().all(|disk| RbdImage::of(&disk.path).is_none())
    };
    // It is to let go of its image.
    assert_eq!(host.order(with(1)).await.failure, None);
    assert!(!is_left(&host).await);
    *images.silent.lock().unwrap() = 5;
    assert_eq!(host.order(run(1, 2, &[1])).await.failure, None);
    assert_eq!((is_left(&host).await, *images.silent.lock().unwrap()), (true, 0));
    // One that has none waits for nothing, until it is to get one.
    *images.silent.lock().unwrap() = 1_000_000;
    assert_eq!(host.order(run(1, 3, &[1])).await.failure, None);
    assert!(*images.silent.lock().unwrap() > 0);
    *images.silent.lock().unwrap() = 5;
    assert_eq!(host.order(with(4)).await.failure, None);
    assert_eq!((is_left(&host).await, *images.silent.lock().unwrap()), (false, 0));
}

#[tokio::test(start_paused = true)]
async fn a_launch_with_an_image_is_begun_again_until_a_lost_pool_is_back() {
    let images = Images::of(&[format!("{}.qcow2", volume())]);
    *images.silent.lock().unwrap() = 1;
    let disks = images.clone();
    let mut host = Host::with(|deps| deps.disks = disks).await;
    let began = tokio::time::Instant::now();
    while host.worker.reaching.problem(Some("pool")).is_none() {
        tokio::task::yield_now().await;
    }
    assert_eq!(host.order(with(1)).await.failure, None);
    let waited = began.elapsed();
    assert!(waited >= Duration::from_secs(10), "{waited:?}");
}

/// A size that is not known is never taken for one that is large enough.
#[tokio::test]
async fn the_size_of_an_image_is_its_pools_to_tell() {
    let image = format!("{}.qcow2", volume());
    let disks = Images::of(std::slice::from_ref(&image));
    let host = Host::with(|deps| deps.disks = disks).await;
    let other = data(2, 1).volume;
    let lost = format!("{other} is not in the pool of volumes");
    for (place, bytes, expected) in [
        ("/volumes/vol-0.raw".to_owned(), Some(3), Ok(Some(3))),
        ("/volumes/vol-0.raw".to_owned(), None, Ok(None)),
        (format!("rbd:pool/{image}"), Some(3), Ok(Some(3))),
        (format!("rbd:pool/{image}"), None, Ok(Some(7))),
        (format!("rbd:pool/{other}.raw"), None, Err(lost)),
    ] {
        let disk = PluggedDisk {
            path: place.into(),
            target: "vdb".into(),
            bytes,
            throttle: Throttle::default(),
        };
        let size = host.worker.size_of(&disk).await;
        assert_eq!(size.map_err(|failure| failure.reason), expected, "{disk:?}");
    }
}

/// A guest's process that was killed has it open for half a minute more. What another host has begun to make of it goes,
/// too, and nothing of other volumes.
#[tokio::test(start_paused = true)]
async fn an_image_that_is_open_is_deleted_when_it_is_open_no_more() {
    let other = data(2, 1).volume;
    let kept = format!("{other}.raw");
    let images = Images::of(&[
        format!("{}.raw", volume()),
        format!("{}.two.new", volume()),
        kept.clone(),
    ]);
    *images.open.lock().unwrap() = 5;
    let disks = images.clone();
    let mut host = Host::with(|deps| deps.disks = disks).await;
    assert_eq!(host.delete_image(1).await.failure, None);
    assert_eq!((images.left(), *images.open.lock().unwrap()), (vec![kept], 0));
}

/// It is removed by the name that it was seen by, and that is fine though there was none.
#[tokio::test(start_paused = true)]
async fn an_image_that_gets_its_name_while_it_is_deleted_is_deleted() {
    let (partial, whole) = (format!("{}.two.new", volume()), format!("{}.raw", volume()));
    let images = Images::of(std::slice::from_ref(&partial));
    let disks = images.clone();
    let mut host = Host::with(|deps| deps.disks = disks).await;
    *images.renamed.lock().unwrap() = Some((partial, whole));
    assert_eq!(host.delete_image(1).await.failure, None);
    assert!(images.left().is_empty() && images.renamed.lock().unwrap().is_none());
}

/// Nobody is told that it is gone, and nobody asks for ever.
#[tokio::test(start_paused = true)]
async fn an_image_that_stays_is_not_told_as_deleted() {
    let name = format!("{}.raw", volume());
    let disks = Arc::new(Images {
        names: Mutex::new([name.clone()].into()),
        stays: Some(name),
        ..Images::default()
    });
    let mut host = Host::with(|deps| deps.disks = disks).await;
    let done = host.delete_image(1).await;
    let sentence = format!("{} is still in the pool of volumes", volume());
    assert_eq!((done.failure, done.permanent), (Some(sentence), false));
}

/// What was being made when the last worker of this host ended. Other hosts' may be under way.
#[tokio::test(start_paused = true)]
async fn a_worker_that_comes_back_removes_what_its_own_host_has_left() {
    let kept = [
        format!("{}.raw", data(3, 1).volume),
        format!("{}.two.new", data(2, 1).volume),
        "backup.one.new".into(),
    ];
    let mut all = kept.to_vec();
    all.push(format!("{}.one.new", volume()));
    let images = Images::of(&all);
    let disks = images.clone();
    let _host = Host::with(|deps| deps.disks = disks).await;
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    let kept: BTreeSet<String> = kept.into();
    assert_eq!(*images.names.lock().unwrap(), kept);
}

/// One that was killed a moment ago has its image open for half a minute more.
#[tokio::test(start_paused = true)]
async fn what_is_left_is_tried_again_while_it_is_open() {
    let images = Images::of(&[format!("{}.one.new", volume())]);
    *images.open.lock().unwrap() = 3;
    let disks = images.clone();
    let _host = Host::with(|deps| deps.disks = disks).await;
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert!(images.left().is_empty());
}

/// The removal of what is left may take an hour.
#[tokio::test(start_paused = true)]
async fn the_pool_is_asked_while_what_is_left_there_is_removed() {
    let disks = Arc::new(Images {
        names: Mutex::new([format!("{}.one.new", volume())].into()),
        takes: Duration::from_secs(600),
        ..Images::default()
    });
    let images = disks.clone();
    let _host = Host::with(|deps| deps.disks = disks).await;
    tokio::time::sleep(Duration::from_secs(300)).await;
    let asked = *images.asked.lock().unwrap();
    assert!(asked > 10 && images.left().len() == 1, "{asked}");
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(images.left().is_empty());
}

/// It would find nothing there, and say that all is done.
#[tokio::test]
async fn a_host_without_a_pool_does_nothing_with_an_image_and_says_so() {
    let mut host = Host::start().await;
    let sentence = format!(
        "{} is in a pool of volumes, and this host is told of none",
        volume()
    );
    let done = host.order(with(1)).await;
    assert_eq!((done.failure, done.permanent), (Some(sentence.clone()), true));
    let done = host.delete_image(1).await;
    assert_eq!((done.failure, done.permanent), (Some(sentence.clone()), true));
    let source = SnapshotSource {
        snapshot: SnapshotId::new(1 << 40),
        volume: volume(),
        root_of: None,
        store: VolumeStore::Rbd,
        base: None,
        encrypted: false,
        of: None,
    };
    let operation = host.send(Action::TakeSnapshots(vec![source])).await;
    let done = host.snapshots_done(operation).await;
    assert_eq!((done.failure, done.permanent), (Some(sentence), true));
}
