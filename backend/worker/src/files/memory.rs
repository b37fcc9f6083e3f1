//! Files in memory, for the simulator: what the worker writes outlives it as long as this does. Images and disks are
//! their sizes. Nothing of it touches the machine or waits.

use std::{
    collections::BTreeMap,
    io,
    ops::Bound,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use cumulet_certs::DiskKey;
use cumulet_domain::image::ImageRef;
use sha2::{Digest as _, Sha256};

use super::{HostFiles, Log};
use crate::{
    disks::{DiskFile, Disks, May},
    image_cache::ImageSource,
    snapshots::{Content, SnapshotData, Stored, Taking},
};

/// What a name in a directory stands for.
#[derive(Clone, Debug)]
enum Node {
    Dir,
    /// Shared with those who have it open.
    File(Arc<Mutex<Vec<u8>>>),
    /// An image: its length and its hash.
    Image(u64, String),
    /// A disk of so many bytes.
    Disk(u64),
}

/// The files of a host that is simulated. Clones are the same files.
#[derive(Clone, Debug, Default)]
pub struct MemoryFiles(Arc<Mutex<BTreeMap<PathBuf, Node>>>);

fn bytes(file: &Mutex<Vec<u8>>) -> MutexGuard<'_, Vec<u8>> {
    file.lock().unwrap_or_else(PoisonError::into_inner)
}

fn not_found<T>(path: &Path) -> io::Result<T> {
    let words = format!("{} is not there", path.display());
    Err(io::Error::new(io::ErrorKind::NotFound, words))
}

impl MemoryFiles {
    /// An empty host.
    pub fn new() -> Self {
        Self::default()
    }

    fn nodes(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Node>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, path: &Path, node: Node) -> io::Result<()> {
        let mut nodes = self.nodes();
        let parent = path.parent().unwrap_or(Path::new("/"));
        match nodes.get(parent) {
            Some(Node::Dir) => {}
            Some(_) => return Err(io::ErrorKind::NotADirectory.into()),
            None if parent == Path::new("/") => {}
            None => return not_found(parent),
        }
        if let Some(Node::Dir) = nodes.get(path) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        nodes.insert(path.to_owned(), node);
        Ok(())
    }

    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.put(path, Node::File(Arc::new(Mutex::new(bytes.to_vec()))))
    }

    fn file(&self, path: &Path) -> io::Result<Arc<Mutex<Vec<u8>>>> {
        match self.nodes().get(path) {
            Some(Node::File(file)) => Ok(file.clone()),
            Some(_) => Err(io::Error::other("it is no file of the worker's")),
            None => not_found(path),
        }
    }
}

impl HostFiles for MemoryFiles {
    fn may_block(&self) -> bool {
        false
    }

    fn mend(&self) {}

    fn canonical(&self, dir: &Path) -> io::Result<PathBuf> {
        Ok(dir.to_owned())
    }

