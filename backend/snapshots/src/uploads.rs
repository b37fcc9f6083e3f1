//! Snapshots on their way into a directory from hosts that do not have it: a segment and a manifest grow piece by piece,
//! in order, each in a file of its own, and get their names together, when both are what they are said to be. A piece
//! that comes twice is there once, so that whoever was cut off goes on from where it was.
//!
//! Of each part of a snapshot there is one upload, the newest: who begins another has lost the one before, since numbers
//! are in a host's memory alone. So what is on its way takes no more room than the disk and its manifest, and what has
//! got a name for a snapshot is counted beside it. A manifest is gone through where it lies, however long it is.

use std::{
    collections::{BTreeSet, HashMap},
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    SnapshotStore,
    files::{BLOCK_BYTES, PARTIAL, publish},
    growing::{Growing, Part},
    manifest::{BLOCK, Digest, Entry},
};

/// Snapshots on their way whose state is in memory. That of others is found again in their files.
pub(crate) const OPEN: usize = 64;

/// How often all of a snapshot may come in all: one that was brought and that nobody has heard of is taken anew, at
/// another moment.
const ANEW: u64 = 4;

/// Snapshots of which it is known how much has got a name; beyond, all are counted anew.
const COUNTED: usize = 1 << 16;

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
        let name = format!("{}-{:016x}{}", self.snapshot, self.number, self.ending());
        store.backing.place.segments.join(name)
    }

    fn ending(&self) -> String {
        let part = match self.part {
            Part::Segment => "segment",
            Part::Manifest => "manifest",
        };
        format!(".{part}.{PARTIAL}")
    }

    /// Whether a file is one of an upload of the same part of the same snapshot, by whatever number.
    fn is_like(&self, file: &OsStr) -> bool {
        let ending = self.ending();
        let number = file
            .to_str()
            .and_then(|file| file.strip_prefix(self.snapshot.as_str())?.strip_prefix('-'))
            .and_then(|file| file.strip_suffix(ending.as_str()));
        let is_digit = |byte: u8| byte.is_ascii_hexdigit();
        number.is_some_and(|number| number.len() == 16 && number.bytes().all(is_digit))
    }
}

/// Bytes that what comes of a snapshot may have at the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Most {
    /// Its segment.
    pub segment: u64,
    /// Its manifest.
    pub manifest: u64,
}

impl Most {
    fn of(self, part: Part) -> u64 {
        match part {
            Part::Segment => self.segment,
            Part::Manifest => self.manifest,
        }
    }

    /// With all that has got a name.
    fn in_all(self) -> u64 {
        self.segment.saturating_add(self.manifest).saturating_mul(ANEW)
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
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// By snapshot. One at a time works at what comes of it, and whoever waits for that looks at what has become of it.
    coming: HashMap<String, Arc<Mutex<Coming>>>,
    /// By snapshot, the bytes that have got a name for it.
    named: HashMap<String, u64>,
}

/// A snapshot on its way: `None` before a file was read, and after it got its name, so that nobody writes into what has
/// one.
#[derive(Debug, Default)]
struct Coming {
    segment: Option<Newest>,
    manifest: Option<Newest>,
}

/// The newest upload of a part.
#[derive(Debug)]
struct Newest {
    number: u64,
    growing: Growing,
    /// Begun here: there is no other file of the part.
    is_alone: bool,
}

impl Coming {
    fn part(&mut self, part: Part) -> &mut Option<Newest> {
        match part {
            Part::Segment => &mut self.segment,
            Part::Manifest => &mut self.manifest,
        }
    }

    fn is_nothing(&self) -> bool {
        self.segment.is_none() && self.manifest.is_none()
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
            known: Mutex::default(),
        }
    }

    /// Where they go.
    pub fn store(&self) -> &SnapshotStore {
        &self.store
    }

    /// Snapshots whose state is in memory.
    #[cfg(test)]
    pub(crate) fn open(&self) -> usize {
        lock(&self.known).coming.len()
    }

