//! The backing that is a directory of this machine, or one that several have in common.

use std::{
    collections::HashMap,
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use crate::{
    backing::{Backing, NewSegment, Segments},
    files::{Place, Written, create, named, partial, publish, read_block},
    manifest::{BLOCK, Digest},
};

/// See the module.
#[derive(Clone, Debug)]
pub struct Directory {
    pub(crate) place: Place,
}

impl Directory {
    pub(crate) fn at(dir: &Path) -> Self {
        Directory {
            place: Place::in_dir(dir),
        }
    }
}

impl Backing for Directory {
    type New = NewFile;

    fn manifest(&self, name: Digest) -> io::Result<Vec<u8>> {
        let path = self.place.manifest(name);
        std::fs::read(&path).map_err(|error| named(error, &path))
    }

    fn segments(&self, _: Digest) -> Box<dyn Segments + '_> {
        Box::new(Files {
            place: &self.place,
            open: HashMap::new(),
        })
    }

    fn begin(&self) -> io::Result<NewFile> {
        let path = partial(&self.place.segments.join("segment"));
        let file = create(&path)?;
        Ok(NewFile { file, path, slots: 0 })
    }

    /// The segment first, then the manifest that names it. Both are written before either has its name, so that a
    /// directory that is full has nothing of them.
    fn publish(&self, segment: Option<(NewFile, Digest)>, name: Digest, manifest: &[u8]) -> io::Result<()> {
        let path = self.place.manifest(name);
        let written = Written::new(&path, manifest)?;
        if let Some((new, name)) = segment {
            publish(&new.file, &new.path, &self.place.segment(name))?;
        }
        written.publish(&path)
    }
}

/// So many blocks, 8 MiB, are on the disk before more are written: a flush of a guest's waits for what the file system
/// has not written of others' files, and so never for a whole segment.
const WRITTEN_AHEAD: u64 = 16;

/// The file of a segment that is being written. A segment that has its name stays: another snapshot may have brought
/// the same blocks. A sweep knows.
#[derive(Debug)]
pub struct NewFile {
    file: File,
    path: PathBuf,
    slots: u64,
}

impl NewSegment for NewFile {
    fn add(&mut self, content: &[u8]) -> io::Result<()> {
        self.file.write_all_at(content, self.slots * BLOCK)?;
        self.slots += 1;
        if self.slots.is_multiple_of(WRITTEN_AHEAD) {
            self.file.sync_data()?;
        }
        Ok(())
    }
}

impl Drop for NewFile {
    /// After it got its name there is nothing of its own any more.
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.path.display(), %error, "what was written of a snapshot can't be removed");
        }
    }
}

/// Segments that are read, open.
struct Files<'p> {
    place: &'p Place,
    open: HashMap<Digest, File>,
}

/// Segments that are kept open at once: a chain of as many snapshots has that many.
const OPEN: usize = 64;

impl Segments for Files<'_> {
    fn read(&mut self, segment: Digest, slot: u32, into: &mut [u8]) -> io::Result<()> {
        if self.open.len() >= OPEN && !self.open.contains_key(&segment) {
            self.open.clear();
        }
        let file = match self.open.entry(segment) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => {
                let path = self.place.segment(segment);
                entry.insert(File::open(&path).map_err(|error| named(error, &path))?)
            }
        };
        read_block(file, u64::from(slot) * BLOCK, into)
    }
}