    fn make_dir(&self, path: &Path, _: Option<u32>) -> io::Result<()> {
        if let Some(Node::Dir) = self.nodes().get(path) {
            return Ok(());
        }
        if self.exists(path)? {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        self.put(path, Node::Dir)
    }

    fn lend(&self, path: &Path, _: Option<u32>) -> io::Result<()> {
        if self.exists(path)? {
            Ok(())
        } else {
            not_found(path)
        }
    }

    fn take_back(&self, _: &Path, _: Option<u32>) -> io::Result<()> {
        Ok(())
    }

    fn close(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        Ok(bytes(&*self.file(path)?).clone())
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.replace(path, bytes)
    }

    fn write_fresh(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.replace(path, bytes)
    }

    fn write_small(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.replace(path, bytes)
    }

    fn write_large(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.replace(path, bytes)
    }

    fn append(&self, path: &Path, more: &[u8]) -> io::Result<()> {
        bytes(&*self.file(path)?).extend_from_slice(more);
        Ok(())
    }

    fn open_log(&self, path: &Path) -> io::Result<Box<dyn Log>> {
        if !self.exists(path)? {
            self.replace(path, &[])?;
        }
        Ok(Box::new(MemoryLog(self.file(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let Some(node) = self.nodes().get(from).cloned() else {
            return not_found(from);
        };
        self.put(to, node)?;
        self.remove(from)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut nodes = self.nodes();
        match nodes.get(path) {
            Some(Node::Dir) => Err(io::ErrorKind::IsADirectory.into()),
            Some(_) => {
                nodes.remove(path);
                Ok(())
            }
            None => not_found(path),
        }
    }

    fn remove_both(&self, path: &Path) -> io::Result<()> {
        match self.remove(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let mut nodes = self.nodes();
        // Paths are in the order of their parts: what is in a directory follows it.
        let below = nodes
            .range::<Path, _>((Bound::Included(path), Bound::Unbounded))
            .map(|(name, _)| name);
        let gone: Vec<_> = below.take_while(|name| name.starts_with(path)).cloned().collect();
        for name in gone {
            nodes.remove(&name);
        }
        Ok(())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        Ok(self.nodes().contains_key(path))
    }

    fn names(&self, dir: &Path) -> io::Result<Vec<String>> {
        let nodes = self.nodes();
        let below = nodes
            .range::<Path, _>((Bound::Included(dir), Bound::Unbounded))
            .map(|(path, _)| path);
        let below = below.take_while(|path| path.starts_with(dir));
        let here = below.filter(|path| path.parent() == Some(dir));
        Ok(here
            .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
            .collect())
    }

    fn own_bytes(&self, path: &Path) -> io::Result<u64> {
        match self.nodes().get(path) {
            Some(Node::File(file)) => Ok(bytes(file).len() as u64),
            Some(Node::Image(length, _) | Node::Disk(length)) => Ok(*length),
            Some(Node::Dir) => Ok(0),
            None => not_found(path),
        }
    }

    fn sync(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn disk_bytes(&self, path: &Path) -> io::Result<Option<u64>> {
        match self.nodes().get(path) {
            Some(Node::Disk(bytes)) => Ok(Some(*bytes)),
            Some(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "it is no disk")),
            None => Ok(None),
        }
    }

    fn digest(&self, path: &Path) -> io::Result<(u64, String)> {
        match self.nodes().get(path) {
            Some(Node::File(file)) => {
                let file = bytes(file);
                Ok((file.len() as u64, hex::encode(Sha256::digest(&*file))))
            }
            Some(Node::Image(length, hash)) => Ok((*length, hash.clone())),
            Some(_) => Err(io::ErrorKind::IsADirectory.into()),
            None => not_found(path),
        }
    }

    fn cut(&self, path: &Path, limit: u64) -> bool {
        let long = self.file(path).ok();
        let long = long.filter(|file| bytes(file).len() as u64 > limit);
        long.is_some_and(|file| {
            bytes(&file).clear();
            true
        })
    }
}

#[derive(Debug)]
struct MemoryLog(Arc<Mutex<Vec<u8>>>);

impl Log for MemoryLog {
    fn add(&mut self, more: &[u8]) -> io::Result<()> {
        bytes(&self.0).extend_from_slice(more);
        Ok(())
    }
}

/// Images and disks among files in memory: every image can be had, and a disk is the size that it was made with.
#[derive(Clone, Debug)]
pub struct MemoryDisks {
    files: MemoryFiles,
    capacity_gib: u64,
}

impl MemoryDisks {
    /// Disks of a host that has room for so much.
    pub fn new(files: MemoryFiles, capacity_gib: u64) -> Self {
        MemoryDisks { files, capacity_gib }
    }
}

#[async_trait]
impl ImageSource for MemoryDisks {
    async fn fetch(&self, image: &ImageRef, dest: &Path) -> io::Result<()> {
        let node = Node::Image(image.size_bytes, image.sha256.clone());
        self.files.put(dest, node)
    }
}

#[async_trait]
impl Disks for MemoryDisks {
    fn uses_images(&self) -> bool {
        true
    }

    async fn ensure(&self, disk: &DiskFile<'_>, may: May) -> io::Result<bool> {
        let found = self.files.nodes().get(disk.path).cloned();
        match found {
            Some(Node::Disk(bytes)) => {
                if may.grow && bytes < disk.bytes {
                    self.files.put(disk.path, Node::Disk(disk.bytes))?;
                }
                Ok(true)
            }
            Some(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "it is no disk")),
            None if !may.make => Ok(false),
            None => {
                if let Some((image, _)) = disk.image
                    && !self.files.exists(image)?
                {
                    return not_found(image);
                }
                self.files.put(disk.path, Node::Disk(disk.bytes))?;
                Ok(true)
            }
        }
    }

    async fn make(&self, disk: &DiskFile<'_>) -> io::Result<()> {
        self.files.put(disk.path, Node::Disk(disk.bytes))
    }

    async fn flatten(&self, disk: &DiskFile<'_>) -> io::Result<()> {
        match (self.files.exists(disk.path)?, disk.image) {
            (false, _) => not_found(disk.path),
            // What it lies over has to be here until then.
            (true, Some((image, _))) if !self.files.exists(image)? => not_found(image),
            (true, _) => Ok(()),
        }
    }

    async fn copy(&self, disk: &DiskFile<'_>, copy: &Path) -> io::Result<()> {
        let found = self.files.nodes().get(disk.path).cloned();
        match found {
            Some(node @ Node::Disk(_)) => self.files.put(copy, node),
            _ => not_found(disk.path),
        }
    }

    async fn capacity_gib(&self, _: &[PathBuf]) -> io::Result<u64> {
        Ok(self.capacity_gib)
    }
}

/// Snapshots of disks in memory: which disk it was, is all that there is of it.
#[async_trait]
impl SnapshotData for MemoryDisks {
    async fn take(&self, _: &Taking, disk: Content<'_>, _: Option<&str>) -> io::Result<Stored> {
        let path = match disk {
            Content::Plain(path) => path,
            Content::Encrypted(..) => Path::new("encrypted"),
            Content::Served(_) => Path::new("served"),
        };
        let manifest = hex::encode(Sha256::digest(path.as_os_str().as_encoded_bytes()));
        Ok(Stored {
            manifest,
            fresh_bytes: 0,
            bytes: 0,
        })
    }

    async fn encrypt(&self, _: &Taking, manifest: &str, _: &DiskKey) -> io::Result<Stored> {
        Ok(Stored {
            manifest: hex::encode(Sha256::digest(format!("encrypted {manifest}"))),
            fresh_bytes: 0,
            bytes: 0,
        })
    }

    async fn restore(&self, _: &str, disk: Content<'_>, bytes: u64) -> io::Result<()> {
        match disk {
            Content::Plain(path) => self.files.put(path, Node::Disk(bytes)),
            // It is there.
            Content::Encrypted(..) | Content::Served(_) => Ok(()),
        }
    }
}