    /// Adds a piece at an offset, to an upload that may have so many bytes. Segments' pieces are whole blocks. One at the
    /// beginning begins an upload that is not known, and ends the one that the snapshot had of this part.
    ///
    /// # Errors
    /// `InvalidInput` where it is larger than it may be, or no whole blocks; those of the file system.
    pub fn put(&self, name: &UploadName, offset: u64, content: &[u8], most: Most) -> io::Result<Put> {
        let is_whole = content.len().is_multiple_of(BLOCK_BYTES) && offset.is_multiple_of(BLOCK);
        if name.part == Part::Segment && !is_whole {
            return Err(refused(format!(
                "a piece of a segment is a multiple of {BLOCK} bytes"
            )));
        }
        let (end, most_of_it) = (offset.saturating_add(content.len() as u64), most.of(name.part));
        if end > most_of_it {
            return Err(refused(format!(
                "the upload may have {most_of_it} bytes, and no more"
            )));
        }
        let coming = self.coming(&name.snapshot);
        let mut coming = lock(&coming);
        let named = lock(&self.known).named.get(&name.snapshot).copied();
        if named.unwrap_or_default().saturating_add(end) > most.in_all() {
            let all = most.in_all();
            return Err(refused(format!(
                "with all that was brought of it the snapshot may have {all} bytes, and no more"
            )));
        }
        let may_begin = offset == 0 && !content.is_empty();
        let Some(growing) = self.at(&mut coming, name, may_begin)? else {
            return match (offset, coming.part(name.part)) {
                (0, _) => Ok(Put::There(0)),
                (_, None) => Ok(Put::Gap(0)),
                // Two that begin anew whenever the other has begun would never end.
                (_, Some(_)) => Err(refused("a newer upload of this part has begun")),
            };
        };
        if offset > growing.length {
            return Ok(Put::Gap(growing.length));
        }
        growing.add(offset, content)?;
        Ok(Put::There(growing.length))
    }

    /// What is known of a snapshot's uploads.
    fn coming(&self, snapshot: &str) -> Arc<Mutex<Coming>> {
        let mut known = lock(&self.known);
        let coming = &mut known.coming;
        if coming.len() >= OPEN && !coming.contains_key(snapshot) {
            // Nobody has what has one holder, and what nobody has is locked by nobody.
            let is_something = |coming: &Mutex<Coming>| {
                let coming = coming.try_lock();
                coming.is_ok_and(|coming| !coming.is_nothing())
            };
            coming.retain(|_, coming| Arc::strong_count(coming) > 1 || is_something(coming));
            if coming.len() >= OPEN {
                // They are found again.
                coming.retain(|_, coming| Arc::strong_count(coming) > 1);
            }
        }
        coming.entry(snapshot.to_owned()).or_default().clone()
    }

