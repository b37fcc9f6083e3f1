//! The volumes of a host: files and images that outlive the instances that they are attached to. One thing at a time
//! is done with a volume, and a generation that is older than what was done last does nothing, so that a command that
//! comes late makes no deleted volume again and deletes none that is used by something newer. The steps of runs and
//! deletions call it.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use cumulet_domain::{
    id::{InstanceId, VolumeId},
    spec::{DiskSource, InstanceSpec},
    time::Timestamp,
};
use cumulet_hypervisor::RbdImage;
use tokio::sync::OwnedMutexGuard;

use crate::{
    WorkerError,
    failure::Failure,
    files::HostFiles,
    layout::{Layout, PARTIAL, failed, volume_of},
    tombstones::{Tombstone, Tombstones},
};

/// Disks that are in the hands of guests' processes.
pub(crate) type Open = [(InstanceId, PathBuf)];

/// A volume's turn: whoever has it is the only one to do something with it.
pub(crate) type Turn = OwnedMutexGuard<()>;

/// See the module.
pub(crate) struct Volumes {
    layout: Layout,
    stones: Mutex<Tombstones<VolumeId>>,
    turns: Mutex<HashMap<VolumeId, Arc<tokio::sync::Mutex<()>>>>,
}

impl Volumes {
    /// Reads what was kept.
    pub(crate) fn open(layout: Layout, now: Timestamp) -> Result<Volumes, WorkerError> {
        let path = layout.volume_tombstones();
        let stones =
            Tombstones::open(layout.files.clone(), &path, now).map_err(|error| failed(&path, error))?;
        Ok(Volumes {
            layout,
            stones: Mutex::new(stones),
            turns: Mutex::default(),
        })
    }

    fn stones(&self) -> MutexGuard<'_, Tombstones<VolumeId>> {
        self.stones.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the turns of volumes, until nobody else does anything with any of them. Everybody takes them in one
    /// order.
    pub(crate) async fn turns(&self, volumes: impl IntoIterator<Item = VolumeId>) -> Vec<Turn> {
        let mut volumes: Vec<VolumeId> = volumes.into_iter().collect();
        volumes.sort_unstable();
        volumes.dedup();
        let mut turns = Vec::with_capacity(volumes.len());
        for volume in volumes {
            let lock = {
                let mut known = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
                known.retain(|_, lock| Arc::strong_count(lock) > 1);
                known.entry(volume).or_default().clone()
            };
            turns.push(lock.lock_owned().await);
        }
        turns
    }

    /// Whether somebody has the volume's turn.
    #[cfg(test)]
    pub(crate) fn is_busy(&self, volume: VolumeId) -> bool {
        let known = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&volume).is_some_and(|lock| Arc::strong_count(lock) > 1)
    }

    /// Whether something newer has been done with the volume here.
    pub(crate) fn is_stale(&self, volume: VolumeId, generation: u64) -> bool {
        let stone = self.stones().get(volume);
        stone.is_some_and(|stone| generation < stone.generation)
    }

    /// A guest is to have the volume at this generation; from now on nothing older is done with it.
    pub(crate) fn admit(&self, volume: VolumeId, generation: u64, now: Timestamp) -> Result<(), Failure> {
        let mut stones = self.stones();
        match stones.get(volume) {
            Some(stone) if stone.destroyed && generation <= stone.generation => Err(Failure {
                permanent: true,
                ..Failure::temporary(format!("{volume} has been deleted on this host"))
            }),
            // A control plane of before tells no generation.
            Some(stone) if generation < stone.generation && generation > 0 => Err(Failure::temporary(
                format!("something newer has been done with {volume}"),
            )),
            Some(stone) if generation <= stone.generation => Ok(()),
            _ if generation == 0 => Ok(()),
            _ => {
                let stone = Tombstone {
                    generation,
                    destroyed: false,
                };
                stones.put(volume, stone, now).map_err(Failure::from)
            }
        }
    }

    /// From now on no command of this generation or an older one makes the volume again.
    pub(crate) fn bury(&self, volume: VolumeId, generation: u64, now: Timestamp) -> io::Result<()> {
        let stone = Tombstone {
            generation,
            destroyed: true,
        };
        self.stones().put(volume, stone, now)
    }

    /// Nothing of the volume is left among the host's files. Large files take their time.
    pub(crate) async fn remove(&self, volume: VolumeId) -> io::Result<()> {
        let paths = self.layout.volume_files(volume);
        let removed = self
            .layout
            .blocking(move |files| paths.iter().try_for_each(|path| remove(files, path)));
        removed.await
    }

    /// Finishes what the last worker may have died in the middle of: files that were to be removed, and those that were
    /// being made, which are made anew when they are asked for again.
    pub(crate) async fn sweep(&self) -> io::Result<()> {
        self.stones().compact()?;
        let dir = self.layout.volumes();
        let names = self.layout.blocking({
            let dir = dir.clone();
            move |files| files.names(&dir)
        });
        for name in names.await? {
            let path = dir.join(name);
            let Some(volume) = volume_of(&path) else { continue };
            let is_partial = path.extension().is_some_and(|kind| kind == PARTIAL);
            let is_buried = self.stones().get(volume).is_some_and(|stone| stone.destroyed);
            if is_partial || is_buried {
                tracing::info!(%volume, partial = is_partial, "removes what was left of a volume");
                self.layout.blocking(move |files| remove(files, &path)).await?;
            }
        }
        Ok(())
    }

    /// The volume that a guest's disk is, if it is one.
    pub(crate) fn of(&self, disk: &Path) -> Option<VolumeId> {
        let is_ours = disk.parent() == Some(self.layout.volumes().as_path()) || RbdImage::of(disk).is_some();
        volume_of(disk).filter(|_| is_ours)
    }

    /// Who has the volume in hands.
    pub(crate) fn holder(&self, volume: VolumeId, open: &Open) -> Option<InstanceId> {
        let found = open.iter().find(|(_, path)| self.of(path) == Some(volume));
        found.map(|(instance, _)| *instance)
    }
}

