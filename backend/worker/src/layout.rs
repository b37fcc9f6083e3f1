//! The layout of a host's directories: where each of the worker's files is, and whom it is open to. Everything that
//! reads or writes them goes by it, on threads that may block.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use cumulet_domain::{
    host::check_host_name,
    id::{HostId, InstanceId, SnapshotId, VolumeId, VpcId},
    image::DiskFormat,
    snapshot::is_digest,
};

use crate::{
    WorkerError,
    blocking::{at_once, blocking, copying},
    files::HostFiles,
};

/// The copy of a disk.
pub(crate) const COPY: &str = "copy";

/// A file of a volume that is not there as a whole yet.
pub(crate) const PARTIAL: &str = "new";

/// The directories and files of one host.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) files: Arc<dyn HostFiles>,
    root: PathBuf,
    /// Whom directories that guests' processes pass through are open to: a group that all of them are in, besides root.
    guests: Option<u32>,
}

impl Layout {
    /// Where a host's directories are, whether they are there or not.
    pub(crate) fn of(
        files: Arc<dyn HostFiles>,
        state_dir: &Path,
        host: &HostId,
    ) -> Result<Layout, WorkerError> {
        if check_host_name(&host.0).is_err() {
            return Err(WorkerError::HostName(host.0.clone()));
        }
        let state_dir = files.canonical(state_dir).map_err(|e| failed(state_dir, e))?;
        let root = state_dir.join("hosts").join(&host.0);
        Ok(Layout {
            files,
            root,
            guests: None,
        })
    }

    /// Makes the directories. Guests run as users of their own, whose group may pass through some of these
    /// directories and read none of them; nobody else may anything.
    pub(crate) fn make(
        files: Arc<dyn HostFiles>,
        state_dir: &Path,
        host: &HostId,
        group: Option<u32>,
    ) -> Result<Layout, WorkerError> {
        let Layout { files, root, .. } = Layout::of(files, state_dir, host)?;
        let hosts = root.parent().unwrap_or(&root);
        for dir in [
            hosts.to_owned(),
            root.clone(),
            root.join("cache"),
            root.join("instances"),
            root.join("volumes"),
        ] {
            files.make_dir(&dir, group).map_err(|e| failed(&dir, e))?;
        }
        let vpcs = root.join("vpcs");
        files.make_dir(&vpcs, None).map_err(|e| failed(&vpcs, e))?;
        Ok(Layout {
            files,
            root,
            guests: group,
        })
    }

    /// The host's own directory.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Does something with the files, on a thread that may block if they may.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn HostFiles) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let files = self.files.clone();
        match files.may_block() {
            true => blocking(move || work(&*files)).await,
            false => work(&*files),
        }
    }

    /// The same for what reads a whole disk, on a thread that nothing small waits for.
    pub(crate) async fn copying<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn HostFiles) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let files = self.files.clone();
        match self.files.may_block() {
            true => copying(move || work(&*files)).await,
            false => work(&*files),
        }
    }

    /// Does what no disk keeps (the kernel's own files), on a thread of its own where files may block.
    pub(crate) async fn at_once<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        match self.files.may_block() {
            true => at_once(work).await,
            false => work(),
        }
    }

    /// Makes an instance's directory.
    pub(crate) fn make_instance(&self, id: InstanceId) -> io::Result<()> {
        self.files.make_dir(&self.instance(id), self.guests)
    }

    /// Keeps the specification of an instance. Its directory stays open for the guest's passage: a guest that runs
    /// opens what is plugged in later.
    pub(crate) fn keep_spec(&self, id: InstanceId, text: &[u8]) -> io::Result<()> {
        self.make_instance(id)?;
        self.files.write(&self.spec(id), text)
    }

    /// Closes what an earlier version left open: disks and consoles of instances, and images.
    pub(crate) fn close(&self) -> io::Result<()> {
        for name in self.files.names(&self.instances())? {
            let Ok(id) = name.parse::<InstanceId>() else {
                continue;
            };
            self.make_instance(id)?;
            for file in [self.disk(id), self.console(id)] {
                self.files.close(&file)?;
            }
        }
        for name in self.files.names(&self.cache())? {
            let path = self.cache().join(&name);
            if is_digest(&name) {
                self.lend(&path)?;
            }
        }
        Ok(())
    }

    /// Takes a file back from the guest that had it: it is root's alone. One that is not there is fine.
    pub(crate) fn take_back(&self, path: &Path) -> io::Result<()> {
        self.files.take_back(path, self.guests)
    }

    /// Lets guests' processes read a file, which is root's.
    pub(crate) fn lend(&self, path: &Path) -> io::Result<()> {
        self.files.lend(path, self.guests)
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
        let partial = self.volumes().join(format!("{id}.{}", PARTIAL));
        [
            self.volume(id, DiskFormat::Qcow2),
            self.volume(id, DiskFormat::Raw),
            partial,
        ]
    }

    /// The copy of a disk while a snapshot is taken of it: in the directory of the instance whose guest makes it, or
    /// whose root it is, else among the volumes.
    pub(crate) fn copy(&self, instance: Option<InstanceId>, snapshot: SnapshotId) -> PathBuf {
        let dir = instance.map_or_else(|| self.volumes(), |id| self.instance(id));
        dir.join(format!("{snapshot}.{COPY}"))
    }

    pub(crate) fn volume_tombstones(&self) -> PathBuf {
        self.root.join("volume-tombstones")
    }

    /// What an instance's UEFI keeps.
    pub(crate) fn nvram(&self, id: InstanceId) -> PathBuf {
        self.instance(id).join("nvram.fd")
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

/// The snapshot whose copy of a disk this is, whole or not, by its name.
pub(crate) fn copy_of(path: &Path) -> Option<SnapshotId> {
    let is_copy = path
        .extension()
        .is_some_and(|kind| kind == COPY || kind == PARTIAL);
    path.file_stem()?.to_str()?.parse().ok().filter(|_| is_copy)
}

/// An error of a file, with its path.
pub(crate) fn failed(path: &Path, source: io::Error) -> WorkerError {
    WorkerError::Files {
        path: path.to_owned(),
        source,
    }
}
