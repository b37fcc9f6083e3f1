//! The command `take-snapshots`: the content of volumes, all as they are at one moment, comes to the store of snapshots.
//! Of a guest that runs, copies are made that are as its disks are at the moment of the command, while it goes on. What
//! no guest has in hands is read as it is (`still.rs`). What is to be made of a plain snapshot is made of the store's
//! data, and no volume is looked at. It takes hours, and few are taken at a time: who has a place waits for nothing that
//! somebody else has for long.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use cumulet_domain::{
    crash_point,
    id::{InstanceId, OperationId, VolumeId},
    image::DiskFormat,
    message::{ReportContent, SnapshotOutcome, SnapshotSource},
    snapshot::{NO_VOLUME, TakenSnapshot},
    time::Timestamp,
};
use cumulet_hypervisor::{Copying, DiskCopy, DiskSecret, RbdImage};
use tokio::sync::OwnedMutexGuard;

use crate::{
    Worker,
    disks::{DiskFile, Lock},
    failure::Failure,
    retry::{PAUSE, goes_on},
    snapshots::{BRIEFLY, Content, Stored, Take, Taking},
    stores::lost,
    volumes::{Open, Turn, remove},
};

/// What the conductor calls it.
pub(super) const NAME: &str = "create-snapshot";

/// How often it is looked whether copies are whole.
const LOOK: Duration = Duration::from_millis(100);

/// How far a snapshot has come when its copy is whole, in per cent: as much is to be read again.
const COPIED: u8 = 50;

/// A volume of which a snapshot is taken, and where it is.
pub(super) struct Source<'s> {
    pub(super) told: &'s SnapshotSource,
    pub(super) disk: PathBuf,
    pub(super) format: DiskFormat,
    /// The instance whose root it still is.
    pub(super) root_of: Option<InstanceId>,
    /// The guest that has it in hands.
    holder: Option<InstanceId>,
    /// What it is encrypted with.
    pub(super) secret: Option<DiskSecret>,
    taking: Taking,
}

/// A place that a volume may have.
type Candidate = (PathBuf, DiskFormat, Option<InstanceId>);

/// The volumes that a command is about.
fn volumes(sources: &[SnapshotSource]) -> impl Iterator<Item = &SnapshotSource> {
    sources.iter().filter(|source| source.of.is_none())
}

impl Worker {
    /// Carries a command out that is in hand, and tells its outcome.
    pub(crate) async fn take_snapshots(&self, take: Take, sources: &[SnapshotSource], deadline: Timestamp) {
        crash_point!(NAME, "received");
        let done = self.all_taken(&take, sources, deadline).await;
        self.forget_keys(sources);
        let operation = take.operation();
        match done {
            Some(done) => self.tell_taken(operation, done).await,
            None => {
                self.counters.expired();
                tracing::info!(%operation, "dropped a command after its deadline");
            }
        }
    }

