//! The step `place`: the scheduler proposes a host, and one conditional update claims it, with the room for the volumes
//! that come with the instance. A stopped instance goes back to the host that has its disk.

use std::time::Duration;

use cumulet_domain::{
    Error, Result, crash_point,
    id::{HostId, marker::Vpc},
};
use cumulet_journal::{self as journal, Next, Operation};
use cumulet_scheduler::Refusal;
use cumulet_store::{
    entity::{
        columns::{Amount, Count, Key},
        host, host_network, instance, operation,
    },
    failed, groups, instances, interfaces, launch_volumes, placement,
};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, EntityTrait, ExprTrait, QueryFilter,
    sea_query::{Expr, OnConflict},
};

use crate::{
    Driver,
    instance::instance_of,
    specs::tunnel,
    steps::{
        COMMAND, PLACE,
        demand::{self, Coming, Demands},
        failure::{no_capacity, overdue, tried},
        give_up,
        hand_over::RESEND,
        round::Round,
    },
};

/// How long until a placement that may come to pass is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// How often a claim that was lost to another engine is followed by another choice at once.
const RACES: usize = 16;

/// The step: the host that has been claimed and is to be told, if one could be.
pub(crate) async fn run<O: Operation<Cx = Driver>>(
    round: &Round,
    operation: &operation::Model,
) -> Result<Next> {
    let row = round.instance(operation)?;
    if let Some(home) = row.host.clone().filter(|_| row.claimed.0) {
        // A start that failed has not been cleared away yet: what it claimed still stands.
        return match claim(round, operation, row, &HostId(home.clone())).await {
            Ok(()) => Ok(Next::Tell(HostId(home))),
            Err(Error::IncorrectState { .. }) => Ok(Next::Wait),
            Err(error) => Err(error),
        };
    }
    let mut groups = None;
    for _ in 0..RACES {
        let demands = groups.as_ref().unwrap_or(&round.demands);
        let host = match choose(round, demands, row).await? {
            Ok(host) => host,
            Err(refusal) if refusal.may_pass() && !round.is_overdue(operation) => break,
            Err(refusal) => return refuse::<O>(round, operation, &refusal).await,
        };
        match claim(round, operation, row, &host).await {
            Ok(()) => return Ok(Next::Tell(host)),
            // Another claim was quicker, so the picture was wrong: it is put right, and another chosen.
            Err(Error::InsufficientCapacity { .. }) => {
                let conn = round.driver.store.read();
                round.driver.scheduler.correct(conn, &host).await?;
                groups = Some(Demands::load(conn, &[row], &[operation]).await?);
            }
            // Another operation has taken over: nothing is left to do.
            Err(Error::IncorrectState { .. }) => return Ok(Next::Wait),
            Err(error) => return Err(error),
        }
    }
    if round.is_overdue(operation) {
        let failure = overdue::<O>(None, None);
        let end = give_up::<O>(&round.driver, operation.clone(), failure);
        return end.await.map(|()| Next::Wait);
    }
    wait(round, operation).await
}

/// No host can take the instance: it fails with what stood in the way, and what happened before.
async fn refuse<O: Operation<Cx = Driver>>(
    round: &Round,
    operation: &operation::Model,
    refusal: &Refusal,
) -> Result<Next> {
    let hosts = demand::tried(operation)?;
    let failure = if hosts.is_empty() {
        no_capacity(&refusal.to_string())
    } else {
        tried(&hosts, refusal.of_others())
    };
    tracing::info!(
        operation.instance = instance_of(operation),
        filters = refusal.filters(),
        "no host is good enough"
    );
    let end = give_up::<O>(&round.driver, operation.clone(), failure);
    end.await.map(|()| Next::Wait)
}

/// The best host by the picture, which then counts the instance as there. A refusal stands only if the
/// hosts have been read for this round.
async fn choose(round: &Round, demands: &Demands, row: &instance::Model) -> Result<Result<HostId, Refusal>> {
    let scheduler = &round.driver.scheduler;
    let once = || -> Result<Result<HostId, Refusal>> {
        scheduler.with(|fleet| {
            let request = demands.request(fleet, row, round.now)?;
            let home = row.host.clone().map(HostId);
            let chosen = scheduler.choose(fleet, &request, home.as_ref());
            Ok(chosen.and_then(|at| {
                fleet.charge(at, request.vcpus, request.memory_mib, request.disk_gib);
                fleet.id(at).cloned().ok_or_else(Refusal::default)
            }))
        })
    };
    match once()? {
        Err(_) if !round.read.initialized() => {
            let conn = round.driver.store.read();
            let read = || scheduler.read(conn, round.now);
            round.read.get_or_try_init(read).await?;
            once()
        }
        chosen => Ok(chosen),
    }
}

async fn wait(round: &Round, operation: &operation::Model) -> Result<Next> {
    let (store, next) = (&round.driver.store, round.now.after(AGAIN));
    journal::go_on(store, operation, &PLACE, operation.attempts.0, next)
        .await
        .map(|_| Next::Wait)
}

