//! The engine: takes what is due from the journal and runs one step of each operation. Steps of one round
//! run side by side, so that their transactions share commits.

use std::time::Duration;

use cumulet_domain::Result;
use futures::future::join_all;

use super::{Conductor, journal, ops};

/// Operations in one round at the most.
const ROUND: u64 = 256;

/// The longest that the engine goes without looking at the journal.
const IDLE: Duration = Duration::from_secs(2);

/// After an error of the database, so that a broken one is not hammered.
const PAUSE: Duration = Duration::from_millis(500);

pub(super) async fn run(conductor: Conductor) {
    loop {
        let wait = match round(&conductor).await {
            Ok(0) => until_next(&conductor).await,
            Ok(_) => continue,
            Err(error) => {
                tracing::error!(%error, "the engine's round failed");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        // Either the time has come or somebody woke us; both mean: look.
        drop(tokio::time::timeout(wait, conductor.wake.engine()).await);
    }
}

/// Runs one step of everything that is due; how many that were.
async fn round(conductor: &Conductor) -> Result<usize> {
    let now = conductor.clock.now();
    let due = journal::lease(&conductor.store, &conductor.settings.owner, now, ROUND).await?;
    if due.is_empty() {
        return Ok(0);
    }
    let round = ops::Round::load(conductor, &due, now).await?;
    let steps = due.iter().map(|operation| async {
        if let Err(error) = ops::step(&round, operation).await {
            tracing::error!(operation.id, operation.kind, operation.step, %error, "a step failed");
            // The lease runs out and the step runs again.
        }
    });
    join_all(steps).await;
    Ok(due.len())
}

async fn until_next(conductor: &Conductor) -> Duration {
    match journal::next_due(&conductor.store).await {
        Ok(Some(next)) => next
            .since(conductor.clock.now())
            .min(IDLE)
            .max(Duration::from_millis(5)),
        _ => IDLE,
    }
}
