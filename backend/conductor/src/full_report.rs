//! Full reports: everything that a host has, compared with rows. A difference is handled as if the host had
//! reported it by itself.

use std::collections::BTreeMap;

use cumulet_domain::{
    Error, Result,
    id::{HostId, InstanceId, marker::Instance},
    instance::State,
    message::{InstanceReport, Power},
    time::Timestamp,
};
use cumulet_operations::{
    changes::changed,
    deadline::is_after,
    standing::{Standing, standing},
};
use cumulet_store::{
    entity::{
        columns::{Amount, Key, Named},
        instance,
    },
    rows::{self, Sound},
};
use futures::future::join_all;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use crate::{Conductor, reports::BATCH};

/// Instances of a host that are compared with its full report together.
const PLACED: u64 = if cfg!(test) { 2 } else { 1000 };

/// Guests that are looked up in one query.
const LOOKED_UP: usize = 500;

/// Guests that nobody knows which are named in the log.
const NAMED: usize = 10;

/// The state of an instance, and what its host has of it: what the host told, or nothing.
fn wanted(row: &Placed, told: Option<InstanceReport>) -> (State, InstanceReport) {
    let id = row.id.0;
    let absent = InstanceReport {
        instance: id,
        // Of no use once something newer is wanted.
        generation: row.generation.0,
        power: Power::Absent,
        off_reason: None,
    };
    (row.state.0, told.unwrap_or(absent))
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
        let Sound { rows, damaged } = placed(conductor, &host, after).await?;
        // One that can't be read is not compared with its host, and keeps no other from being so.
        let known = rows
            .iter()
            .map(|row| row.id.to_db())
            .chain(damaged.iter().copied());
        let Some(last) = known.max() else { break };
        after = last;
        for id in damaged {
            seen.remove(&InstanceId::from_db(id));
        }
        for row in rows {
            let id = row.id.0;
            let told = seen.remove(&id);
            let (state, report) = wanted(&row, told);
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
        for applied in join_all(apply).await {
            match applied {
                // A damaged row is its instance's affair, and keeps no other from being dealt with.
                Err(error @ Error::Internal(_)) => {
                    tracing::error!(%host, %error, "an instance is not dealt with");
                }
                applied => applied?,
            }
        }
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
        let Sound { rows, damaged } = rows::sound::<_, instance::Model>(rows, conductor.store.read()).await?;
        let rows: BTreeMap<i64, instance::Model> =
            rows.into_iter().map(|row| (row.id.to_db(), row)).collect();
        for report in some {
            match rows.get(&report.instance.to_db()) {
                Some(row) => match standing(row, host) {
                    Ok(Standing::Elsewhere) => {}
                    Ok(Standing::Here | Standing::Ended) => theirs.push(report.clone()),
                    // It keeps no other instance of the host from being looked at.
                    Err(error) => tracing::error!(%host, %error, "an instance is not compared with its host"),
                },
                None if damaged.contains(&report.instance.to_db()) => {}
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
    id: Key<Instance>,
    generation: Amount,
    state: Named<State>,
    running_since: Option<i64>,
}

/// Some of a host's instances, in the order of their ids, after one of them: all at once would be much
/// memory for a large host. (One that comes to be behind that place is looked at by itself.)
async fn placed(conductor: &Conductor, host: &HostId, after: i64) -> Result<Sound<Placed>> {
    use instance::Column as C;
    let rows = instance::Entity::find()
        .select_only()
        .columns([C::Id, C::Generation, C::State, C::RunningSince])
        .filter(C::Host.eq(host.0.as_str()))
        .filter(C::Id.gt(after))
        .order_by_asc(C::Id)
        .limit(PLACED);
    rows::sound(rows, conductor.store.read()).await
}
