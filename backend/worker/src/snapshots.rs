//! Snapshots as a host has to do with them: where their data is kept, and which are being taken.

use std::{
    collections::{BTreeMap, HashMap, btree_map::Entry},
    io,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use cumulet_certs::DiskKey;
use cumulet_domain::{
    id::{InstanceId, OperationId, SnapshotId, VolumeId},
    message::SnapshotSource,
    snapshot::{MAX_PROGRESS, SnapshotProgress},
};
use cumulet_hypervisor::RbdImage;
use cumulet_snapshots::{Backing, BlockKey, Digest, Directory, NbdDisk, Progress, SnapshotStore, Taken};
use tokio::sync::OwnedMutexGuard;

use crate::{
    blocking::copying,
    disks::{DiskFile, Disks, Lock},
    places::{Place, Places},
};

/// Commands whose snapshots are taken at once: each reads and hashes whole disks.
pub(crate) const AT_ONCE: usize = 2;

/// How long who has a place waits for volumes' turns, which others have for some seconds; for longer, without it.
pub(crate) const BRIEFLY: Duration = Duration::from_secs(1);

/// Commands that are in hand at the most, those that wait included. What comes beyond is sent again after some seconds.
const IN_HAND: usize = 4096;

/// Those of a volume: while they wait, another volume's have room.
const OF_A_VOLUME: usize = 4;

/// Those of no volume.
const OF_COPIES: usize = 1024;

/// What was kept of a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The SHA-256 of the manifest.
    pub manifest: String,
    /// The bytes of blocks that were not there before.
    pub fresh_bytes: u64,
    /// The bytes of all of its blocks.
    pub bytes: u64,
}

impl From<Taken> for Stored {
    fn from(taken: Taken) -> Self {
        Stored {
            manifest: taken.manifest.to_string(),
            fresh_bytes: taken.fresh,
            bytes: taken.bytes,
        }
    }
}

