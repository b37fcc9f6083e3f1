//! What the steps of one round share: the rows of the instances, and for those that are to be placed what that
//! needs, read once and not once for each.

use std::collections::HashMap;

use cumulet_domain::{Error, Result, time::Timestamp};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};

use super::{
    REGISTRY, instance_of,
    steps::{PLACE, demand::Demands},
};
use crate::{
    conductor::{
        Conductor,
        host_specs::{Policies, Specs},
    },
    entity::{instance, operation},
    journal::{Batch, Look},
    store::failed,
};

/// See the module.
pub struct Round {
    pub(super) conductor: Conductor,
    pub(super) now: Timestamp,
    /// By this deadlines are judged.
    by: Timestamp,
    instances: HashMap<i64, instance::Model>,
    pub(super) demands: Demands,
    /// Set once the hosts have been read for this round: a refusal before that may be by an old picture.
    pub(super) read: tokio::sync::OnceCell<()>,
    pub(super) specs: Specs,
    pub(super) policies: Policies,
}

impl std::fmt::Debug for Round {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Round")
            .field("instances", &self.instances.len())
            .finish_non_exhaustive()
    }
}

impl Batch<Conductor> for Round {
    async fn load(conductor: &Conductor, due: &[&operation::Model], look: Look) -> Result<Self> {
        let conn = conductor.store.read();
        let ids = due.iter().map(|operation| instance_of(operation));
        let rows = instance::Entity::find()
            .filter(instance::Column::Id.is_in(ids))
            .all(conn)
            .await
            .map_err(failed)?;
        let is_placed = |operation: &&&operation::Model| {
            let kind = REGISTRY.find(&operation.kind);
            kind.is_some_and(|kind| kind.steps().contains(&PLACE))
        };
        let placed: Vec<i64> = due
            .iter()
            .filter(is_placed)
            .map(|operation| instance_of(operation))
            .collect();
        let wanted: Vec<&instance::Model> = rows.iter().filter(|row| placed.contains(&row.id)).collect();
        if !wanted.is_empty() {
            conductor.scheduler.look(conn, look.now).await?;
        }
        Ok(Round {
            conductor: conductor.clone(),
            now: look.now,
            by: look.by,
            demands: Demands::load(conn, &wanted, due).await?,
            read: tokio::sync::OnceCell::new(),
            specs: Specs::load(conn, &wanted, conductor).await?,
            policies: Policies::default(),
            instances: rows.into_iter().map(|row| (row.id, row)).collect(),
        })
    }
}

impl Round {
    /// Whether an operation's time is over.
    pub(super) fn is_overdue(&self, operation: &operation::Model) -> bool {
        self.by.0 >= operation.deadline
    }

    pub(super) fn instance(&self, operation: &operation::Model) -> Result<&instance::Model> {
        self.instances
            .get(&instance_of(operation))
            .ok_or_else(|| Error::Internal(format!("operation {} has no instance", operation.id)))
    }
}
