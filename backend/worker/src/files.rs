//! The worker's files: their layout, whom they are open to, and atomic replacement of whole files. Nothing is synced:
//! what a power failure takes is told again by the control plane.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _, chown},
    path::{Path, PathBuf},
};

use cumulet_domain::{
    host::check_host_name,
    id::{HostId, InstanceId, VolumeId, VpcId},
    image::DiskFormat,
};

use crate::WorkerError;

/// The directories and files of one host.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    root: PathBuf,
    guests: Guests,
}

/// Whom directories that guests' processes pass through are open to: a group that all of them are in, besides root.
#[derive(Clone, Copy, Debug)]
struct Guests(Option<u32>);

impl Guests {
    /// Makes a directory that guests may pass through and none but root read; one that is there becomes so.
    fn passage(self, path: &Path) -> io::Result<()> {
        let Some(group) = self.0 else {
            return make_dir(path);
        };
        directory(path, 0o710)?;
        chown(path, Some(0), Some(group))
    }
}

impl Layout {
    /// Where a host's directories are, whether they are there or not.
    pub(crate) fn of(state_dir: &Path, host: &HostId) -> Result<Layout, WorkerError> {
        if check_host_name(&host.0).is_err() {
            return Err(WorkerError::HostName(host.0.clone()));
        }
        let state_dir = fs::canonicalize(state_dir).map_err(|e| failed(state_dir, e))?;
        let root = state_dir.join("hosts").join(&host.0);
        let guests = Guests(None);
        Ok(Layout { root, guests })
    }

    /// Makes the directories. Guests run as users of their own, whose group may pass through some of these
    /// directories and read none of them; nobody else may anything.
    pub(crate) fn make(state_dir: &Path, host: &HostId, group: Option<u32>) -> Result<Layout, WorkerError> {
        let Layout { root, .. } = Layout::of(state_dir, host)?;
        let (guests, hosts) = (Guests(group), root.parent().unwrap_or(&root));
        for dir in [
            hosts.to_owned(),
            root.clone(),
            root.join("cache"),
            root.join("instances"),
            root.join("volumes"),
        ] {
            guests.passage(&dir).map_err(|e| failed(&dir, e))?;
        }
        let vpcs = root.join("vpcs");
        make_dir(&vpcs).map_err(|e| failed(&vpcs, e))?;
        Ok(Layout { root, guests })
    }

    /// Makes an instance's directory.
    pub(crate) fn make_instance(&self, id: InstanceId) -> io::Result<()> {
        self.guests.passage(&self.instance(id))
    }

    /// Keeps the specification of an instance. Its directory stays open for the guest's passage: a guest that runs
    /// opens what is plugged in later.
    pub(crate) fn keep_spec(&self, id: InstanceId, text: &[u8]) -> io::Result<()> {
        self.make_instance(id)?;
        write(&self.spec(id), text)
    }

    /// Closes what an earlier version left open: disks and consoles of instances, and images.
    pub(crate) fn close(&self) -> io::Result<()> {
        for name in names(&self.instances())? {
            let Ok(id) = name.parse::<InstanceId>() else {
                continue;
            };
            self.make_instance(id)?;
            for file in [self.disk(id), self.console(id)] {
                only_owners(&file, 0o600)?;
            }
        }
        for name in names(&self.cache())? {
            let path = self.cache().join(&name);
            if crate::prune::is_hash(&name) {
                self.lend(&path)?;
            }
        }
        Ok(())
    }

    /// Takes a file back from the guest that had it: it is root's alone. One that is not there is fine.
    pub(crate) fn take_back(&self, path: &Path) -> io::Result<()> {
        let taken = match self.guests {
            Guests(Some(_)) => chown(path, Some(0), Some(0)),
            // Without users of their own guests' files are whoever's the hypervisor makes them.
            Guests(None) => Ok(()),
        };
        match taken {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(()) => only_owners(path, 0o600),
        }
    }

