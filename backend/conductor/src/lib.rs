//! The conductor: it drives every instance to its desired state. The journal's engine runs operations' steps,
//! commands go to hosts, reports come back. The database decides everything; messages only wake and command.
//!
//! - `belongs`: whether what a report speaks of is its host's.
//! - `heartbeat`: what hosts say of themselves.
//! - `intake`: what one host may report, and whose reports are next.
//! - `full_report`: all that a host has, compared with rows.
//! - `reports`: what hosts say, applied to rows; an operation knows itself what an answer to it means.
//! - `sync`: keeps hosts' network policies and metadata at what the rows say.
//! - `sweep`: deletes what has had its time.

mod belongs;
mod full_report;
mod heartbeat;
mod intake;
pub mod reports;
mod sweep;
mod sync;

use std::ops::Deref;

use cumulet_domain::{Error, Result, crash};
use cumulet_journal::{self as journal, engine};
use cumulet_operations::{Driver, Duties, REGISTRY, steps::PLACE, steps_of};
use tokio::task::JoinSet;

// For async functions that other crates await: in a box, they are compiled here, once, and not in every crate
// that awaits them (`cargo xtask tidy` asks for it).
pub(crate) use async_recursion::async_recursion as boxed;

/// The conductor's parts, shared by its tasks. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Conductor {
    /// What operations work with.
    driver: Driver,
    dropped: intake::Dropped,
}

impl Deref for Conductor {
    type Target = Driver;

    fn deref(&self) -> &Driver {
        &self.driver
    }
}

impl Conductor {
    /// A conductor that drives with this.
    pub fn new(driver: Driver) -> Self {
        let placing = REGISTRY
            .kinds()
            .iter()
            .filter(|kind| kind.steps().contains(&PLACE));
        driver
            .scheduler
            .placed_by(placing.map(|kind| kind.name()).collect());
        Conductor {
            driver,
            dropped: intake::Dropped::default(),
        }
    }

    /// Reports that were dropped since the start, because their hosts report more than any does.
    pub fn dropped_reports(&self) -> u64 {
        self.dropped.count()
    }

    /// Runs until `shutdown` says so. What is under way stays in the journal.
    ///
    /// # Errors
    /// When the bus can't be listened to.
    #[boxed]
    pub async fn run(self, duties: Duties, mut shutdown: tokio::sync::watch::Receiver<bool>) -> Result<()> {
        let mut tasks = JoinSet::new();
        let drives = duties.place || duties.drive;
        if duties != Duties::ALL {
            // Those who wake and those who are woken are not all in this process.
            tasks.spawn(self.wake.clone().forward(self.bus.clone()));
        }
        if duties != Duties::ALL && drives {
            let wakeups = self.bus.wakeups().await;
            let wakeups = wakeups.map_err(|error| Error::Unavailable(error.to_string()))?;
            tasks.spawn(self.wake.clone().listen(wakeups));
        }
        if duties.drive {
            let reports = reports::listen(&self).await?;
            tasks.spawn(reports::run(self.clone(), reports));
        }
        if drives {
            journal::adopt(&self.store, &self.settings.owner, self.clock.now()).await?;
            crash::up("adopted");
            tasks.spawn(engine::run(self.driver.clone(), steps_of(duties)));
        }
        if duties.drive {
            tasks.spawn(sync::run(self.clone()));
            tasks.spawn(sweep::run(self.driver.clone()));
        }
        // The wait ends when the flag is set or its sender is gone; both mean: stop.
        drop(shutdown.wait_for(|stop| *stop).await);
        tasks.shutdown().await;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