/// A disk whose content is read for a snapshot, or made of one.
#[derive(Debug)]
pub enum Content<'a> {
    /// A raw file.
    Plain(&'a Path),
    /// The connection to a server that has a plain disk which is no file (`Disks::serve`).
    Served(UnixStream),
    /// The connection to a server that has an encrypted disk in the clear (`Disks::serve`), and that disk's key: what is
    /// kept of it is encrypted by it.
    Encrypted(UnixStream, &'a DiskKey),
}

/// A snapshot that is being taken.
#[derive(Clone, Debug)]
pub struct Taking {
    /// Which.
    pub id: SnapshotId,
    /// How far it has come.
    pub progress: Progress,
}

/// One of which nobody asks how far it has come.
impl From<SnapshotId> for Taking {
    fn from(id: SnapshotId) -> Self {
        Taking {
            id,
            progress: Progress::default(),
        }
    }
}

/// Where snapshots' data is kept.
#[async_trait]
pub trait SnapshotData: Send + Sync + 'static {
    /// Keeps the content of a disk that nobody changes as a snapshot's, over what the manifest `base` has.
    ///
    /// # Errors
    /// Those of the files. Then nothing was kept.
    async fn take(&self, snapshot: &Taking, disk: Content<'_>, base: Option<&str>) -> io::Result<Stored>;

    /// Keeps the content of a plain manifest as a snapshot's, encrypted with this key.
    ///
    /// # Errors
    /// Those of the files; `InvalidData` where the data is damaged, `InvalidInput` where it is encrypted. Then nothing
    /// was kept.
    async fn encrypt(&self, snapshot: &Taking, manifest: &str, key: &DiskKey) -> io::Result<Stored>;

    /// Makes a disk of a manifest's content, of so many bytes at least. A plain file that has the path is replaced; a disk
    /// that is served is empty and as large as that.
    ///
    /// # Errors
    /// Those of the files; `InvalidData` where the data is damaged, `InvalidInput` where it is encrypted with another
    /// key.
    async fn restore(&self, manifest: &str, disk: Content<'_>, bytes: u64) -> io::Result<()>;
}

/// Stores that snapshots' data is kept in, each for one piece of work: where that has to be granted, it is asked for
/// then. Every one of them is `SnapshotData`.
pub trait Stores: Clone + Send + Sync + 'static {
    /// Who has the files.
    type Backing: Backing + Send + 'static;

    /// To make a disk of a manifest.
    ///
    /// # Errors
    /// `PermissionDenied` where this host may not.
    fn to_read(&self, manifest: &str) -> io::Result<SnapshotStore<Self::Backing>>;

    /// To keep a snapshot. Made if it is not there, where it is this host's.
    ///
    /// # Errors
    /// Those of the files; `PermissionDenied` where this host may not.
    fn to_bring(&self, snapshot: SnapshotId) -> io::Result<SnapshotStore<Self::Backing>>;
}

/// A store in a directory that the host has in common with the control plane.
#[derive(Clone, Debug)]
pub struct DirectorySnapshots {
    store: SnapshotStore,
}

impl Stores for DirectorySnapshots {
    type Backing = Directory;

    fn to_read(&self, _: &str) -> io::Result<SnapshotStore> {
        Ok(self.store.clone())
    }

    fn to_bring(&self, _: SnapshotId) -> io::Result<SnapshotStore> {
        self.store.make()?;
        Ok(self.store.clone())
    }
}

impl DirectorySnapshots {
    /// The store in `dir`, which is made with the first snapshot.
    pub fn new(dir: &Path) -> Self {
        DirectorySnapshots {
            store: SnapshotStore::at(dir),
        }
    }
}

/// The same for a thread of its own.
enum Owned {
    Plain(PathBuf),
    Served(UnixStream),
    Encrypted(UnixStream, BlockKey),
}

impl<'a> Content<'a> {
    /// What a server has of a disk, which is encrypted by that lock if it has one.
    pub(crate) fn served(stream: UnixStream, lock: Option<Lock<'a>>) -> Self {
        match lock {
            Some(Lock { key, .. }) => Content::Encrypted(stream, key),
            None => Content::Served(stream),
        }
    }

    fn owned(self) -> Owned {
        match self {
            Content::Plain(path) => Owned::Plain(path.to_owned()),
            Content::Served(stream) => Owned::Served(stream),
            Content::Encrypted(stream, key) => Owned::Encrypted(stream, BlockKey::new(&key.of_blocks())),
        }
    }
}

fn digest(text: &str) -> io::Result<Digest> {
    let none = || io::Error::new(io::ErrorKind::InvalidInput, format!("{text:?} is no SHA-256"));
    Digest::parse(text).ok_or_else(none)
}

#[async_trait]
impl<S: Stores> SnapshotData for S {
    async fn take(&self, snapshot: &Taking, disk: Content<'_>, base: Option<&str>) -> io::Result<Stored> {
        let (stores, disk, snapshot) = (self.clone(), disk.owned(), snapshot.clone());
        let base = base.map(digest).transpose()?;
        let taken = copying(move || {
            let store = stores.to_bring(snapshot.id)?.telling(&snapshot.progress);
            match disk {
                Owned::Plain(path) => store.take_file(&path, None, base),
                Owned::Served(stream) => {
                    store.take(&NbdDisk::from_stream(stream, NbdDisk::TIMEOUT)?, None, base)
                }
                Owned::Encrypted(stream, key) => {
                    let disk = NbdDisk::from_stream(stream, NbdDisk::TIMEOUT)?;
                    store.take(&disk, Some(&key), base)
                }
            }
        });
        taken.await.map(Stored::from)
    }

    async fn encrypt(&self, snapshot: &Taking, manifest: &str, key: &DiskKey) -> io::Result<Stored> {
        let (stores, manifest, snapshot) = (self.clone(), digest(manifest)?, snapshot.clone());
        let key = BlockKey::new(&key.of_blocks());
        let taken = copying(move || {
            let store = stores.to_bring(snapshot.id)?.telling(&snapshot.progress);
            store.encrypt(manifest, &key)
        });
        taken.await.map(Stored::from)
    }

    async fn restore(&self, manifest: &str, disk: Content<'_>, bytes: u64) -> io::Result<()> {
        let (store, disk) = (self.to_read(manifest)?, disk.owned());
        let manifest = digest(manifest)?;
        copying(move || match disk {
            Owned::Plain(path) => store.restore_file(manifest, None, &path, bytes),
            Owned::Served(stream) => {
                let disk = NbdDisk::from_stream(stream, NbdDisk::TIMEOUT)?;
                store.restore(manifest, None, &disk, bytes)
            }
            Owned::Encrypted(stream, key) => {
                let disk = NbdDisk::from_stream(stream, NbdDisk::TIMEOUT)?;
                store.restore(manifest, Some(&key), &disk, bytes)
            }
        })
        .await
    }
}

/// Makes a disk of a snapshot's content: a raw file, one that is encrypted, or an image in the pool. What has the place is
/// replaced.
pub(crate) async fn restore(
    disks: &dyn Disks,
    snapshots: &dyn SnapshotData,
    manifest: &str,
    to: &DiskFile<'_>,
) -> io::Result<()> {
    if to.lock.is_none() && RbdImage::of(to.path).is_none() {
        return snapshots
            .restore(manifest, Content::Plain(to.path), to.bytes)
            .await;
    }
    disks.make(to).await?;
    let mut served = disks.serve(to, true).await?;
    let disk = Content::served(served.connection()?, to.lock);
    let restored = snapshots.restore(manifest, disk, to.bytes).await;
    served.end(restored).await
}

/// No data: simulated guests have none.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoSnapshots;

#[async_trait]
impl SnapshotData for NoSnapshots {
    async fn take(&self, _: &Taking, _: Content<'_>, _: Option<&str>) -> io::Result<Stored> {
        Ok(Stored {
            manifest: Digest::of(b"").to_string(),
            fresh_bytes: 0,
            bytes: 0,
        })
    }

    async fn encrypt(&self, _: &Taking, _: &str, _: &DiskKey) -> io::Result<Stored> {
        Ok(Stored {
            manifest: Digest::of(b"").to_string(),
            fresh_bytes: 0,
            bytes: 0,
        })
    }

    async fn restore(&self, _: &str, _: Content<'_>, _: u64) -> io::Result<()> {
        Ok(())
    }
}

/// Whose turn a command takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Whose {
    /// That of a volume: the first one that it is about.
    Volume(VolumeId),
    /// That of all that is made of plain snapshots. A command says nothing of accounts, and every one of these is about
    /// another snapshot; so they are one beside the volumes, and first come, first served.
    Copies,
}

