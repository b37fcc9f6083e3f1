//! The store of snapshots' data: a disk's content is taken as a snapshot, and a disk is made of one.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, BufReader},
    path::Path,
};

use sha2::{Digest as _, Sha256};

use crate::{
    backing::Backing,
    cipher::BlockKey,
    content::Content,
    directory::Directory,
    files::{make_dir, named},
    making::{Making, Taken},
    manifest::{Digest, Entry, Manifest, Reading},
    progress::Progress,
    raw::RawDisk,
    source::{Source, Target},
};

/// See the module. Its calls block.
#[derive(Clone, Debug)]
pub struct SnapshotStore<B = Directory> {
    pub(crate) backing: B,
    /// Who is told how far the taking of a snapshot has come.
    progress: Progress,
}

impl SnapshotStore {
    /// The store in this directory, which is made if it is not there.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn open(dir: &Path) -> io::Result<Self> {
        let store = SnapshotStore::at(dir);
        store.make()?;
        Ok(store)
    }

    /// The store in this directory, whether it is there or not.
    pub fn at(dir: &Path) -> Self {
        SnapshotStore::over(Directory::at(dir))
    }

    /// Makes the store's directories if they are not there.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn make(&self) -> io::Result<()> {
        make_dir(&self.backing.place.manifests)?;
        make_dir(&self.backing.place.segments)
    }

    /// The file of a manifest.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn manifest_file(&self, name: Digest) -> io::Result<File> {
        let path = self.backing.place.manifest(name);
        File::open(&path).map_err(|error| named(error, &path))
    }

    /// The file of a segment.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn segment_file(&self, name: Digest) -> io::Result<File> {
        let path = self.backing.place.segment(name);
        File::open(&path).map_err(|error| named(error, &path))
    }

    /// Whether a manifest is what its name says, and the segments that it names are there. No key is needed.
    ///
    /// # Errors
    /// `NotFound`, `InvalidData`; `InvalidInput` where it is no manifest's name.
    pub fn check(&self, name: &str) -> io::Result<()> {
        let none = || io::Error::new(io::ErrorKind::InvalidInput, "it is no SHA-256");
        for segment in self.segments_of(Digest::parse(name).ok_or_else(none)?)? {
            let path = self.backing.place.segment(segment);
            std::fs::metadata(&path).map_err(|error| named(error, &path))?;
        }
        Ok(())
    }

    /// The segments that a manifest names.
    ///
    /// # Errors
    /// As `walk`.
    pub(crate) fn segments_of(&self, name: Digest) -> io::Result<BTreeSet<Digest>> {
        let mut segments = BTreeSet::new();
        self.walk(name, |entry| {
            if let Entry::Segment(segment) = entry {
                segments.insert(segment);
            }
            Ok(())
        })?;
        Ok(segments)
    }

    /// Goes through a manifest, of which no more is in memory than a piece. What was told counts when this has returned
    /// well, since only then it is known that the manifest is what its name says.
    ///
    /// # Errors
    /// `NotFound`; `InvalidData` where it is not what its name says; those of who is told.
    pub(crate) fn walk(&self, name: Digest, told: impl FnMut(Entry) -> io::Result<()>) -> io::Result<()> {
        if name == Digest::of(b"") {
            return Ok(());
        }
        let file = self.manifest_file(name)?;
        let bytes = file.metadata()?.len();
        let mut hashed = Hashed {
            file,
            name: Sha256::new(),
        };
        let read = Reading::begin(BufReader::with_capacity(PIECE, &mut hashed), bytes)
            .and_then(|reading| reading.each(told));
        let read = read.and_then(|()| match Digest(hashed.name.finalize().into()) == name {
            true => Ok(()),
            false => Err(not_its_name()),
        });
        read.map_err(|error| of_manifest(name, error))
    }
}

/// What of a manifest is in memory at a time, where it is gone through.
const PIECE: usize = 64 << 10;

/// A file that is read once, from its beginning to its end, and what its name is to be.
struct Hashed {
    file: File,
    name: Sha256,
}

impl io::Read for Hashed {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(into)?;
        self.name.update(into.get(..read).unwrap_or_default());
        Ok(read)
    }
}

