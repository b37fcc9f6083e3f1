//! What the steps of one round on snapshots share: their rows, their volumes' rows and where those are, read once.

use std::collections::{BTreeSet, HashMap};

use cumulet_domain::{
    Result,
    instance::State,
    time::Timestamp,
    volume::{AttachmentState, VolumeState},
};
use cumulet_journal::{Batch, Failure, Look};
use cumulet_store::{
    batch::load_in,
    entity::{instance, operation, snapshot, volume, volume_attachment},
    snapshots,
};

use crate::{Driver, plug, snapshot::all_of};

/// See the module.
pub struct SnapshotRound {
    pub(crate) driver: Driver,
    pub(crate) now: Timestamp,
    /// By this deadlines are judged.
    by: Timestamp,
    snapshots: HashMap<i64, snapshot::Model>,
    volumes: HashMap<i64, volume::Model>,
    attachments: HashMap<i64, volume_attachment::Model>,
    instances: HashMap<i64, instance::Model>,
    /// By volume: what it is to be made of.
    sources: HashMap<i64, snapshot::Model>,
}

impl std::fmt::Debug for SnapshotRound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SnapshotRound")
            .field("snapshots", &self.snapshots.len())
            .finish_non_exhaustive()
    }
}

impl Batch<Driver> for SnapshotRound {
    async fn load(driver: &Driver, due: &[&operation::Model], look: Look) -> Result<Self> {
        let conn = driver.store.read();
        let mut ids = Vec::new();
        for operation in due {
            ids.extend(all_of(operation)?);
        }
        let snapshots = snapshots::load(conn, &ids).await?;
        let ids: BTreeSet<i64> = snapshots.iter().map(|row| row.volume.to_db()).collect();
        let ids: Vec<i64> = ids.into_iter().collect();
        let volumes = load_in!(conn, volume, Id, &ids);
        let attachments = load_in!(conn, volume_attachment, Volume, &ids);
        let roots = attachments.iter().filter(|row| row.is_root());
        let ids: Vec<i64> = roots.map(|row| row.instance.to_db()).collect();
        let instances = load_in!(conn, instance, Id, &ids);
        let sources = snapshots::sources(conn, &volumes).await?;
        Ok(SnapshotRound {
            driver: driver.clone(),
            now: look.now,
            by: look.by,
            snapshots: snapshots.into_iter().map(|row| (row.id.to_db(), row)).collect(),
            volumes: volumes.into_iter().map(|row| (row.id.to_db(), row)).collect(),
            attachments: attachments
                .into_iter()
                .map(|row| (row.volume.to_db(), row))
                .collect(),
            instances: instances.into_iter().map(|row| (row.id.to_db(), row)).collect(),
            sources,
        })
    }
}

/// Where a volume's content is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// On this host; of an instance's root, which instance's.
    On { host: String, root_of: Option<i64> },
    /// No host has made it: it is what it is to be made of.
    Unmade,
    /// It will be known later.
    Unsettled,
    /// It is gone.
    Gone(Failure),
}

impl SnapshotRound {
    /// Whether an operation's time is over.
    pub(crate) fn is_overdue(&self, operation: &operation::Model) -> bool {
        self.by.0 >= operation.deadline
    }

    /// The snapshots of an operation that are there.
    pub(crate) fn of(&self, operation: &operation::Model) -> Result<Vec<&snapshot::Model>> {
        let all = all_of(operation)?;
        Ok(all.iter().filter_map(|id| self.snapshots.get(id)).collect())
    }

    /// What a snapshot's volume is to be made of, where nobody has made it.
    pub(crate) fn source(&self, row: &snapshot::Model) -> Option<&snapshot::Model> {
        self.sources.get(&row.volume.to_db())
    }

    /// The snapshot that a snapshot's volume was made of.
    pub(crate) fn made_of(&self, row: &snapshot::Model) -> Option<i64> {
        let volume = self.volumes.get(&row.volume.to_db())?;
        volume.snapshot.map(|snapshot| snapshot.to_db())
    }

    /// Where the content of a snapshot's volume is.
    pub(crate) fn content(&self, row: &snapshot::Model) -> Content {
        let volume = self.volumes.get(&row.volume.to_db());
        // One that is being deleted waits for its snapshots, and of one that nobody has made nothing is lost.
        let is_lost =
            |volume: &volume::Model| volume.state.0 == VolumeState::Deleted && volume.made_at.is_some();
        let there = volume.filter(|volume| !is_lost(volume));
        let Some(volume) = there else {
            return gone("the volume has been deleted");
        };
        let attached = self.attachments.get(&row.volume.to_db());
        match (attached, volume.image) {
            (Some(attached), Some(_)) if attached.is_root() => self.root(attached.instance.to_db()),
            (_, Some(_)) => gone("the volume has ended with its instance"),
            (Some(attached), None)
                if attached.state.0 == AttachmentState::Attaching && volume.made_at.is_none() =>
            {
                Content::Unsettled
            }
            (_, None) => match (&volume.host, volume.made_at) {
                (Some(host), Some(_)) => Content::On {
                    host: host.clone(),
                    root_of: None,
                },
                _ => Content::Unmade,
            },
        }
    }

    fn root(&self, id: i64) -> Content {
        let Some(instance) = self.instances.get(&id) else {
            return gone("the instance is gone");
        };
        match (instance.state.0, &instance.host) {
            (State::Running | State::Stopping | State::Stopped, Some(host)) => Content::On {
                host: host.clone(),
                root_of: Some(id),
            },
            (State::ShuttingDown | State::Terminated, _) => gone("the instance has ended"),
            _ => Content::Unsettled,
        }
    }
}

fn gone(why: &str) -> Content {
    Content::Gone(plug::internal(why.into()))
}