    /// An upload, if it is the newest of its part, or may begin to be.
    fn at<'c>(
        &self,
        coming: &'c mut Coming,
        name: &UploadName,
        may_begin: bool,
    ) -> io::Result<Option<&'c mut Growing>> {
        let newest = coming.part(name.part);
        if newest.is_none() {
            *newest = self.found(name)?;
        }
        let is_it = newest.as_ref().is_some_and(|newest| newest.number == name.number);
        match (is_it, may_begin) {
            (true, _) => {}
            (false, true) => self.begin(newest, name)?,
            (false, false) => return Ok(None),
        }
        Ok(newest.as_mut().map(|newest| &mut newest.growing))
    }

    /// What a process of before has of an upload, or this one has forgotten.
    fn found(&self, name: &UploadName) -> io::Result<Option<Newest>> {
        match Growing::open(&name.path(&self.store), name.part, false) {
            Ok(growing) => Ok(Some(Newest {
                number: name.number,
                growing,
                is_alone: false,
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A new upload, in place of all others of its part.
    fn begin(&self, newest: &mut Option<Newest>, name: &UploadName) -> io::Result<()> {
        self.store.make()?;
        match newest.take() {
            Some(Newest {
                number,
                is_alone: true,
                ..
            }) => {
                let other = UploadName {
                    number,
                    ..name.clone()
                };
                remove(&other.path(&self.store))?;
            }
            _ => {
                for entry in fs::read_dir(&self.store.backing.place.segments)? {
                    let entry = entry?;
                    if name.is_like(&entry.file_name()) {
                        remove(&entry.path())?;
                    }
                }
            }
        }
        *newest = Some(Newest {
            number: name.number,
            growing: Growing::open(&name.path(&self.store), name.part, true)?,
            is_alone: true,
        });
        Ok(())
    }

    /// Gives uploads their names: the manifest, which must have this one, and the segment, if there is one. The manifest
    /// may name that segment, and those that the manifests of `granted` name, each once, and no others. Where it is there
    /// already, with no upload left of it, that is well.
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
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.segments_of(name).is_ok() => Ok(()),
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
        if segment.is_some_and(|segment| segment.snapshot != manifest.snapshot) {
            return Err(refused("the segment is of another snapshot"));
        }
        let coming = self.coming(&manifest.snapshot);
        let mut coming = lock(&coming);
        let whole = self.whole(&mut coming, manifest)?;
        if whole.digest() != name {
            let is = whole.digest();
            return Err(refused(format!("the manifest is {is}, and not {name}")));
        }
        let brought = match segment {
            Some(name) => Some(self.whole(&mut coming, name)?.digest()),
            None => None,
        };
        let whole = self.whole(&mut coming, manifest)?;
        self.check_names(whole, brought, granted)?;
        // Both are on disk before either has its name.
        whole.file.sync_all()?;
        let place = &self.store.backing.place;
        if let (Some(name), Some(digest)) = (segment, brought) {
            self.name(&mut coming, name, &place.segment(digest))?;
        }
        self.name(&mut coming, manifest, &place.manifest(name))
    }

    /// What there is of an upload.
    fn whole<'c>(&self, coming: &'c mut Coming, name: &UploadName) -> io::Result<&'c Growing> {
        let none = || io::Error::new(io::ErrorKind::NotFound, "there is no such upload");
        self.at(coming, name, false)?
            .map(|growing| &*growing)
            .ok_or_else(none)
    }

    /// An upload gets its name. Whatever comes of it, from here on it is no upload, or is found again as one.
    fn name(&self, coming: &mut Coming, name: &UploadName, path: &Path) -> io::Result<()> {
        let Some(Newest { growing, .. }) = coming.part(name.part).take() else {
            return Ok(());
        };
        // What was brought before takes no more room.
        let more = if path.try_exists()? { 0 } else { growing.length };
        publish(&growing.file, &name.path(&self.store), path)?;
        let mut known = lock(&self.known);
        if known.named.len() >= COUNTED && !known.named.contains_key(&name.snapshot) {
            known.named.clear();
        }
        let named = known.named.entry(name.snapshot.clone()).or_default();
        *named = named.saturating_add(more);
        Ok(())
    }

    /// That a manifest names the segment that was brought with it, and those that the granted manifests name, alone.
    fn check_names(&self, whole: &Growing, brought: Option<Digest>, granted: &[Digest]) -> io::Result<()> {
        let mut may_name: BTreeSet<Digest> = brought.into_iter().collect();
        for base in granted {
            may_name.extend(self.segments_of(*base)?);
        }
        let checked = whole.walk(|entry| match entry {
            Entry::Segment(segment) if !may_name.contains(&segment) => Err(refused(format!(
                "the manifest names the segment {segment}, which is not of its base, or twice"
            ))),
            Entry::Segment(segment) => {
                may_name.remove(&segment);
                Ok(())
            }
            Entry::Block(_) => Ok(()),
        });
        checked.map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => refused(error.to_string()),
            _ => error,
        })
    }

    /// Gives an upload up: nothing is left of it.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn give_up(&self, name: &UploadName) -> io::Result<()> {
        let coming = self.coming(&name.snapshot);
        let mut coming = lock(&coming);
        drop(
            coming
                .part(name.part)
                .take_if(|newest| newest.number == name.number),
        );
        remove(&name.path(&self.store))
    }

    /// The segments that a manifest names: what may be read with it.
    ///
    /// # Errors
    /// `NotFound`; `InvalidData` where it is not what its name says.
    pub fn segments_of(&self, manifest: Digest) -> io::Result<BTreeSet<Digest>> {
        self.store.segments_of(manifest)
    }
}

/// Removes a file, if it is there.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