    /// Lets guests' processes read a file, which is root's.
    pub(crate) fn lend(&self, path: &Path) -> io::Result<()> {
        if let Guests(Some(group)) = self.guests {
            chown(path, Some(0), Some(group))?;
        }
        fs::set_permissions(path, fs::Permissions::from_mode(0o440))
    }

    pub(crate) fn cache(&self) -> PathBuf {
        self.root.join("cache")
    }

    pub(crate) fn instances(&self) -> PathBuf {
        self.root.join("instances")
    }

    pub(crate) fn instance(&self, id: InstanceId) -> PathBuf {
        self.root.join("instances").join(id.to_string())
    }

    pub(crate) fn record(&self, id: InstanceId) -> PathBuf {
        self.instance(id).join("record.json")
    }

    pub(crate) fn spec(&self, id: InstanceId) -> PathBuf {
        self.instance(id).join("spec.json")
    }

    pub(crate) fn disk(&self, id: InstanceId) -> PathBuf {
        self.instance(id).join("disk.qcow2")
    }

    /// A disk of an instance's own beside its root.
    pub(crate) fn own_disk(&self, id: InstanceId, volume: VolumeId) -> PathBuf {
        self.instance(id).join(format!("{volume}.qcow2"))
    }

    pub(crate) fn volumes(&self) -> PathBuf {
        self.root.join("volumes")
    }

    /// The file of a volume that outlives the instances that it is attached to.
    pub(crate) fn volume(&self, id: VolumeId, format: DiskFormat) -> PathBuf {
        self.volumes().join(format!("{id}.{}", format.name()))
    }

    /// Every file that there may be of a volume, the one that is not whole yet last.
    pub(crate) fn volume_files(&self, id: VolumeId) -> [PathBuf; 3] {
        let partial = self.volumes().join(format!("{id}.{}", crate::volumes::PARTIAL));
        [
            self.volume(id, DiskFormat::Qcow2),
            self.volume(id, DiskFormat::Raw),
            partial,
        ]
    }

    pub(crate) fn volume_tombstones(&self) -> PathBuf {
        self.root.join("volume-tombstones")
    }

    pub(crate) fn console(&self, id: InstanceId) -> PathBuf {
        self.instance(id).join("console.log")
    }

    pub(crate) fn vpcs(&self) -> PathBuf {
        self.root.join("vpcs")
    }

    pub(crate) fn policy(&self, vpc: VpcId) -> PathBuf {
        self.root.join("vpcs").join(format!("{vpc}.json"))
    }

    pub(crate) fn tombstones(&self) -> PathBuf {
        self.root.join("tombstones")
    }
}

/// The volume whose file this is, by its name.
pub(crate) fn volume_of(path: &Path) -> Option<VolumeId> {
    path.file_stem()?.to_str()?.parse().ok()
}

/// An error of a file, with its path.
pub(crate) fn failed(path: &Path, source: io::Error) -> WorkerError {
    WorkerError::Files {
        path: path.to_owned(),
        source,
    }
}

/// Makes a directory that is nobody else's; one that is there becomes so.
pub(crate) fn make_dir(path: &Path) -> io::Result<()> {
    directory(path, 0o700)
}

/// A directory of this mode, whatever the process's mask is.
fn directory(path: &Path, mode: u32) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// Sets a file's mode, whoever owns it; one that is not there is fine.
pub(crate) fn only_owners(path: &Path, mode: u32) -> io::Result<()> {
    match fs::set_permissions(path, fs::Permissions::from_mode(mode)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Replaces a file as a whole. Only the worker reads it.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let fresh = path.with_extension("new");
    write_fresh(&fresh, bytes)?;
    fs::rename(&fresh, path)
}

/// Writes a file that nobody takes for whole before something else is there.
pub(crate) fn write_fresh(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use io::Write as _;

    let mut options = fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)
}

/// What the kernel writes at once: a process that is killed has written all of it or nothing.
const PAGE: u64 = 4096;