impl Whose {
    fn of(sources: &[SnapshotSource]) -> Whose {
        let volumes = sources.iter().filter(|source| source.of.is_none());
        let first = volumes.map(|source| source.volume).min();
        first.map_or(Whose::Copies, Whose::Volume)
    }

    /// How many commands it has in hand at the most.
    const fn most(self) -> usize {
        match self {
            Whose::Volume(_) => OF_A_VOLUME,
            Whose::Copies => OF_COPIES,
        }
    }
}

/// The snapshots that are being taken on this host, or wait to be.
#[derive(Debug)]
pub(crate) struct Takes {
    operations: Mutex<BTreeMap<OperationId, InHand>>,
    guests: Mutex<HashMap<InstanceId, Arc<tokio::sync::Mutex<()>>>>,
    /// One for whoever's turn it is.
    places: Places<Whose>,
}

/// A command that is in hand.
#[derive(Debug)]
struct InHand {
    whose: Whose,
    snapshots: BTreeMap<SnapshotId, Progress>,
}

impl Default for Takes {
    fn default() -> Self {
        Takes {
            operations: Mutex::default(),
            guests: Mutex::default(),
            places: Places::new(AT_ONCE, 1),
        }
    }
}

/// What becomes of a command that has come.
#[derive(Debug)]
pub(crate) enum Begun {
    /// It is in hand from now on.
    Now(Take),
    /// It was.
    Known,
    /// There is no room for it.
    TooMany,
}

/// An operation whose snapshots are being taken, until it is dropped.
#[derive(Debug)]
pub(crate) struct Take {
    takes: Arc<Takes>,
    operation: OperationId,
    whose: Whose,
}

impl Take {
    /// Which.
    pub(crate) const fn operation(&self) -> OperationId {
        self.operation
    }

    /// One of its snapshots; of one that is not, nobody is told.
    pub(crate) fn of(&self, id: SnapshotId) -> Taking {
        let operations = self.takes.operations();
        let in_hand = operations.get(&self.operation);
        let known = in_hand.and_then(|all| all.snapshots.get(&id)).cloned();
        Taking {
            id,
            progress: known.unwrap_or_default(),
        }
    }

    /// Waits for its turn: a volume's second command is behind what other volumes wait for first.
    pub(crate) async fn place(&self) -> Place<Whose> {
        self.takes.places.take(self.whose).await
    }
}

impl Drop for Take {
    fn drop(&mut self) {
        self.takes.operations().remove(&self.operation);
    }
}

