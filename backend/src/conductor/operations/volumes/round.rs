//! What the steps of one round on volumes share: their rows and where they are attached, read once.

use std::collections::HashMap;

use cumulet_domain::{Result, time::Timestamp};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};

use super::volume_of;
use crate::{
    conductor::{Conductor, host_specs::Policies},
    entity::{operation, volume, volume_attachment},
    journal::{Batch, Look},
    store::rows,
};

/// See the module.
pub struct VolumeRound {
    pub(super) conductor: Conductor,
    pub(super) now: Timestamp,
    /// By this deadlines are judged.
    by: Timestamp,
    volumes: HashMap<i64, volume::Model>,
    attachments: HashMap<i64, volume_attachment::Model>,
    pub(super) policies: Policies,
}

impl std::fmt::Debug for VolumeRound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VolumeRound")
            .field("volumes", &self.volumes.len())
            .finish_non_exhaustive()
    }
}

impl Batch<Conductor> for VolumeRound {
    async fn load(conductor: &Conductor, due: &[&operation::Model], look: Look) -> Result<Self> {
        let conn = conductor.store.read();
        let ids: Vec<i64> = due.iter().map(|operation| volume_of(operation)).collect();
        let volumes = volume::Entity::find().filter(volume::Column::Id.is_in(ids.iter().copied()));
        let volumes = rows::all(volumes, conn).await?;
        let theirs = volume_attachment::Entity::find().filter(volume_attachment::Column::Volume.is_in(ids));
        let attachments = rows::all(theirs, conn).await?;
        Ok(VolumeRound {
            conductor: conductor.clone(),
            now: look.now,
            by: look.by,
            volumes: volumes.into_iter().map(|row| (row.id.to_db(), row)).collect(),
            attachments: attachments
                .into_iter()
                .map(|row| (row.volume.to_db(), row))
                .collect(),
            policies: Policies::default(),
        })
    }
}

impl VolumeRound {
    /// Whether an operation's time is over.
    pub(super) fn is_overdue(&self, operation: &operation::Model) -> bool {
        self.by.0 >= operation.deadline
    }

    /// The volume of an operation, if that still speaks for it.
    pub(super) fn volume(&self, operation: &operation::Model) -> Option<&volume::Model> {
        let row = self.volumes.get(&volume_of(operation));
        row.filter(|row| row.generation == operation.generation)
    }

    /// Where it is attached.
    pub(super) fn attachment(&self, operation: &operation::Model) -> Option<&volume_attachment::Model> {
        self.attachments.get(&volume_of(operation))
    }
}