/// Removes a file; one that is not there is fine.
pub(crate) fn remove(files: &dyn HostFiles, path: &Path) -> io::Result<()> {
    match files.remove(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The volumes of a specification, with their generations.
pub(crate) fn named(spec: &InstanceSpec) -> impl Iterator<Item = (VolumeId, u64)> {
    spec.disks.iter().filter_map(|disk| match disk.source {
        DiskSource::Volume { generation, .. } => Some((disk.volume, generation)),
        DiskSource::Image(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use cumulet_domain::{id::HostId, image::DiskFormat};

    use super::*;
    use crate::files::DiskFiles;

    const NOW: Timestamp = Timestamp(1000);

    fn volume() -> VolumeId {
        VolumeId::new(7 << 40)
    }

    fn host() -> (tempfile::TempDir, Layout) {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::make(Arc::new(DiskFiles), dir.path(), &HostId("one".into()), None).unwrap();
        (dir, layout)
    }

    /// What a command may do with a volume of which something is known.
    #[test]
    fn nothing_older_is_done_than_what_was_done_last() {
        // What was done, at which generation; then what of a run of that generation, and whether a deletion is stale.
        for (done, generation, run, is_stale) in [
            (None, 1, "", false),
            (Some((5, false)), 4, "something newer has been done", true),
            (Some((5, false)), 5, "", false),
            (Some((5, false)), 6, "", false),
            (Some((5, false)), 0, "", true),
            (Some((5, true)), 0, "has been deleted", true),
            (Some((5, true)), 4, "has been deleted", true),
            (Some((5, true)), 5, "has been deleted", false),
            // It was taken away from here, and is to be here again.
            (Some((5, true)), 6, "", false),
        ] {
            let (_dir, layout) = host();
            let volumes = Volumes::open(layout, NOW).unwrap();
            match done {
                Some((at, true)) => volumes.bury(volume(), at, NOW).unwrap(),
                Some((at, false)) => volumes.admit(volume(), at, NOW).unwrap(),
                None => {}
            }
            assert_eq!(
                volumes.is_stale(volume(), generation),
                is_stale,
                "{done:?} {generation}"
            );
            let admitted = volumes.admit(volume(), generation, NOW);
            let reason = admitted.err().map(|failure| failure.reason).unwrap_or_default();
            assert!(
                reason.contains(run) && reason.is_empty() == run.is_empty(),
                "{done:?} {generation}: {reason}"
            );
        }
    }

    #[tokio::test]
    async fn what_was_left_half_done_is_gone_after_a_restart() {
        let (_dir, layout) = host();
        let other = VolumeId::new(8 << 40);
        let names = |layout: &Layout| {
            let mut names = layout.files.names(&layout.volumes()).unwrap();
            names.sort();
            names
        };
        let volumes = Volumes::open(layout.clone(), NOW).unwrap();
        for name in [
            format!("{}.qcow2", volume()),
            format!("{other}.qcow2"),
            format!("{other}.new"),
            "README".into(),
        ] {
            std::fs::write(layout.volumes().join(name), "x").unwrap();
        }
        volumes.bury(volume(), 3, NOW).unwrap();
        volumes.admit(other, 1, NOW).unwrap();
        drop(volumes);
        let again = Volumes::open(layout.clone(), NOW).unwrap();
        again.sweep().await.unwrap();
        let kept = ["README".to_owned(), format!("{other}.qcow2")];
        assert_eq!(names(&layout), kept);
        assert!(again.is_stale(volume(), 2));
        for _ in 0..2 {
            again.remove(other).await.unwrap();
        }
        assert_eq!(names(&layout), kept[..1]);
    }

    #[tokio::test]
    async fn one_thing_at_a_time_is_done_with_a_volume() {
        let (_dir, layout) = host();
        let volumes = Volumes::open(layout, NOW).unwrap();
        let [a, b, c] = [1, 2, 3].map(VolumeId::new);
        let held = volumes.turns([b, a, b]).await;
        let waits = volumes.turns([c, a]);
        tokio::pin!(waits);
        let soon = tokio::time::timeout(std::time::Duration::from_millis(5), waits.as_mut());
        assert!(soon.await.is_err());
        drop(held);
        let got = waits.await;
        assert_eq!(got.len(), 2);
        drop(got);
        drop(volumes.turns([b]).await);
        assert_eq!(volumes.turns.lock().unwrap().len(), 1, "none that nobody has");
    }

    #[test]
    fn a_disk_of_the_same_name_elsewhere_is_no_volume() {
        let (_dir, layout) = host();
        let volumes = Volumes::open(layout.clone(), NOW).unwrap();
        let instance = InstanceId::new(1);
        let own = layout.own_disk(instance, volume());
        let [file, ..] = layout.volume_files(volume());
        assert_eq!((volumes.of(&own), volumes.of(&file)), (None, Some(volume())));
        let open = [(instance, own), (InstanceId::new(2), file)];
        assert_eq!(volumes.holder(volume(), &open), Some(InstanceId::new(2)));
        assert_eq!(volumes.holder(volume(), &open[..1]), None);
        let image = crate::pool::image_of("pool", volume(), DiskFormat::Raw).place();
        assert_eq!(volumes.of(&image), Some(volume()));
        let open = [(InstanceId::new(3), image)];
        assert_eq!(volumes.holder(volume(), &open), Some(InstanceId::new(3)));
    }
}
