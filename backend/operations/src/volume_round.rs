//! What the steps of one round on volumes share: their rows and where they are attached, read once.

use std::collections::{BTreeSet, HashMap};

use cumulet_domain::{Result, time::Timestamp};
use cumulet_journal::{Batch, Look};
use cumulet_store::{
    entity::{operation, volume, volume_attachment},
    rows, snapshots,
};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};

use crate::{Driver, keepers::Keepers, specs::Policies, volume::volume_of};

/// See the module.
pub struct VolumeRound {
    pub(crate) driver: Driver,
    pub(crate) now: Timestamp,
    /// By this deadlines are judged.
    by: Timestamp,
    volumes: HashMap<i64, volume::Model>,
    attachments: HashMap<i64, volume_attachment::Model>,
    /// Those of which snapshots are being taken.
    taken: BTreeSet<i64>,
    keepers: Keepers,
    pub(crate) policies: Policies,
}

impl std::fmt::Debug for VolumeRound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VolumeRound")
            .field("volumes", &self.volumes.len())
            .finish_non_exhaustive()
    }
}

impl Batch<Driver> for VolumeRound {
    async fn load(driver: &Driver, due: &[&operation::Model], look: Look) -> Result<Self> {
        let conn = driver.store.read();
        let ids: Vec<i64> = due.iter().map(|operation| volume_of(operation)).collect();
        let taken = snapshots::taken_of(conn, &ids).await?;
        let volumes = volume::Entity::find().filter(volume::Column::Id.is_in(ids.iter().copied()));
        let volumes = rows::all(volumes, conn).await?;
        let keepers = Keepers::load(conn, &volumes, look.now).await?;
        let theirs = volume_attachment::Entity::find().filter(volume_attachment::Column::Volume.is_in(ids));
        let attachments = rows::all(theirs, conn).await?;
        Ok(VolumeRound {
            driver: driver.clone(),
            now: look.now,
            by: look.by,
            volumes: volumes.into_iter().map(|row| (row.id.to_db(), row)).collect(),
            attachments: attachments
                .into_iter()
                .map(|row| (row.volume.to_db(), row))
                .collect(),
            taken,
            keepers,
            policies: Policies::default(),
        })
    }
}

impl VolumeRound {
    /// Whether an operation's time is over.
    pub(crate) fn is_overdue(&self, operation: &operation::Model) -> bool {
        self.by.0 >= operation.deadline
    }

    /// The volume of an operation, if that still speaks for it.
    pub(crate) fn volume(&self, operation: &operation::Model) -> Option<&volume::Model> {
        let row = self.volumes.get(&volume_of(operation));
        row.filter(|row| row.generation == operation.generation)
    }

    /// Whether a snapshot is being taken of the volume of an operation.
    pub(crate) fn is_taken_of(&self, operation: &operation::Model) -> bool {
        self.taken.contains(&volume_of(operation))
    }

    /// The host that is told to delete the volume of an operation, which no guest has and `host` keeps; `None`: for now
    /// there is none.
    pub(crate) fn keeper<'r>(&'r self, volume: &volume::Model, host: &'r str) -> Option<&'r str> {
        self.keepers.of(volume, host)
    }

    /// Where it is attached.
    pub(crate) fn attachment(&self, operation: &operation::Model) -> Option<&volume_attachment::Model> {
        self.attachments.get(&volume_of(operation))
    }
}
