//! The grants of the stores that commands have brought: in memory alone. Whatever a command needs comes again with it.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use cumulet_domain::{id::SnapshotId, message::Command, spec::InstanceSpec, storage::StorageNeeds};

/// What is granted, one by one. More than a host needs at a time; beyond, all are forgotten.
const MANY: usize = 1 << 16;

/// Something of the stores.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Of {
    /// An image's file, by its SHA-256.
    Image(String),
    /// A manifest and its segments, by its SHA-256.
    Manifest(String),
    /// A snapshot that is brought.
    Snapshot(SnapshotId),
}

impl std::fmt::Display for Of {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Of::Image(digest) => write!(f, "the image {digest}"),
            Of::Manifest(digest) => write!(f, "the snapshot {digest}"),
            Of::Snapshot(id) => id.fmt(f),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Grants(Option<Mutex<HashMap<Of, Arc<str>>>>);

impl Grants {
    /// None given so far.
    pub fn new() -> Arc<Self> {
        Arc::new(Grants(Some(Mutex::default())))
    }

    /// Of a host that needs none: it has the stores' directories.
    pub fn unneeded() -> Arc<Self> {
        Arc::new(Grants(None))
    }

    fn given(&self) -> Option<MutexGuard<'_, HashMap<Of, Arc<str>>>> {
        let given = self.0.as_ref()?;
        Some(given.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Keeps what a command has brought.
    pub(crate) fn take(&self, command: &Command) {
        if let Some(grant) = &command.storage {
            self.keep(StorageNeeds::of(command), grant);
        }
    }

    /// Keeps the grant of what is needed.
    pub fn keep(&self, needs: StorageNeeds, grant: &str) {
        let Some(mut given) = self.given() else {
            return;
        };
        if given.len() >= MANY {
            given.clear();
        }
        let grant: Arc<str> = grant.into();
        given.extend(all(needs).map(|of| (of, grant.clone())));
    }

    /// The grant of something.
    ///
    /// # Errors
    /// `PermissionDenied` where none has been given.
    pub(super) fn of(&self, of: &Of) -> io::Result<Arc<str>> {
        let grant = self.given().and_then(|given| given.get(of).cloned());
        grant.ok_or_else(|| {
            let why = format!("the host has not been granted {of}");
            io::Error::new(io::ErrorKind::PermissionDenied, why)
        })
    }

    /// Whether all is granted that a specification may need.
    pub(crate) fn has_all(&self, spec: &InstanceSpec) -> bool {
        let Some(given) = self.given() else {
            return true;
        };
        all(StorageNeeds::of_spec(spec)).all(|of| given.contains_key(&of))
    }
}

fn all(needs: StorageNeeds) -> impl Iterator<Item = Of> {
    let images = needs.images.into_iter().map(Of::Image);
    let manifests = needs.manifests.into_iter().map(Of::Manifest);
    let snapshots = needs.snapshots.into_iter().map(Of::Snapshot);
    images.chain(manifests).chain(snapshots)
}
