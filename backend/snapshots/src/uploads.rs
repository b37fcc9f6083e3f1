//! Snapshots on their way into a directory from hosts that do not have it: a segment and a manifest grow piece by piece,
//! in order, each in a file of its own, and get their names together, when both are what they are said to be. A piece
//! that comes twice is there once, so that whoever was cut off goes on from where it was.

use std::{
    collections::{BTreeSet, HashMap},
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use sha2::{Digest as _, Sha256};

use crate::{
    SnapshotStore,
    files::{BLOCK_BYTES, PARTIAL, named, publish, read_block},
    manifest::{BLOCK, Digest, Manifest},
};

/// Uploads whose state is in memory. That of others is found again in their files.
pub(crate) const OPEN: usize = 64;

/// What an upload becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// A segment: whole blocks.
    Segment,
    /// A manifest.
    Manifest,
}

/// Which upload: the snapshot that it is for, and the number that its sender has given it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UploadName {
    /// The snapshot's id.
    snapshot: String,
    number: u64,
    part: Part,
}

impl UploadName {
    /// `None` where the snapshot's id is none: it becomes part of a file's name.
    pub fn new(snapshot: &str, number: u64, part: Part) -> Option<Self> {
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let is_id = !snapshot.is_empty() && snapshot.len() <= 64 && snapshot.bytes().all(is_plain);
        is_id.then(|| UploadName {
            snapshot: snapshot.to_owned(),
            number,
            part,
        })
    }

    pub(crate) fn path(&self, store: &SnapshotStore) -> PathBuf {
        let part = match self.part {
            Part::Segment => "segment",
            Part::Manifest => "manifest",
        };
        let name = format!("{}-{:016x}.{part}.{PARTIAL}", self.snapshot, self.number);
        store.backing.place.segments.join(name)
    }
}

/// What became of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It is there; the upload has so many bytes.
    There(u64),
    /// It begins beyond what is there, which is so many bytes.
    Gap(u64),
}

/// Uploads into a store. Its calls block.
#[derive(Debug)]
pub struct Uploads {
    store: SnapshotStore,
    open: Mutex<Open>,
}

/// One at a time works at an upload, and whoever waits for that looks at what has become of it: `None` before its file
/// was read, and after it got its name, so that nobody writes into what has one.
type Open = HashMap<UploadName, Arc<Mutex<Option<Growing>>>>;

/// A file that grows.
#[derive(Debug)]
pub(crate) struct Growing {
    file: File,
    length: u64,
    /// Of what is there: of a segment the digests of its blocks, of a manifest its bytes.
    name: Sha256,
}

impl Growing {
    /// What a piece adds to the name.
    fn know(&mut self, part: Part, content: &[u8]) {
        match part {
            Part::Manifest => self.name.update(content),
            Part::Segment => {
                for block in content.chunks(BLOCK_BYTES) {
                    self.name.update(Digest::of(block).0);
                }
            }
        }
        self.length += content.len() as u64;
    }

    fn digest(&self) -> Digest {
        Digest(self.name.clone().finalize().into())
    }

    /// What there is, as a manifest.
    fn manifest(&self) -> io::Result<Manifest> {
        let mut bytes = vec![0; usize::try_from(self.length).map_err(io::Error::other)?];
        self.file.read_exact_at(&mut bytes, 0)?;
        Manifest::decode(&bytes).map_err(|error| refused(error.to_string()))
    }
}

fn refused(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why.into())
}

impl Uploads {
    /// Uploads into this store.
    pub fn new(store: SnapshotStore) -> Self {
        Uploads {
            store,
            open: Mutex::default(),
        }
    }

    /// Where they go.
    pub fn store(&self) -> &SnapshotStore {
        &self.store
    }

