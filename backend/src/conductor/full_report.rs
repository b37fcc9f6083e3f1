//! Full reports: everything that a host has, compared with rows. A difference is handled as if the host had
//! reported it by itself.

use std::collections::BTreeMap;

use cumulet_domain::{
    Result,
    id::{HostId, InstanceId},
    instance::State,
    message::{InstanceReport, Power},
    time::Timestamp,
};
use futures::future::join_all;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::{
    Conductor,
    belongs::{Standing, standing},
    changes::changed,
    deadline::is_after,
    reports::BATCH,
};
use crate::{
    entity::instance,
    store::{failed, rows},
};

/// Instances of a host that are compared with its full report together.
const PLACED: u64 = if cfg!(test) { 2 } else { 1000 };

/// Guests that are looked up in one query.
const LOOKED_UP: usize = 500;

/// Guests that nobody knows which are named in the log.
const NAMED: usize = 10;

/// The state of an instance, and what its host has of it: what the host told, or nothing.
fn wanted(row: &Placed, told: Option<InstanceReport>) -> Result<(State, InstanceReport)> {
    let id = InstanceId::from_db(row.id);
    let damaged = || rows::damaged("instances", id, format!("its state is {:?}", row.state));
    let state = State::from_name(&row.state).ok_or_else(damaged)?;
    let absent = InstanceReport {
        instance: id,
        // Of no use once something newer is wanted.
        generation: rows::fit("instances", id, "generation", row.generation)?,
        power: Power::Absent,
        off_reason: None,
    };
    Ok((state, told.unwrap_or(absent)))
}

/// Everything that a host has, compared with what it should have.
pub(super) async fn full(
    conductor: &Conductor,
    host: HostId,
    at: Timestamp,
    seen: Vec<InstanceReport>,
) -> Result<()> {
    let mut seen: BTreeMap<InstanceId, InstanceReport> = seen.into_iter().map(|r| (r.instance, r)).collect();
    let mut different = Vec::new();
    let mut after = i64::MIN;
    loop {
        let rows = placed(conductor, &host, after).await?;
        let Some(last) = rows.last() else { break };
        after = last.id;
        for row in rows {
            let id = InstanceId::from_db(row.id);
            let told = seen.remove(&id);
            let (state, report) = match wanted(&row, told) {
                Ok(read) => read,
                // It keeps no other instance of the host from being looked at.
                Err(error) => {
                    tracing::error!(%host, %error, "an instance is not compared with its host");
                    continue;
                }
            };
            let differs = match state {
                State::Running => report.power != Power::On,
                State::Stopped => report.power == Power::On,
                _ => false, // an operation is on its way
            };
            // What became so after the host looked is no difference.
            let now = conductor.clock.now();
            if differs && row.running_since.is_none_or(|since| is_after(at, since, now)) {
                different.push(report);
            }
        }
    }
    different.extend(elsewhere(conductor, &host, seen).await?);
    // Side by side, so that their transactions share commits: after a host's restart it may be all of them.
    for some in different.chunks(BATCH) {
        let apply = some
            .iter()
            .map(|report| changed(conductor, host.clone(), at, report.clone()));
        join_all(apply).await.into_iter().collect::<Result<()>>()?;
    }
    Ok(())
}

/// Of guests that the database does not have on their host, those that have to be dealt with: their instances have
/// ended, or have come there meanwhile. Looked up together, so that what a host makes up costs reads alone.
async fn elsewhere(
    conductor: &Conductor,
    host: &HostId,
    seen: BTreeMap<InstanceId, InstanceReport>,
) -> Result<Vec<InstanceReport>> {
    let mut theirs = Vec::new();
    let (mut unknown, mut count) = (Vec::new(), 0_usize);
    let all: Vec<InstanceReport> = seen.into_values().collect();
    for some in all.chunks(LOOKED_UP) {
        let ids = some.iter().map(|report| report.instance.to_db());
        let rows = instance::Entity::find().filter(instance::Column::Id.is_in(ids));
        let rows = rows.all(conductor.store.read()).await.map_err(failed)?;
        let rows: BTreeMap<i64, instance::Model> = rows.into_iter().map(|row| (row.id, row)).collect();
        for report in some {
            match rows.get(&report.instance.to_db()) {
                Some(row) if standing(row, host) != Standing::Elsewhere => theirs.push(report.clone()),
                Some(_) => {}
                None => {
                    count += 1;
                    if unknown.len() < NAMED {
                        unknown.push(report.instance.to_string());
                    }
                }
            }
        }
    }
    if count > 0 {
        tracing::warn!(%host, count, instances = ?unknown, "a host has guests that nobody knows");
    }
    Ok(theirs)
}

/// What a full report is compared with: of each instance no more than that.
#[derive(sea_orm::FromQueryResult)]
struct Placed {
    id: i64,
    generation: i64,
    state: String,
    running_since: Option<i64>,
}

/// Some of a host's instances, in the order of their ids, after one of them: all at once would be much
/// memory for a large host. (One that comes to be behind that place is looked at by itself.)
async fn placed(conductor: &Conductor, host: &HostId, after: i64) -> Result<Vec<Placed>> {
    use instance::Column as C;
    let rows = instance::Entity::find()
        .select_only()
        .columns([C::Id, C::Generation, C::State, C::RunningSince])
        .filter(C::Host.eq(host.0.as_str()))
        .filter(C::Id.gt(after))
        .order_by_asc(C::Id)
        .limit(PLACED);
    rows.into_model()
        .all(conductor.store.read())
        .await
        .map_err(failed)
}
