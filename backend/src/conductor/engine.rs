//! The engine: it leases due operations from the journal and runs one step of each. Steps of one round run
//! side by side, so that their transactions share commits.

use std::time::Duration;

use cumulet_domain::{Result, crash_point};
use futures::future::join_all;

use super::{
    Conductor, Duties,
    journal::{self, Step},
    ops,
};
use crate::entity::operation;

/// Operations in one round at the most.
const ROUND: u64 = 256;

/// The longest that the engine goes without looking at the journal.
const IDLE: Duration = Duration::from_secs(2);

/// After an error of the database, so that a broken one is not hammered.
const PAUSE: Duration = Duration::from_millis(500);

/// When a step that failed runs again.
const AGAIN: Duration = Duration::from_secs(2);

pub(super) async fn run(conductor: Conductor, duties: Duties) {
    let only = only(duties);
    loop {
        let wait = match round(&conductor, only).await {
            Ok(0) => until_next(&conductor, only).await,
            Ok(_) => continue,
            Err(error) => {
                tracing::error!(%error, "the engine's round failed");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        // Either the time has come or a wake-up; both mean: look.
        drop(tokio::time::timeout(wait, conductor.wake.engine()).await);
    }
}

/// The steps that this engine runs.
fn only(duties: Duties) -> &'static [Step] {
    match (duties.place, duties.drive) {
        (true, false) => &[Step::Place],
        (false, true) => &[Step::Clear, Step::Command],
        _ => &[Step::Clear, Step::Place, Step::Command],
    }
}

/// Runs one step of everything that is due; how many that were.
async fn round(conductor: &Conductor, only: &[Step]) -> Result<usize> {
    let now = conductor.clock.now();
    let by = conductor.deadlines.by(now);
    let due = journal::lease(&conductor.store, &conductor.settings.owner, only, now, ROUND).await?;
    if due.is_empty() {
        return Ok(0);
    }
    let round = ops::Round::load(conductor, &due, now, by).await?;
    let steps = due.iter().map(|operation| async {
        crash_point!(&operation.kind, "leased");
        let stepped = ops::step(&round, operation).await;
        complain(conductor, operation, stepped).await.flatten()
    });
    let hosts = join_all(steps).await;
    // Commands go out when all claims of the round stand: one policy then has every instance of it.
    let told = due.iter().zip(hosts).map(|(operation, host)| async {
        if let Some(host) = host {
            let sent = ops::send(&round, operation, &host).await;
            complain(conductor, operation, sent).await;
        }
    });
    join_all(told).await;
    Ok(due.len())
}

/// Notes a failure, and sees to it that the operation is looked at again before its lease runs out.
async fn complain<T>(conductor: &Conductor, operation: &operation::Model, result: Result<T>) -> Option<T> {
    let error = match result {
        Ok(value) => return Some(value),
        Err(error) => error,
    };
    tracing::error!(operation.id, operation.kind, operation.step, %error, "a step failed");
    let again = conductor.clock.now().after(AGAIN);
    if let Err(error) = journal::postpone(&conductor.store, operation.id, again).await {
        tracing::error!(operation.id, %error, "it runs again when its lease has run out");
    }
    None
}

async fn until_next(conductor: &Conductor, only: &[Step]) -> Duration {
    match journal::next_due(&conductor.store, only, conductor.clock.now()).await {
        Ok(Some(next)) => next
            .since(conductor.clock.now())
            .min(IDLE)
            .max(Duration::from_millis(5)),
        _ => IDLE,
    }
}
