//! Places an instance: a host is proposed by the scheduler and claimed by one conditional update. A
//! stopped instance goes back to the host that has its disk.

use std::{sync::PoisonError, time::Duration};

use cumulet_domain::{Error, Result, crash_point, id::HostId};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, EntityTrait, ExprTrait, QueryFilter,
    sea_query::{Expr, OnConflict},
};

use super::{Cause, Round, command, give_up};
use crate::{
    conductor::journal::{self, OperationKind, Step},
    entity::{host, host_network, instance, operation},
    scheduler::{self, Request},
    store::{failed, groups},
};

/// How long until a placement that may come to pass is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// The step: the host that has been claimed and is to be told, if one could be.
pub(super) async fn run(
    round: &Round<'_>,
    operation: &operation::Model,
    kind: OperationKind,
) -> Result<Option<HostId>> {
    let row = round.instance(operation)?;
    if let Some(home) = row.host.clone().filter(|_| row.claimed != 0) {
        // A start that failed has not been cleared away yet: what it claimed still stands.
        return match claim(round, operation, row, &HostId(home.clone())).await {
            Ok(()) => Ok(Some(HostId(home))),
            Err(Error::IncorrectState { .. }) => Ok(None),
            Err(error) => Err(error),
        };
    }
    loop {
        let host = match choose(round, row) {
            Ok(host) => host,
            Err(refusal) if refusal.may_pass() && round.now.0 < operation.deadline => {
                return wait(round, operation).await.map(|()| None);
            }
            Err(refusal) => {
                let cause = Cause::no_capacity(&refusal.to_string());
                return give_up(round.conductor, operation, kind, cause)
                    .await
                    .map(|()| None);
            }
        };
        match claim(round, operation, row, &host).await {
            Ok(()) => return Ok(Some(host)),
            Err(Error::InsufficientCapacity { .. }) => forget(round, &host),
            // Another operation has taken over: nothing is left to do.
            Err(Error::IncorrectState { .. }) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
}

/// The best host by the round's picture, which then counts the instance as there.
fn choose(round: &Round<'_>, row: &instance::Model) -> Result<HostId, scheduler::Refusal> {
    let mut hosts = round.hosts.lock().unwrap_or_else(PoisonError::into_inner);
    // A disk that is there already is paid for.
    let disk_gib = if row.host.is_some() { 0 } else { row.disk_gib };
    let request = Request {
        availability_zone: row.availability_zone.clone(),
        vcpus: row.vcpus,
        memory_mib: row.memory_mib,
        disk_gib,
    };
    let chosen = if let Some(home) = &row.host {
        let only: Vec<_> = hosts.iter().filter(|host| host.id.0 == *home).cloned().collect();
        scheduler::pick(&only, &request)?;
        hosts.iter_mut().find(|host| host.id.0 == *home)
    } else {
        let order = scheduler::pick(&hosts, &request)?;
        order.first().copied().and_then(|best| hosts.get_mut(best))
    };
    let nobody = || scheduler::Refusal {
        hosts: 0,
        removed: Vec::new(),
    };
    let chosen = chosen.ok_or_else(nobody)?;
    chosen.free_vcpus -= row.vcpus;
    chosen.free_memory_mib -= row.memory_mib;
    chosen.free_disk_gib -= disk_gib;
    Ok(chosen.id.clone())
}

/// A claim on this host failed, so the picture was wrong: the round leaves the host alone.
fn forget(round: &Round<'_>, host: &HostId) {
    round
        .hosts
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .retain(|state| state.id != *host);
}

async fn wait(round: &Round<'_>, operation: &operation::Model) -> Result<()> {
    let (store, next) = (&round.conductor.store, round.now.after(AGAIN));
    journal::go_on(store, operation, Step::Place, operation.attempts, next)
        .await
        .map(drop)
}

/// One transaction: the operation goes on, the host is charged, the instance is on it.
async fn claim(
    round: &Round<'_>,
    operation: &operation::Model,
    row: &instance::Model,
    host: &HostId,
) -> Result<()> {
    let (copy, row, host) = (operation.clone(), row.clone(), host.0.clone());
    let next = round.now.after(command::RESEND);
    round
        .conductor
        .store
        .write(move |txn| {
            Box::pin(async move {
                if !journal::proceed(txn, &copy, Step::Command, copy.attempts, next).await? {
                    return Err(superseded(&row));
                }
                if row.claimed == 0 {
                    charge(txn, &row, &host).await?;
                }
                settle(txn, &row, &host, copy.generation).await?;
                subscribe(txn, &row, &host).await?;
                crash_point!(&copy.kind, "claimed");
                Ok(())
            })
        })
        .await?;
    crash_point!(&operation.kind, "waiting");
    Ok(())
}

fn superseded(row: &instance::Model) -> Error {
    Error::IncorrectState {
        kind: cumulet_domain::Kind::Instance,
        id: row.id.to_string(),
        state: "superseded".into(),
        expected: "at the operation's generation".into(),
    }
}

/// The claim on the host: never read, then write.
async fn charge(conn: &impl ConnectionTrait, row: &instance::Model, id: &str) -> Result<()> {
    use host::Column as C;
    let disk = if row.host.is_some() { 0 } else { row.disk_gib };
    let charged = host::Entity::update_many()
        .col_expr(C::VcpusUsed, Expr::col(C::VcpusUsed).add(row.vcpus))
        .col_expr(C::MemoryMibUsed, Expr::col(C::MemoryMibUsed).add(row.memory_mib))
        .col_expr(C::DiskGibUsed, Expr::col(C::DiskGibUsed).add(disk))
        .filter(C::Id.eq(id))
        .filter(C::Enabled.eq(1))
        .filter(Expr::col(C::VcpusUsed).add(row.vcpus).lte(Expr::col(C::VcpusMax)))
        .filter(
            Expr::col(C::MemoryMibUsed)
                .add(row.memory_mib)
                .lte(Expr::col(C::MemoryMibMax)),
        )
        .filter(Expr::col(C::DiskGibUsed).add(disk).lte(Expr::col(C::DiskGibMax)))
        .exec(conn)
        .await
        .map_err(failed)?;
    if charged.rows_affected == 1 {
        return Ok(());
    }
    Err(Error::InsufficientCapacity {
        reason: format!("host {id} has filled up"),
    })
}

/// Writes the claim into the instance, whose generation must still be the operation's.
async fn settle(
    conn: &impl ConnectionTrait,
    row: &instance::Model,
    host: &str,
    generation: i64,
) -> Result<()> {
    use instance::Column as C;
    let settled = instance::Entity::update_many()
        .col_expr(C::Host, Expr::value(host))
        .col_expr(C::Claimed, Expr::value(1_i64))
        .filter(C::Id.eq(row.id))
        .filter(C::Generation.eq(generation))
        // The claim is as it was when it was decided whether to charge the host.
        .filter(C::Claimed.eq(row.claimed))
        .exec(conn)
        .await
        .map_err(failed)?;
    if settled.rows_affected == 1 {
        Ok(())
    } else {
        Err(superseded(row))
    }
}

/// The host has to do with the VPC from now on, and the VPC's policy there has changed.
async fn subscribe(conn: &impl ConnectionTrait, row: &instance::Model, id: &str) -> Result<()> {
    let network = host_network::ActiveModel {
        host: Set(id.to_owned()),
        vpc: Set(row.vpc),
        applied_generation: Set(0),
    };
    let keys = [host_network::Column::Host, host_network::Column::Vpc];
    host_network::Entity::insert(network)
        .on_conflict(OnConflict::columns(keys).do_nothing_on(keys).to_owned())
        .exec_without_returning(conn)
        .await
        .map_err(failed)?;
    groups::bump_policy(conn, [row.vpc]).await
}
