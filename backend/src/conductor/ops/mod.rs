//! The steps of operations: `clear` removes a failed launch from its host, `place` claims a host, `command`
//! sets when the operation is looked at again; the last of a round sends the host its command (`send`). Every
//! step may run any number of times. The engine calls them.

mod clear;
mod command;
mod demand;
mod other_host;
mod place;
#[cfg(test)]
mod races;
mod unwind;

use cumulet_domain::{Error, Result, id::HostId, time::Timestamp};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};

use super::{
    Conductor,
    host_specs::{Policies, Specs},
    journal::OperationKind,
};
use crate::{
    entity::{instance, operation},
    store::failed,
};

use demand::Demands;
pub(super) use other_host::retry_on_other_host;
pub(super) use unwind::{Cause, give_up, late};

/// What the steps of one round share: read once, not once for each.
pub(super) struct Round<'c> {
    pub(super) conductor: &'c Conductor,
    pub(super) now: Timestamp,
    /// By this deadlines are judged.
    by: Timestamp,
    instances: std::collections::HashMap<i64, instance::Model>,
    demands: Demands,
    /// Set once the hosts have been read for this round: a refusal before that may be by an old picture.
    read: tokio::sync::OnceCell<()>,
    specs: Specs,
    policies: Policies,
}

impl<'c> Round<'c> {
    pub(super) async fn load(
        conductor: &'c Conductor,
        due: &[operation::Model],
        now: Timestamp,
        by: Timestamp,
    ) -> Result<Self> {
        let conn = conductor.store.read();
        let ids: Vec<i64> = due.iter().map(|operation| operation.instance).collect();
        let rows = instance::Entity::find()
            .filter(instance::Column::Id.is_in(ids))
            .all(conn)
            .await
            .map_err(failed)?;
        let launches = |operation: &&operation::Model| {
            matches!(
                OperationKind::from_name(&operation.kind),
                Some(OperationKind::Launch | OperationKind::Start)
            )
        };
        let launched: Vec<i64> = due
            .iter()
            .filter(launches)
            .map(|operation| operation.instance)
            .collect();
        let wanted: Vec<&instance::Model> = rows.iter().filter(|row| launched.contains(&row.id)).collect();
        if !wanted.is_empty() {
            conductor.scheduler.look(conn, now).await?;
        }
        Ok(Round {
            conductor,
            now,
            by,
            demands: Demands::load(conn, &wanted, due).await?,
            read: tokio::sync::OnceCell::new(),
            specs: Specs::load(conn, &wanted, conductor).await?,
            policies: Policies::default(),
            instances: rows.into_iter().map(|row| (row.id, row)).collect(),
        })
    }

    /// Whether an operation's time is over.
    fn is_overdue(&self, operation: &operation::Model) -> bool {
        self.by.0 >= operation.deadline
    }

    fn instance(&self, operation: &operation::Model) -> Result<&instance::Model> {
        self.instances
            .get(&operation.instance)
            .ok_or_else(|| Error::Internal(format!("operation {} has no instance", operation.id)))
    }
}

fn kind(operation: &operation::Model) -> Result<OperationKind> {
    OperationKind::from_name(&operation.kind)
        .ok_or_else(|| Error::Internal(format!("unknown operation {:?}", operation.kind)))
}

/// Runs the step that an operation is at; the host that is to be told, if one is.
pub(super) async fn step(round: &Round<'_>, operation: &operation::Model) -> Result<Option<HostId>> {
    let kind = kind(operation)?;
    match operation.step.as_str() {
        "clear" => clear::run(round, operation, kind).await,
        "place" => place::run(round, operation, kind).await,
        "command" => command::run(round, operation, kind).await,
        other => Err(Error::Internal(format!("unknown step {other:?}"))),
    }
}

/// Tells the host what the operation wants of it.
pub(super) async fn send(round: &Round<'_>, operation: &operation::Model, host: &HostId) -> Result<()> {
    command::send(round, operation, kind(operation)?, host).await
}