impl Takes {
    fn operations(&self) -> MutexGuard<'_, BTreeMap<OperationId, InHand>> {
        self.operations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an operation's command in hand, where there is room for it.
    pub(crate) fn begin(self: &Arc<Self>, operation: OperationId, sources: &[SnapshotSource]) -> Begun {
        let whose = Whose::of(sources);
        let mut operations = self.operations();
        let theirs = operations.values().filter(|known| known.whose == whose);
        let has_room = operations.len() < IN_HAND && theirs.count() < whose.most();
        let place = match operations.entry(operation) {
            Entry::Occupied(_) => return Begun::Known,
            Entry::Vacant(_) if !has_room => return Begun::TooMany,
            Entry::Vacant(place) => place,
        };
        let snapshots = sources.iter().map(|source| source.snapshot);
        place.insert(InHand {
            whose,
            snapshots: snapshots.map(|id| (id, Progress::default())).collect(),
        });
        Begun::Now(Take {
            takes: self.clone(),
            operation,
            whose,
        })
    }

    /// How far those have come that have begun.
    pub(crate) fn progress(&self) -> Vec<SnapshotProgress> {
        let operations = self.operations();
        let each = operations.values().flat_map(|in_hand| &in_hand.snapshots);
        let begun = each.filter(|(_, progress)| progress.percent() > 0);
        begun
            .map(|(id, progress)| SnapshotProgress {
                id: *id,
                percent: progress.percent().min(MAX_PROGRESS),
            })
            .collect()
    }

    /// Waits until no copies of a guest's disks are made for anybody else: a guest has one set at a time.
    pub(crate) async fn guest(&self, id: InstanceId) -> OwnedMutexGuard<()> {
        let lock = {
            let mut guests = self.guests.lock().unwrap_or_else(PoisonError::into_inner);
            guests.retain(|_, lock| Arc::strong_count(lock) > 1);
            guests.entry(id).or_default().clone()
        };
        lock.lock_owned().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taking() -> Taking {
        SnapshotId::new(7).into()
    }

    /// A snapshot of a volume, or of a plain snapshot.
    fn source(snapshot: u64, volume: Option<u64>) -> SnapshotSource {
        SnapshotSource {
            store: cumulet_domain::volume::VolumeStore::Local,
            snapshot: SnapshotId::new(snapshot),
            volume: VolumeId::new(volume.unwrap_or_default()),
            root_of: None,
            base: None,
            encrypted: volume.is_none(),
            of: volume.is_none().then(|| "a".repeat(64)),
        }
    }

    fn begin(takes: &Arc<Takes>, operation: u64, sources: &[SnapshotSource]) -> Option<Take> {
        match takes.begin(OperationId::new(operation), sources) {
            Begun::Now(take) => Some(take),
            Begun::Known | Begun::TooMany => None,
        }
    }

    #[tokio::test]
    async fn an_operation_is_carried_out_once_at_a_time() {
        let takes = Arc::<Takes>::default();
        let of = |n| [source(n, Some(n))];
        let first = begin(&takes, 1, &of(1)).unwrap();
        assert!(matches!(takes.begin(OperationId::new(1), &of(2)), Begun::Known));
        assert!(begin(&takes, 2, &of(3)).is_some());
        first.of(SnapshotId::new(1)).progress.done(1, 2, 100);
        first.of(SnapshotId::new(9)).progress.done(1, 2, 100);
        let half = SnapshotProgress {
            id: SnapshotId::new(1),
            percent: 50,
        };
        assert_eq!(takes.progress(), [half]);
        drop(first);
        assert_eq!(takes.progress(), []);
        assert!(begin(&takes, 1, &of(1)).is_some());
        let guest = InstanceId::new(1 << 40);
        let turn = takes.guest(guest).await;
        let waits = tokio::time::timeout(std::time::Duration::from_millis(20), takes.guest(guest));
        assert!(waits.await.is_err());
        drop(turn);
        takes.guest(guest).await;
    }

    #[test]
    fn a_volume_has_a_few_commands_in_hand_and_leaves_room_for_others() {
        let takes = Arc::<Takes>::default();
        let of_one = |n| begin(&takes, n, &[source(n, Some(7))]);
        let mut held: Vec<Take> = (1..=4).map(|n| of_one(n).expect("there is room")).collect();
        assert!(matches!(
            takes.begin(OperationId::new(5), &[source(5, Some(7))]),
            Begun::TooMany
        ));
        // One that is in hand is known, whatever room there is.
        assert!(matches!(
            takes.begin(OperationId::new(4), &[source(4, Some(7))]),
            Begun::Known
        ));
        let others = [source(6, Some(8)), source(7, Some(9)), source(8, None)];
        held.extend(others.map(|other| begin(&takes, other.snapshot.number(), &[other]).unwrap()));
        drop(held.remove(0));
        held.push(of_one(5).expect("there is room again"));
        // There is an end to it all the same.
        for n in 100.. {
            let Some(take) = begin(&takes, n, &[source(n, Some(n))]) else {
                break;
            };
            held.push(take);
        }
        assert_eq!(held.len(), IN_HAND);
    }

    #[test]
    fn a_command_takes_the_turn_of_its_first_volume() {
        let (one, two, none) = (source(1, Some(8)), source(2, Some(7)), source(3, None));
        let whose = Whose::of(&[one, two, none.clone()]);
        assert_eq!(whose, Whose::Volume(VolumeId::new(7)));
        assert_eq!(Whose::of(&[none]), Whose::Copies);
    }

    #[tokio::test]
    async fn what_was_kept_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let data = DirectorySnapshots::new(&dir.path().join("snapshots"));
        let (disk, copy) = (dir.path().join("disk"), dir.path().join("copy"));
        std::fs::write(&disk, vec![7; 4096]).unwrap();
        let kept = data.take(&taking(), Content::Plain(&disk), None).await.unwrap();
        assert!(kept.bytes > 0 && kept.bytes == kept.fresh_bytes);
        let again = data
            .take(&taking(), Content::Plain(&disk), Some(&kept.manifest))
            .await
            .unwrap();
        assert_eq!((again.fresh_bytes, &again.manifest), (0, &kept.manifest));
        data.restore(&kept.manifest, Content::Plain(&copy), 8192)
            .await
            .unwrap();
        let content = std::fs::read(&copy).unwrap();
        assert_eq!((content.len(), &content[..4096]), (8192, &[7; 4096][..]));
        for wrong in ["", "../x", "abc"] {
            assert!(data.restore(wrong, Content::Plain(&copy), 0).await.is_err());
            assert!(
                data.take(&taking(), Content::Plain(&disk), Some(wrong))
                    .await
                    .is_err()
            );
        }
    }

