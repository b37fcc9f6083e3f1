//! What the steps of one round on snapshots share: their rows, their volumes' rows and where those are, read once.

use std::collections::{BTreeSet, HashMap};

use cumulet_domain::{
    Result,
    instance::State,
    snapshot::NO_VOLUME,
    time::Timestamp,
    volume::{AttachmentState, VolumeState},
};
use cumulet_journal::{Batch, Failure, Look};
use cumulet_scheduler::heard_after;
use cumulet_store::{
    batch::load_in,
    entity::{instance, operation, snapshot, volume, volume_attachment},
    snapshots,
};

use crate::{
    Driver,
    keepers::Keepers,
    plug,
    snapshot::{all_of, is_pending},
};

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
    /// Hosts that can encrypt, in their order, where something is to be encrypted.
    encrypting: Vec<String>,
    keepers: Keepers,
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
        let encrypting = match snapshots.iter().any(|row| plain(row).is_some()) {
            true => snapshots::encrypting(conn, heard_after(look.now)).await?,
            false => Vec::new(),
        };
        let ids: BTreeSet<i64> = snapshots.iter().map(|row| row.volume.to_db()).collect();
        let ids: Vec<i64> = ids.into_iter().collect();
        let volumes = load_in!(conn, volume, Id, &ids);
        let keepers = Keepers::load(conn, &volumes, look.now).await?;
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
            encrypting,
            keepers,
        })
    }
}

/// Where a volume's content is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// On this host; of an instance's root, which instance's.
    On { host: String, root_of: Option<i64> },
    /// In the store that hosts share, and no guest has it: any host takes it that reaches that.
    Shared,
    /// No host has made it: it is what it is to be made of.
    Unmade,
    /// It is that of the plain snapshot with this manifest, to be encrypted by whatever host.
    Plain(String),
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
        let volume = self.volume(row)?;
        volume.snapshot.map(|snapshot| snapshot.to_db())
    }

    /// The host that encrypts what an operation's snapshots are made of: the one that was told, as long as it can; each
    /// operation has its own first, and after a failure the next.
    pub(crate) fn encrypting(&self, operation: &operation::Model) -> Result<Option<&String>> {
        let rows = self.of(operation)?;
        let told = |host: &&String| rows.iter().any(|row| row.host.as_ref() == Some(host));
        if let Some(host) = self.encrypting.iter().find(told) {
            return Ok(Some(host));
        }
        let turn = operation.subject().1.unsigned_abs() + u64::from(operation.attempts.0);
        let nth = turn.checked_rem(self.encrypting.len() as u64);
        Ok(nth.and_then(|nth| self.encrypting.get(usize::try_from(nth).ok()?)))
    }

    /// The host that takes snapshots of volumes that no guest has, where it need not be another one: that which keeps the
    /// first of them.
    pub(crate) fn keeper(&self, rows: &[&snapshot::Model]) -> Option<&str> {
        let volume = self.volume(rows.first()?)?;
        self.keepers.of(volume, volume.host.as_deref()?)
    }

    /// A snapshot's volume.
    pub(crate) fn volume(&self, row: &snapshot::Model) -> Option<&volume::Model> {
        self.volumes.get(&row.volume.to_db())
    }

    /// Where a snapshot's content is.
    pub(crate) fn content(&self, row: &snapshot::Model) -> Content {
        // A copy has nothing but what it is a copy of.
        let content = match row.volume.0 == NO_VOLUME {
            true => Content::Unmade,
            false => self.content_of_volume(row),
        };
        match (content, plain(row)) {
            (Content::Unmade, Some(manifest)) => Content::Plain(manifest.to_owned()),
            (content, _) => content,
        }
    }

    /// Where the content of a snapshot's volume is.
    fn content_of_volume(&self, row: &snapshot::Model) -> Content {
        let volume = self.volume(row);
        // One that is being deleted waits for its snapshots, and of one that nobody has made nothing is lost.
        let is_lost =
            |volume: &volume::Model| volume.state.0 == VolumeState::Deleted && volume.made_at.is_some();
        let there = volume.filter(|volume| !is_lost(volume));
        let Some(volume) = there else {
            return gone("the volume has been deleted");
        };
        let attached = self.attachments.get(&row.volume.to_db());
        match (attached, volume.image) {
            (Some(attached), Some(_)) if attached.is_root() => self.root(attached),
            (None, Some(_)) if volume.host.is_none() => gone("the volume has ended with its instance"),
            // Nobody has made it, or it may be on its way to another host.
            (Some(attached), _)
                if attached.state.0 == AttachmentState::Attaching
                    && (volume.made_at.is_none() || volume.is_shared()) =>
            {
                Content::Unsettled
            }
            (attached, _) => match (&volume.host, volume.made_at) {
                (Some(_), Some(_)) if volume.is_shared() && attached.is_none() => Content::Shared,
                (Some(host), Some(_)) => Content::On {
                    host: host.clone(),
                    root_of: None,
                },
                _ => Content::Unmade,
            },
        }
    }

    fn root(&self, attached: &volume_attachment::Model) -> Content {
        let id = attached.instance.to_db();
        let Some(instance) = self.instances.get(&id) else {
            return gone("the instance is gone");
        };
        match (instance.state.0, &instance.host) {
            (State::Running | State::Stopping | State::Stopped, Some(host)) => Content::On {
                host: host.clone(),
                root_of: Some(id),
            },
            // It is a volume of the host's when its instance has ended.
            (State::ShuttingDown, Some(_)) if !attached.delete_on_termination.0 => Content::Unsettled,
            (State::ShuttingDown | State::Terminated, _) => gone("the instance has ended"),
            _ => Content::Unsettled,
        }
    }
}

/// The manifest that an encrypted snapshot has as its base while it is taken. As long as no host has its volume, or where
/// it has none, that is the plain one that it is made of.
fn plain(row: &snapshot::Model) -> Option<&str> {
    let waits = is_pending(row) && row.encrypted.0;
    row.base.as_deref().filter(|_| waits)
}

fn gone(why: &str) -> Content {
    Content::Gone(plug::internal(why.into()))
}