    /// `None`: its deadline has passed before its turn came.
    async fn all_taken(
        &self,
        take: &Take,
        sources: &[SnapshotSource],
        deadline: Timestamp,
    ) -> Option<Result<Vec<TakenSnapshot>, Failure>> {
        loop {
            let failure = match self.take_in_turn(take, sources, deadline).await {
                Ok(taken) => return taken.map(Ok),
                Err(failure) => failure,
            };
            let Failure { reason, detail, .. } = &failure;
            if failure.busy {
                tracing::debug!(reason, "a snapshot waits for its volumes");
                // One after the other: nobody uses the one that is free meanwhile.
                for volume in volumes(sources).map(|source| source.volume) {
                    drop(self.volumes.turns([volume]).await);
                }
                tokio::time::sleep(LOOK).await;
                continue;
            }
            tracing::warn!(reason, detail, "a snapshot can't be taken");
            if !goes_on(failure.unanswered, self.deps.clock.now(), deadline) {
                return Some(Err(failure));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Waits for its turn, and takes all that can be taken without waiting for anybody else: the guest's turn comes before
    /// a place, since it is another's for as long as that one's copies are made.
    async fn take_in_turn(
        &self,
        take: &Take,
        sources: &[SnapshotSource],
        deadline: Timestamp,
    ) -> Result<Option<Vec<TakenSnapshot>>, Failure> {
        let guest = self.guest_of(sources).await?;
        let _place = take.place().await;
        if self.deps.clock.now() > deadline {
            return Ok(None);
        }
        let in_hands = guest.as_ref().map(|(id, _)| *id);
        let taken = self.take_all(take, sources, in_hands, deadline).await;
        taken.map(Some)
    }

    /// The guest that has one of the volumes in hands, and its turn: it makes copies for one command at a time.
    async fn guest_of(
        &self,
        sources: &[SnapshotSource],
    ) -> Result<Option<(InstanceId, OwnedMutexGuard<()>)>, Failure> {
        if volumes(sources).next().is_none() {
            return Ok(None);
        }
        let open = self.deps.hypervisor.open_disks().await?;
        for told in volumes(sources) {
            let candidates = self.candidates(told)?;
            if let Some(id) = candidates.iter().find_map(|(disk, ..)| holder(disk, &open)) {
                return Ok(Some((id, self.takes.guest(id).await)));
            }
        }
        Ok(None)
    }

    async fn tell_taken(&self, operation: OperationId, done: Result<Vec<TakenSnapshot>, Failure>) {
        let (taken, failure) = match done {
            Ok(taken) => (taken, None),
            Err(failure) => (Vec::new(), Some(failure)),
        };
        let permanent = failure.as_ref().is_some_and(|failure| failure.permanent);
        let outcome = SnapshotOutcome {
            operation,
            taken,
            failure: failure.map(|failure| self.explain(failure).reason),
            permanent,
        };
        self.reporter.send(ReportContent::SnapshotDone(outcome)).await;
        crash_point!(NAME, "reported");
    }

    /// What snapshots are made of others with comes again with a command that needs it.
    fn forget_keys(&self, sources: &[SnapshotSource]) {
        for source in sources.iter().filter(|source| source.of.is_some()) {
            self.keys.forget(source.snapshot);
        }
    }

    /// `in_hands` is the guest that was seen to have volumes, whose turn is had.
    async fn take_all(
        &self,
        take: &Take,
        sources: &[SnapshotSource],
        in_hands: Option<InstanceId>,
        deadline: Timestamp,
    ) -> Result<Vec<TakenSnapshot>, Failure> {
        let volumes: Vec<&SnapshotSource> = volumes(sources).collect();
        let mut taken = match volumes.is_empty() {
            true => Vec::new(),
            false => self.take_volumes(take, &volumes, in_hands, deadline).await?,
        };
        for source in sources {
            if let Some(manifest) = &source.of {
                taken.push(self.encrypt(&take.of(source.snapshot), source, manifest).await?);
            }
        }
        Ok(taken)
    }

    /// What a plain snapshot has is kept encrypted.
    async fn encrypt(
        &self,
        taking: &Taking,
        told: &SnapshotSource,
        manifest: &str,
    ) -> Result<TakenSnapshot, Failure> {
        let key = self.keys.get(told.snapshot)?;
        crash_point!(NAME, "copied");
        is_kept(told, self.deps.snapshots.encrypt(taking, manifest, &key).await)
    }

    async fn take_volumes(
        &self,
        take: &Take,
        sources: &[&SnapshotSource],
        in_hands: Option<InstanceId>,
        deadline: Timestamp,
    ) -> Result<Vec<TakenSnapshot>, Failure> {
        // Nobody gets or loses one of them until it is known who has them.
        let turns = self.volumes.turns(sources.iter().map(|source| source.volume));
        let Ok(turns) = tokio::time::timeout(BRIEFLY, turns).await else {
            return Err(busy(sources.iter().map(|source| source.volume)));
        };
        let open = self.deps.hypervisor.open_disks().await?;
        let mut found = Vec::with_capacity(sources.len());
        for told in sources {
            let secret = self.secret(told.volume, told.encrypted)?;
            found.push(Source {
                secret,
                ..self.source(take, told, &open).await?
            });
        }
        let holder = found.first().and_then(|source| source.holder);
        if found.iter().any(|source| source.holder != holder) {
            return Err(Failure::temporary(
                "some of the volumes are in a guest's hands, and some are not",
            ));
        }
        match holder {
            None => self.take_still(&found, turns).await,
            Some(guest) if in_hands == Some(guest) => {
                // Copies of one moment wait for all that the guest has asked of its disks, also of those that are not copied.
                let is_its_image =
                    |(of, place): &(InstanceId, PathBuf)| *of == guest && RbdImage::of(place).is_some();
                if open.iter().any(is_its_image) {
                    self.pool_answers().await?;
                }
                self.take_running(guest, &found, turns, deadline).await
            }
            // It has got them just now, and its turn comes first.
            Some(_) => Err(busy(sources.iter().map(|source| source.volume))),
        }
    }

    /// The places that a volume may have: each with its format, and with the instance whose root it is then. A root, which
    /// is a file, may have outlived its instance meanwhile.
    fn candidates(&self, told: &SnapshotSource) -> Result<Vec<Candidate>, Failure> {
        self.reaches(told.store, told.volume)?;
        let root = told.root_of.filter(|_| told.store.is_local());
        let root = root.map(|instance| (self.layout.disk(instance), DiskFormat::Qcow2, Some(instance)));
        let own = [DiskFormat::Qcow2, DiskFormat::Raw]
            .map(|format| (self.stored_at(told.store, told.volume, format), format, None));
        Ok(root.into_iter().chain(own).collect())
    }

    /// Where a volume is.
    async fn source<'s>(
        &self,
        take: &Take,
        told: &'s SnapshotSource,
        open: &Open,
    ) -> Result<Source<'s>, Failure> {
        let candidates = self.candidates(told)?;
        let made = |(disk, format, root_of), holder| Source {
            told,
            disk,
            format,
            root_of,
            holder,
            secret: None,
            taking: take.of(told.snapshot),
        };
        for found in &candidates {
            if let Some(guest) = holder(&found.0, open) {
                return Ok(made(found.clone(), Some(guest)));
            }
        }
        let has_files = self.deps.disks.uses_images();
        for found in candidates {
            if !has_files || self.is_there(&found.0).await? {
                return Ok(made(found, None));
            }
        }
        Err(Failure {
            permanent: true,
            ..Failure::temporary(lost(told.volume, told.store))
        })
    }

    /// Of a guest that runs, and whose turn is had: copies of one moment. From then on others may do with the volumes what
    /// they like.
    async fn take_running(
        &self,
        guest: InstanceId,
        sources: &[Source<'_>],
        turns: Vec<Turn>,
        deadline: Timestamp,
    ) -> Result<Vec<TakenSnapshot>, Failure> {
        // What a worker of before has begun.
        self.deps.hypervisor.stop_copying(guest).await?;
        let copies: Vec<DiskCopy> = sources
            .iter()
            .map(|source| DiskCopy {
                disk: source.disk.clone(),
                copy: self.layout.copy(Some(guest), source.told.snapshot),
                secret: source.secret.clone(),
            })
            .collect();
        self.remove_copies(&copies).await?;
        let done = async {
            self.make_copies(guest, &copies).await?;
            self.deps.hypervisor.copy_disks(guest, &copies).await?;
            drop(turns);
            self.copied(guest, sources, &copies, deadline).await?;
            crash_point!(NAME, "copied");
            let mut taken = Vec::with_capacity(sources.len());
            for (source, copy) in sources.iter().zip(&copies) {
                self.reclaim(copy).await?;
                taken.push(self.keep(source, &copied(copy)).await?);
            }
            Ok(taken)
        };
        let done = done.await;
        if done.is_err()
            && let Err(error) = self.deps.hypervisor.stop_copying(guest).await
        {
            tracing::warn!(instance = %guest, %error, "copies of a guest's disks can't be given up");
        }
        self.remove_copies(&copies).await?;
        done
    }

    /// Waits until copies are whole. What has come of them is brought to the disk all the while: left to the page cache
    /// until it is full, the guest's own flushes would wait for all of it.
    async fn copied(
        &self,
        guest: InstanceId,
        sources: &[Source<'_>],
        copies: &[DiskCopy],
        deadline: Timestamp,
    ) -> Result<(), Failure> {
        loop {
            match self.deps.hypervisor.copying(guest).await? {
                Copying::Done => return Ok(()),
                Copying::Running { .. } if self.deps.clock.now() > deadline => {
                    return Err(Failure::temporary("the copies were not made in time"));
                }
                Copying::Running { done, of } => {
                    // 0 is nothing that was told yet.
                    for Source { taking, .. } in sources.iter().filter(|_| of > 0) {
                        taking.progress.done(done, of, COPIED);
                    }
                    self.sync_copies(copies).await?;
                    tokio::time::sleep(LOOK).await;
                }
                Copying::Nothing => {
                    return Err(Failure::temporary(
                        "the guest went off while its disks were copied",
                    ));
                }
                Copying::Failed(why) => {
                    return Err(Failure::of_copies(why));
                }
            }
        }
    }

    /// A copy that has a header is the host's alone before anything goes by that: the guest's process, which has written
    /// it, goes on. One that is raw is read as it is.
    async fn reclaim(&self, copy: &DiskCopy) -> Result<(), Failure> {
        if copy.secret.is_none() {
            return Ok(());
        }
        let reclaimed = self.deps.disks.reclaim(&copy.copy).await;
        reclaimed.map_err(|error| Failure::of("the guest does not let go of a copy of its disk", error))
    }

    async fn sync_copies(&self, copies: &[DiskCopy]) -> Result<(), Failure> {
        let paths: Vec<PathBuf> = copies.iter().map(|copy| copy.copy.clone()).collect();
        let synced = self
            .layout
            .blocking(move |files| paths.iter().try_for_each(|path| files.sync(path)));
        Ok(synced.await?)
    }

    /// Where one of a guest's disks is encrypted, the copies of all are there before they are written.
    async fn make_copies(&self, guest: InstanceId, copies: &[DiskCopy]) -> Result<(), Failure> {
        if copies.iter().all(|copy| copy.secret.is_none()) || !self.deps.disks.uses_images() {
            return Ok(());
        }
        let has = self.deps.hypervisor.devices(guest).await?;
        for copy in copies {
            let disk = has.disks.iter().find(|disk| disk.path == copy.disk);
            let bytes = match disk {
                Some(disk) => self.size_of(disk).await?,
                None => None,
            };
            let Some(bytes) = bytes else {
                return Err(Failure::temporary("the guest has lost a disk meanwhile"));
            };
            let file = DiskFile {
                bytes,
                ..copied(copy)
            };
            self.deps.disks.make(&file).await?;
        }
        Ok(())
    }

    pub(super) async fn keep(
        &self,
        source: &Source<'_>,
        disk: &DiskFile<'_>,
    ) -> Result<TakenSnapshot, Failure> {
        let (base, taking) = (source.told.base.as_deref(), &source.taking);
        let snapshots = &self.deps.snapshots;
        let is_file = RbdImage::of(disk.path).is_none();
        let kept = match disk.lock {
            None if is_file => snapshots.take(taking, Content::Plain(disk.path), base).await,
            lock => {
                let mut served = self.deps.disks.serve(disk, false).await?;
                let content = Content::served(served.connection()?, lock);
                let taken = snapshots.take(taking, content, base).await;
                served.end(taken).await
            }
        };
        is_kept(source.told, kept)
    }

    pub(super) async fn remove_copies(&self, copies: &[DiskCopy]) -> Result<(), Failure> {
        let paths: Vec<PathBuf> = copies.iter().map(|copy| copy.copy.clone()).collect();
        let removed = self
            .layout
            .blocking(move |files| paths.iter().try_for_each(|path| remove(files, path)));
        Ok(removed.await?)
    }
}

/// What has come to the store is a snapshot.
fn is_kept(told: &SnapshotSource, kept: io::Result<Stored>) -> Result<TakenSnapshot, Failure> {
    let kept = kept.map_err(|error| Failure::of_store(&error))?;
    crash_point!(NAME, "kept");
    Ok(TakenSnapshot {
        id: told.snapshot,
        manifest: kept.manifest,
        fresh_bytes: kept.fresh_bytes,
        bytes: kept.bytes,
    })
}

/// The guest that has a disk in hands.
fn holder(disk: &Path, open: &Open) -> Option<InstanceId> {
    let found = open.iter().find(|(_, path)| path == disk);
    found.map(|(instance, _)| *instance)
}

/// Somebody else has what it takes of volumes: it is waited for without a place.
fn busy(mut volumes: impl Iterator<Item = VolumeId>) -> Failure {
    let first = volumes.next().unwrap_or(NO_VOLUME);
    Failure {
        busy: true,
        ..Failure::temporary(format!("something else is being done with {first}"))
    }
}

/// A raw file, as it is.
pub(super) fn plain(path: &Path) -> DiskFile<'_> {
    DiskFile {
        path,
        format: DiskFormat::Raw,
        bytes: 0,
        image: None,
        lock: None,
    }
}

/// The file of a copy.
fn copied(copy: &DiskCopy) -> DiskFile<'_> {
    match &copy.secret {
        None => plain(&copy.copy),
        Some(secret) => DiskFile {
            format: DiskFormat::Qcow2,
            lock: Some(Lock {
                key: &secret.key,
                below: false,
            }),
            ..plain(&copy.copy)
        },
    }
}