/// One transaction: the operation goes on, the host is charged, the instance is on it.
async fn claim(
    round: &Round,
    operation: &operation::Model,
    row: &instance::Model,
    host: &HostId,
) -> Result<()> {
    let (copy, row, host) = (operation.clone(), row.clone(), host.0.clone());
    let group = round.demands.policy(&row)?.filter(|_| row.host.is_none());
    // What has its disk on a host already has its volumes there.
    let volumes = match row.host {
        None => demand::volumes(operation)?,
        Some(_) => Coming::default(),
    };
    // Read with the round, after the operation was asked for: since then nobody gives the instance an interface or takes
    // one. What can't be specified is read by itself.
    let vpcs = round.specs.vpcs(row.id.to_db());
    let next = round.now.after(RESEND);
    let shared = round
        .driver
        .store
        .write(move |txn| {
            Box::pin(async move {
                instances::lock(txn, &[row.id.to_db()]).await?;
                if !journal::proceed(txn, &copy, &COMMAND, copy.attempts.0, next).await? {
                    return Err(superseded(&row));
                }
                if !row.claimed.0 {
                    charge(txn, &row, &host, volumes).await?;
                }
                if let Some((group, policy)) = group {
                    placement::join(txn, group, policy, &host).await?;
                }
                settle(txn, &row, &host, copy.generation.to_db()).await?;
                if volumes.count > 0 {
                    launch_volumes::bind(txn, row.id.to_db(), &host, volumes.count).await?;
                }
                let vpcs = match vpcs {
                    Some(vpcs) => vpcs,
                    None => interfaces::vpcs(txn, row.id.to_db()).await?,
                };
                let shared = subscribe(txn, &vpcs, &host).await?;
                crash_point!(&copy.kind, "claimed");
                Ok(shared)
            })
        })
        .await?;
    if shared {
        // The VPCs' other hosts let the guest's packets in when they know of it.
        round.driver.wake.hosts();
    }
    crash_point!(&operation.kind, "waiting");
    Ok(())
}

fn superseded(row: &instance::Model) -> Error {
    Error::IncorrectState {
        kind: cumulet_domain::ResourceKind::Instance,
        id: row.id.to_string(),
        state: "superseded".into(),
        expected: "at the operation's generation".into(),
    }
}

/// The claim on the host, for an instance and the volumes that come with it: never read, then write.
async fn charge(conn: &impl ConnectionTrait, row: &instance::Model, id: &str, volumes: Coming) -> Result<()> {
    use host::Column as C;
    let disk = if row.host.is_some() {
        Count(0)
    } else {
        Count(row.disk_gib.0.saturating_add(volumes.gib))
    };
    let mut charge = host::Entity::update_many()
        .col_expr(C::VcpusUsed, Expr::col(C::VcpusUsed).add(row.vcpus))
        .col_expr(C::MemoryMibUsed, Expr::col(C::MemoryMibUsed).add(row.memory_mib))
        .col_expr(C::DiskGibUsed, Expr::col(C::DiskGibUsed).add(disk))
        .filter(C::Id.eq(id))
        .filter(C::Enabled.eq(1))
        .filter(C::NotReadyReason.is_null())
        .filter(Expr::col(C::VcpusUsed).add(row.vcpus).lte(Expr::col(C::VcpusMax)))
        .filter(
            Expr::col(C::MemoryMibUsed)
                .add(row.memory_mib)
                .lte(Expr::col(C::MemoryMibMax)),
        )
        .filter(Expr::col(C::DiskGibUsed).add(disk).lte(Expr::col(C::DiskGibMax)));
    if volumes.shared {
        charge = charge.filter(C::Rbd.is_not_null());
    }
    if charge.exec(conn).await.map_err(failed)?.rows_affected == 1 {
        return Ok(());
    }
    Err(Error::InsufficientCapacity {
        reason: format!("host {id} has filled up, or is not ready any more"),
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

/// The host has to do with these VPCs, all those of an instance's interfaces, from now on, and their policies there have
/// changed; whether other hosts have to do with one of them, too.
///
/// # Errors
/// Those of the database.
pub async fn subscribe(conn: &impl ConnectionTrait, vpcs: &[Key<Vpc>], host: &str) -> Result<bool> {
    // First the VPCs, whose locks keep `sync::network_applied` from forgetting what is about to be needed.
    groups::bump_policy(conn, vpcs.to_vec()).await?;
    let networks = vpcs.iter().map(|vpc| host_network::ActiveModel {
        host: Set(host.to_owned()),
        vpc: Set(*vpc),
        applied_generation: Set(Amount(0)),
    });
    let keys = [host_network::Column::Host, host_network::Column::Vpc];
    let there = OnConflict::columns(keys).do_nothing_on(keys).to_owned();
    let insert = host_network::Entity::insert_many(networks).on_conflict(there);
    insert.exec_without_returning(conn).await.map_err(failed)?;
    tunnel::shared(conn, host, vpcs).await
}