/// Replaces a small file that is replaced often, in its place where that is whole or not at all. (A file
/// that takes another's place costs an inode each time, and file systems that look for one that is not
/// recently deleted then spend more on that than on all the rest of a launch.) Spaces may follow the content.
pub(crate) fn write_small(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::FileExt as _;

    let file = match fs::OpenOptions::new().write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return write(path, bytes),
        other => other?,
    };
    let long = file.metadata()?.len();
    if long.max(bytes.len() as u64) > PAGE {
        return write(path, bytes);
    }
    let mut padded = bytes.to_vec();
    padded.resize(bytes.len().max(usize::try_from(long).unwrap_or(0)), b' ');
    file.write_all_at(&padded, 0)
}

/// Replaces a large file that is replaced often: the file before stays beside it, for the next time.
/// [`remove_both`] removes it too.
pub(crate) fn write_large(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

    if !path.try_exists()? {
        return write(path, bytes);
    }
    let fresh = path.with_extension("new");
    write_fresh(&fresh, bytes)?;
    match renameat2(AT_FDCWD, &fresh, AT_FDCWD, path, RenameFlags::RENAME_EXCHANGE) {
        Ok(()) => Ok(()),
        // Not every file system can do that.
        Err(_) => fs::rename(&fresh, path),
    }
}

/// Removes what [`write_large`] made; nothing there is fine.
pub(crate) fn remove_both(path: &Path) -> io::Result<()> {
    [path, &path.with_extension("new")]
        .into_iter()
        .try_for_each(remove_file)
}

/// Removes a file; one that is not there is fine.
pub(crate) fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The names in a directory; none if it is not there.
pub(crate) fn names(dir: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut names = Vec::new();
    for entry in entries {
        if let Ok(name) = entry?.file_name().into_string() {
            names.push(name);
        }
    }
    Ok(names)
}

/// Removes a directory and all in it; one that is not there is fine.
pub(crate) fn remove_dir(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;
    use crate::testing::instance;

    /// A change of metadata once shut the guest's own user out.
    #[test]
    fn a_guest_passes_through_its_directory_also_after_its_specification_was_kept_again() {
        let dir = tempfile::tempdir().unwrap();
        if fs::metadata(dir.path()).unwrap().uid() != 0 {
            return; // only root gives directories to groups
        }
        let layout = Layout::make(dir.path(), &HostId("one".into()), Some(4711)).unwrap();
        layout.make_instance(instance(1)).unwrap();
        for text in [&b"{}"[..], b"[]"] {
            layout.keep_spec(instance(1), text).unwrap();
            let found = fs::metadata(layout.instance(instance(1))).unwrap();
            assert_eq!((found.mode() & 0o7777, found.gid()), (0o710, 4711));
        }
        assert_eq!(fs::read(layout.spec(instance(1))).unwrap(), b"[]");
    }

    #[test]
    fn small_files_are_replaced_in_place_and_large_ones_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record.json");
        let inode = || fs::metadata(&path).unwrap().ino();
        let value = || serde_json::from_slice::<Vec<u32>>(&fs::read(&path).unwrap()).unwrap();
        write_small(&path, b"[1,2,3]").unwrap();
        let first = inode();
        for (text, expected) in [(&b"[4]"[..], vec![4]), (b"[5,6,7,8]", vec![5, 6, 7, 8])] {
            write_small(&path, text).unwrap();
            assert_eq!((value(), inode()), (expected, first));
        }
        let long = serde_json::to_vec(&vec![7_u32; 4096]).unwrap();
        write_small(&path, &long).unwrap();
        assert_ne!(inode(), first, "more than a page is not written at once");
        for text in [&b"[1]"[..], b"[2]", b"[3]"] {
            write_large(&path, text).unwrap();
            assert_eq!(fs::read(&path).unwrap(), text);
        }
        remove_both(&path).unwrap();
        remove_both(&path).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