    pub(crate) fn open(&self) -> MutexGuard<'_, Open> {
        lock(&self.open)
    }

    /// Adds a piece at an offset, to an upload that may have `most` bytes. Segments' pieces are whole blocks.
    ///
    /// # Errors
    /// `InvalidInput` where it is larger than it may be, or no whole blocks; those of the file system.
    pub fn put(&self, name: &UploadName, offset: u64, content: &[u8], most: u64) -> io::Result<Put> {
        if name.part == Part::Segment && !content.len().is_multiple_of(BLOCK_BYTES) {
            return Err(refused(format!(
                "a piece of a segment is a multiple of {BLOCK} bytes"
            )));
        }
        let end = offset.saturating_add(content.len() as u64);
        if end > most {
            return Err(refused(format!("the upload may have {most} bytes, and no more")));
        }
        let upload = self.upload(name);
        let mut upload = lock(&upload);
        let growing = match upload.as_mut() {
            Some(known) => known,
            None => upload.insert(self.begun(name)?),
        };
        if offset > growing.length {
            return Ok(Put::Gap(growing.length));
        }
        // Of what came before, the rest may be new.
        let known = usize::try_from(growing.length - offset).unwrap_or(usize::MAX);
        let Some(fresh) = content.get(known..).filter(|fresh| !fresh.is_empty()) else {
            return Ok(Put::There(growing.length));
        };
        if let Err(error) = growing.file.write_all_at(fresh, growing.length) {
            // What is there of the piece does not count.
            drop(growing.file.set_len(growing.length));
            return Err(error);
        }
        growing.know(name.part, fresh);
        Ok(Put::There(growing.length))
    }

    /// What is known of an upload.
    fn upload(&self, name: &UploadName) -> Arc<Mutex<Option<Growing>>> {
        let mut open = self.open();
        if open.len() >= OPEN && !open.contains_key(name) {
            // Those that nobody works at are found again.
            open.retain(|_, upload| Arc::strong_count(upload) > 1);
        }
        open.entry(name.clone()).or_default().clone()
    }

    /// What the file of an upload has, which is made if it is not there.
    fn begun(&self, name: &UploadName) -> io::Result<Growing> {
        self.store.make()?;
        self.found(name, true)
    }

    /// What a file has. Of a segment a broken block at its end is none.
    fn found(&self, name: &UploadName, create: bool) -> io::Result<Growing> {
        use std::os::unix::fs::OpenOptionsExt as _;
        let path = name.path(&self.store);
        let mut options = File::options();
        options.read(true).write(true).create(create).mode(0o600);
        let file = options.open(&path).map_err(|error| named(error, &path))?;
        let there = file.metadata()?.len();
        let whole = match name.part {
            Part::Segment => there / BLOCK * BLOCK,
            Part::Manifest => there,
        };
        file.set_len(whole)?;
        let (mut growing, mut buffer) = (
            Growing {
                file,
                length: 0,
                name: Sha256::new(),
            },
            vec![0; BLOCK_BYTES],
        );
        while growing.length < whole {
            let length = usize::try_from(whole - growing.length).unwrap_or(BLOCK_BYTES);
            let block = buffer.split_at_mut(length.min(BLOCK_BYTES)).0;
            read_block(&growing.file, growing.length, block)?;
            growing.know(name.part, block);
        }
        Ok(growing)
    }

    /// Gives uploads their names: the manifest, which must have this one, and the segment, if there is one. The manifest
    /// may name that segment, and those that the manifests of `granted` name, and no others. Where it is there already,
    /// with no upload left of it, that is well.
    ///
    /// # Errors
    /// `InvalidInput` where an upload is not what it is said to be, or names what it may not; `NotFound` where there is
    /// no upload; those of the file system. Then there is no such manifest.
    pub fn finish(
        &self,
        segment: Option<&UploadName>,
        manifest: &UploadName,
        name: Digest,
        granted: &[Digest],
    ) -> io::Result<()> {
        match self.publish(segment, manifest, name, granted) {
            // The answer to the first one was lost.
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.store.manifest(name).is_ok() => {
                Ok(())
            }
            done => done,
        }
    }

    fn publish(
        &self,
        segment: Option<&UploadName>,
        manifest: &UploadName,
        name: Digest,
        granted: &[Digest],
    ) -> io::Result<()> {
        let place = &self.store.backing.place;
        let upload = self.upload(manifest);
        let mut upload = lock(&upload);
        let whole = self.whole(&mut upload, manifest)?;
        if whole.digest() != name {
            let is = whole.digest();
            return Err(refused(format!("the manifest is {is}, and not {name}")));
        }
        let names = whole.manifest()?;
        let segment = segment.map(|name| (name, self.upload(name)));
        let mut brought = segment.as_ref().map(|(name, upload)| (*name, lock(upload)));
        let fresh = match &mut brought {
            Some((name, upload)) => Some((*name, self.whole(upload, name)?)),
            None => None,
        };
        self.check_names(&names, fresh.as_ref().map(|(_, fresh)| fresh.digest()), granted)?;
        // Both are on disk before either has its name.
        whole.file.sync_all()?;
        if let Some((name, fresh)) = fresh {
            publish(
                &fresh.file,
                &name.path(&self.store),
                &place.segment(fresh.digest()),
            )?;
        }
        publish(&whole.file, &manifest.path(&self.store), &place.manifest(name))?;
        *upload = None;
        self.open().remove(manifest);
        if let Some((name, upload)) = &mut brought {
            **upload = None;
            self.open().remove(name);
        }
        Ok(())
    }

    /// What there is of an upload whose lock is held.
    fn whole<'u>(&self, upload: &'u mut Option<Growing>, name: &UploadName) -> io::Result<&'u Growing> {
        Ok(match upload {
            Some(known) => known,
            none => none.insert(self.found(name, false)?),
        })
    }

    /// That a manifest names the segment that was brought with it, and those that the granted manifests name, alone.
    fn check_names(&self, names: &Manifest, brought: Option<Digest>, granted: &[Digest]) -> io::Result<()> {
        let mut may_name: BTreeSet<Digest> = brought.into_iter().collect();
        for base in granted {
            may_name.extend(self.segments_of(*base)?);
        }
        match names.segments.iter().find(|segment| !may_name.contains(segment)) {
            None => Ok(()),
            Some(other) => Err(refused(format!(
                "the manifest names the segment {other}, which is not of its base"
            ))),
        }
    }

    /// Gives an upload up: nothing is left of it.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn give_up(&self, name: &UploadName) -> io::Result<()> {
        let upload = self.upload(name);
        let mut upload = lock(&upload);
        *upload = None;
        self.open().remove(name);
        match std::fs::remove_file(name.path(&self.store)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// The segments that a manifest names: what may be read with it.
    ///
    /// # Errors
    /// `NotFound`; `InvalidData` where it is not what its name says.
    pub fn segments_of(&self, manifest: Digest) -> io::Result<BTreeSet<Digest>> {
        Ok(self.store.manifest(manifest)?.segments.into_iter().collect())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
