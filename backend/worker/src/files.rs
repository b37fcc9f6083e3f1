//! Where a worker keeps what, and how it writes it: whole files, atomically replaced. Nothing is synced:
//! what a power failure takes is told again by the control plane.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use cumulet_domain::id::{HostId, InstanceId, VpcId};

use crate::WorkerError;

/// The directories and files of one host.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Makes the directories. Guests run as a user of their own, who may pass through these directories
    /// and read none of them.
    pub(crate) fn make(state_dir: &Path, host: &HostId) -> Result<Layout, WorkerError> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        if host.0.is_empty() || host.0.len() > 64 || host.0.starts_with('.') || !host.0.bytes().all(plain) {
            return Err(WorkerError::HostName(host.0.clone()));
        }
        let state_dir = fs::canonicalize(state_dir).map_err(|e| failed(state_dir, e))?;
        let root = state_dir.join("hosts").join(&host.0);
        for dir in [
            state_dir.join("hosts"),
            root.clone(),
            root.join("cache"),
            root.join("instances"),
            root.join("vpcs"),
        ] {
            make_dir(&dir).map_err(|e| failed(&dir, e))?;
        }
        Ok(Layout { root })
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

/// An error of a file, with its path.
pub(crate) fn failed(path: &Path, source: io::Error) -> WorkerError {
    WorkerError::Files {
        path: path.to_owned(),
        source,
    }
}

/// Makes a directory that others may pass through; one that is there is fine.
pub(crate) fn make_dir(path: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o711).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// Replaces a file as a whole. Only the worker reads it.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use io::Write as _;

    let fresh = path.with_extension("new");
    let mut options = fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)?;
    file.write_all(bytes)?;
    drop(file);
    fs::rename(&fresh, path)
}

/// Does something that may block on a thread that may.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error)))
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