    /// It takes hours: it has threads of its own, and file work the others.
    #[tokio::test]
    async fn whole_disks_wait_for_no_thread_of_the_file_work() {
        let hanging = crate::blocking::tests::Hanging::everywhere().await;
        let dir = tempfile::tempdir().unwrap();
        let data = DirectorySnapshots::new(&dir.path().join("snapshots"));
        let (disk, copy) = (dir.path().join("disk"), dir.path().join("copy"));
        std::fs::write(&disk, vec![7; 4096]).unwrap();
        let both = async {
            let kept = data.take(&taking(), Content::Plain(&disk), None).await.unwrap();
            let made = data.restore(&kept.manifest, Content::Plain(&copy), 4096);
            made.await.unwrap();
        };
        let done = tokio::time::timeout(std::time::Duration::from_secs(20), both);
        done.await.expect("they have threads");
        assert_eq!(std::fs::read(&copy).unwrap(), [7; 4096]);
        drop(hanging);
    }

    #[tokio::test]
    async fn what_was_plain_is_kept_encrypted_and_once() {
        let dir = tempfile::tempdir().unwrap();
        let data = DirectorySnapshots::new(&dir.path().join("snapshots"));
        let rng = cumulet_domain::rng::SharedRng::seeded(1);
        let key = rng.with(DiskKey::generate);
        let (disk, copy) = (dir.path().join("disk"), dir.path().join("copy"));
        std::fs::write(&disk, b"in the clear".repeat(1000)).unwrap();
        let plain = data.take(&taking(), Content::Plain(&disk), None).await.unwrap();
        let made = data.encrypt(&taking(), &plain.manifest, &key).await.unwrap();
        assert!(made.manifest != plain.manifest && made.bytes > 0);
        assert_eq!(
            data.encrypt(&taking(), &plain.manifest, &key)
                .await
                .unwrap()
                .manifest,
            made.manifest
        );

        let (manifest, blocks) = (digest(&made.manifest).unwrap(), BlockKey::new(&key.of_blocks()));
        data.store
            .restore_file(manifest, Some(&blocks), &copy, 0)
            .unwrap();
        assert_eq!(std::fs::read(&copy).unwrap(), std::fs::read(&disk).unwrap());
        assert!(data.store.restore_file(manifest, None, &copy, 0).is_err());
        let again = data.encrypt(&taking(), &made.manifest, &key).await.unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::InvalidInput);
        for (wrong, kind) in [
            ("abc".to_owned(), io::ErrorKind::InvalidInput),
            ("a".repeat(64), io::ErrorKind::NotFound),
        ] {
            assert_eq!(
                data.encrypt(&taking(), &wrong, &key).await.unwrap_err().kind(),
                kind
            );
        }
    }
}