impl<B: Backing> SnapshotStore<B> {
    /// The store that this has.
    pub fn over(backing: B) -> Self {
        SnapshotStore {
            backing,
            progress: Progress::default(),
        }
    }

    /// The same store, for the taking of a snapshot of which it is told how far it has come.
    #[must_use]
    pub fn telling(self, progress: &Progress) -> Self {
        SnapshotStore {
            progress: progress.rest(),
            ..self
        }
    }

    /// Takes the content of a disk, which nobody changes meanwhile, encrypted where there is a key. Blocks that are as
    /// in the snapshot `base` are named and not kept again; one that is plain where this is not, or of another key, is
    /// none. It may be called again, with the same outcome.
    ///
    /// # Errors
    /// Those of the disk and of the file system; `InvalidData` where the base is damaged. Then nothing has come to the
    /// store.
    pub fn take(&self, disk: &dyn Source, key: Option<&BlockKey>, base: Option<Digest>) -> io::Result<Taken> {
        let base = base.map(|name| self.manifest(name)).transpose()?;
        let base = base
            .filter(|base| base.key == key.map(BlockKey::check))
            .unwrap_or_default();
        Making::new(&self.backing, &base, disk.size()?, key).run(disk, &self.progress)
    }

    /// Takes the content of a raw file.
    ///
    /// # Errors
    /// As `take`.
    pub fn take_file(&self, disk: &Path, key: Option<&BlockKey>, base: Option<Digest>) -> io::Result<Taken> {
        self.take(&RawDisk::open(disk)?, key, base)
    }

    /// A plain snapshot's content as an encrypted one. It may be called again, with the same outcome.
    ///
    /// # Errors
    /// Those of the file system; `InvalidData` where the snapshot is damaged; `InvalidInput` where it is encrypted.
    /// Then nothing has come to the store.
    pub fn encrypt(&self, name: Digest, key: &BlockKey) -> io::Result<Taken> {
        let manifest = self.manifest(name)?;
        if manifest.key.is_some() {
            let error = io::Error::new(io::ErrorKind::InvalidInput, "it is encrypted already");
            return Err(of_manifest(name, error));
        }
        let content = Content::of(manifest, self.backing.segments(name), None)?;
        self.take(&content, Some(key), None)
    }

    /// Makes a disk of a snapshot, of so many bytes if that is more than it has. Every block is compared with its
    /// digest. An encrypted one needs its key; a plain one is restored as it is, whatever key there is.
    ///
    /// # Errors
    /// Those of the disk and of the file system; `InvalidData` where the snapshot is damaged; `InvalidInput` where it is
    /// encrypted, and not with this key. What was made of the disk stays.
    pub fn restore(
        &self,
        name: Digest,
        key: Option<&BlockKey>,
        disk: &dyn Target,
        bytes: u64,
    ) -> io::Result<()> {
        self.content(name, key)?.write_to(disk, bytes)
    }

    /// Makes a raw file of a snapshot. What has the path is replaced, if the snapshot can be read.
    ///
    /// # Errors
    /// As `restore`.
    pub fn restore_file(
        &self,
        name: Digest,
        key: Option<&BlockKey>,
        disk: &Path,
        bytes: u64,
    ) -> io::Result<()> {
        let content = self.content(name, key)?;
        content.write_to(&RawDisk::create(disk)?, bytes)
    }

    fn content(&self, name: Digest, key: Option<&BlockKey>) -> io::Result<Content<'_>> {
        let read = Content::of(self.manifest(name)?, self.backing.segments(name), key);
        read.map_err(|error| of_manifest(name, error))
    }

    /// Reads a manifest. That of nothing, which is no file, is known by its name.
    ///
    /// # Errors
    /// `NotFound`; `InvalidData` where it is not what its name says.
    pub(crate) fn manifest(&self, name: Digest) -> io::Result<Manifest> {
        if name == Digest::of(b"") {
            return Ok(Manifest::default());
        }
        let bytes = self.backing.manifest(name)?;
        if Digest::of(&bytes) != name {
            return Err(of_manifest(name, not_its_name()));
        }
        Manifest::decode(&bytes).map_err(|error| of_manifest(name, error))
    }
}

fn not_its_name() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "it is not what its name says")
}

/// An error with the manifest that it is about.
fn of_manifest(name: Digest, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("manifest {name}: {error}"))
}
