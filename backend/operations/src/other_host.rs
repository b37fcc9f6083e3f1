//! The retry of a failed launch on another host, as often as `scheduler.max_attempts` says. It is a new
//! operation of the next generation, which begins with `clear` on the old host; it carries what has failed so
//! far. Reports of failed launches call it.

use cumulet_domain::{Result, id::marker};
use cumulet_journal::{self as journal, NewOperation};
use cumulet_store::{
    entity::{instance, operation},
    failed, instances, launch_volumes,
};
use sea_orm::{ActiveModelTrait, ActiveValue::Set, IntoActiveModel};

use crate::{
    Driver,
    instance::{instance_of, target},
    launch::Launch,
    release,
    steps::{
        demand::{Demands, FailedHost, LaunchState},
        failure::tried,
        give_up,
    },
};

/// The launch goes on on another host, or ends where there is none.
pub(crate) async fn retry_on_other_host(
    driver: &Driver,
    operation: operation::Model,
    failure: String,
) -> Result<()> {
    let Some(row) = release::subject(driver.store.read(), &operation).await? else {
        return Ok(());
    };
    let mut state = journal::state::<Launch>(&operation)?;
    let host = row.host.clone().unwrap_or_default();
    state.tried.push(FailedHost { host, failure });
    if let Some(why) = why_not(driver, &row, &operation, &state).await? {
        let failure = tried(&state.tried, why);
        return give_up::<Launch>(driver, operation, failure).await;
    }
    tracing::warn!(
        operation.instance = %row.id,
        tried = state.tried.len(),
        "a launch has failed on its host and is tried on another"
    );
    enqueue_retry(driver, operation, state).await
}

/// Why there is no use in trying another host, if there is none.
async fn why_not(
    driver: &Driver,
    row: &instance::Model,
    operation: &operation::Model,
    state: &LaunchState,
) -> Result<Option<String>> {
    let (attempts, scheduler) = (state.tried.len(), &driver.scheduler);
    if attempts >= scheduler.settings().max_attempts {
        return Ok(Some(format!(
            "it was tried on {attempts} hosts, which is the limit"
        )));
    }
    let (conn, now) = (driver.store.read(), driver.clock.now());
    let operation = operation::Model {
        state: journal::written(state)?,
        ..operation.clone()
    };
    // It is on no host as far as the next one is concerned.
    let row = instance::Model {
        host: None,
        ..row.clone()
    };
    let demands = Demands::load(conn, &[&row], &[&operation]).await?;
    scheduler.look(conn, now).await?;
    let choose = || -> Result<_> {
        scheduler.with(|fleet| {
            let request = demands.request(fleet, &row, now)?;
            Ok(scheduler.choose(fleet, &request, None))
        })
    };
    let mut chosen = choose()?;
    if chosen.is_err() {
        scheduler.read(conn, now).await?;
        chosen = choose()?;
    }
    Ok(match chosen {
        Err(refusal) if !refusal.may_pass() => {
            tracing::info!(
                operation.instance = %row.id,
                filters = refusal.filters(),
                "no other host is good enough"
            );
            Some(refusal.of_others())
        }
        _ => None,
    })
}

/// One transaction: the operation ends as failed, and the next one takes its place.
async fn enqueue_retry(driver: &Driver, operation: operation::Model, state: LaunchState) -> Result<()> {
    let (now, id) = (driver.clock.now(), driver.rng.id::<marker::Operation>());
    let failure = state.tried.last().map(|attempt| attempt.failure.clone());
    let write = driver.store.write(move |txn| {
        Box::pin(async move {
            instances::lock(txn, &[instance_of(&operation)]).await?;
            if !journal::finish(txn, operation.id.0, failure, now).await? {
                return Ok(());
            }
            let Some(row) = release::subject(txn, &operation).await? else {
                return Ok(());
            };
            if !state.volumes.is_empty() {
                launch_volumes::void(txn, row.id.to_db()).await?;
            }
            let generation = row.generation.next();
            let new = NewOperation::of::<Launch>(id, target(&row, generation.0), &state, now)?;
            let mut change = row.into_active_model();
            change.generation = Set(generation);
            change.update(txn).await.map_err(failed)?;
            journal::enqueue(txn, new).await.map(drop)
        })
    });
    write.await?;
    driver.wake.now();
    Ok(())
}
