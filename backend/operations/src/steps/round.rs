//! What the steps of one round share: the rows of the instances, and for those that are to be placed or run what that
//! needs, read once and not once for each.

use std::collections::HashMap;

use cumulet_domain::{Error, Result, message::KeptRoot, time::Timestamp};
use cumulet_journal::{Batch, Context, Look, Step};
use cumulet_store::{
    attachments,
    entity::{instance, operation},
    rows,
};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};

use crate::{
    Driver,
    instance::instance_of,
    specs::{Policies, Specs},
    steps::{DESTROY, PLACE, RUN, demand::Demands},
};

/// See the module.
pub struct Round {
    pub(crate) driver: Driver,
    pub(crate) now: Timestamp,
    /// By this deadlines are judged.
    by: Timestamp,
    instances: HashMap<i64, instance::Model>,
    pub(crate) demands: Demands,
    /// Set once the hosts have been read for this round: a refusal before that may be by an old picture.
    pub(crate) read: tokio::sync::OnceCell<()>,
    pub(crate) specs: Specs,
    pub(crate) policies: Policies,
    /// The roots that outlive instances which end, by instance.
    kept: HashMap<i64, KeptRoot>,
}

impl std::fmt::Debug for Round {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Round")
            .field("instances", &self.instances.len())
            .finish_non_exhaustive()
    }
}

impl Batch<Driver> for Round {
    async fn load(driver: &Driver, due: &[&operation::Model], look: Look) -> Result<Self> {
        let conn = driver.store.read();
        let ids = due.iter().map(|operation| instance_of(operation));
        let rows = rows::all(
            instance::Entity::find().filter(instance::Column::Id.is_in(ids)),
            conn,
        )
        .await?;
        let of_those_with = |step: &Step| {
            let kinds = <Driver as Context>::registry().with(step);
            let theirs = due.iter().filter(|one| kinds.contains(&one.kind.as_str()));
            let theirs: Vec<i64> = theirs.map(|one| instance_of(one)).collect();
            let rows = rows.iter().filter(|row| theirs.contains(&row.id.to_db()));
            rows.collect::<Vec<&instance::Model>>()
        };
        let (placed, run, ended) = (
            of_those_with(&PLACE),
            of_those_with(&RUN),
            of_those_with(&DESTROY),
        );
        if !placed.is_empty() {
            driver.scheduler.look(conn, look.now).await?;
        }
        Ok(Round {
            driver: driver.clone(),
            now: look.now,
            by: look.by,
            demands: Demands::load(conn, &placed, due).await?,
            read: tokio::sync::OnceCell::new(),
            specs: Specs::load(conn, &run, driver).await?,
            policies: Policies::default(),
            kept: attachments::kept_roots(conn, ended.iter().map(|row| row.id.to_db())).await?,
            instances: rows.into_iter().map(|row| (row.id.to_db(), row)).collect(),
        })
    }
}

impl Round {
    /// Whether an operation's time is over.
    pub(crate) fn is_overdue(&self, operation: &operation::Model) -> bool {
        self.by.0 >= operation.deadline
    }

    /// The root of an operation's instance, where that outlives it.
    pub(crate) fn kept_root(&self, operation: &operation::Model) -> Option<KeptRoot> {
        self.kept.get(&instance_of(operation)).copied()
    }

    pub(crate) fn instance(&self, operation: &operation::Model) -> Result<&instance::Model> {
        self.instances
            .get(&instance_of(operation))
            .ok_or_else(|| Error::Internal(format!("operation {} has no instance", operation.id)))
    }
}
