//! The reach of the pool of volumes: its cluster is asked again and again beside the work, and heartbeats tell what it has
//! said last, so that none of them waits for it. One answer that does not come is no loss yet.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::MissedTickBehavior};

use crate::Worker;

/// How often the cluster is asked.
const ASK: Duration = Duration::from_secs(15);

/// Answers in a row that have not come when the pool is not reached any more.
const MISSED: u32 = 2;

/// What is known of the pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Reach {
    /// Nobody has been asked yet, or there is none.
    #[default]
    Unknown,
    /// It is there: the cluster's id, and its name.
    Reached(String),
    /// It does not answer.
    Lost,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Reaching(watch::Sender<Reach>);

/// Tells when that changes.
pub(crate) struct Changes(watch::Receiver<Reach>);

impl Changes {
    /// Waits for the next change.
    pub(crate) async fn next(&mut self) {
        // An error would mean that the sender is gone, and the worker holds it.
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Reaching {
    pub(crate) fn changes(&self) -> Changes {
        Changes(self.0.subscribe())
    }

    /// The pool that is reached, as `FSID/POOL`.
    pub(crate) fn known(&self) -> Option<String> {
        match &*self.0.borrow() {
            Reach::Reached(pool) => Some(pool.clone()),
            Reach::Unknown | Reach::Lost => None,
        }
    }

    /// What the operator is told of a pool that is not reached.
    pub(crate) fn problem(&self, pool: Option<&str>) -> Option<String> {
        let is_lost = *self.0.borrow() == Reach::Lost;
        let pool = pool.filter(|_| is_lost)?;
        Some(format!(
            "the pool of volumes, {pool}, is not reached; `cumulet doctor` on the host says why"
        ))
    }

    /// An answer has come, or it is the so-manieth in a row that has not.
    fn heard(&self, answer: Option<String>, missed: u32) {
        self.0.send_if_modified(|last| {
            let next = match answer {
                Some(pool) => Reach::Reached(pool),
                None if missed >= MISSED || *last == Reach::Unknown => Reach::Lost,
                None => return false,
            };
            let changes = *last != next;
            *last = next;
            changes
        });
    }
}

impl Worker {
    /// Asks for as long as it works, where there is a pool. What the last worker has left there goes meanwhile: its removal
    /// may take an hour, and what is known of the pool is not to be as old.
    pub(crate) async fn keep_reaching(self: Arc<Self>) {
        if self.deps.disks.pool().is_some() {
            tokio::join!(self.ask(), self.keep_sweeping());
        }
    }

    /// Looks for what the last worker has left while the pool is reached, until all of it is gone.
    async fn keep_sweeping(&self) {
        let mut changes = self.reaching.changes();
        loop {
            while self.reaching.known().is_none() {
                changes.next().await;
            }
            if self.sweep_images().await {
                return;
            }
            tokio::time::sleep(ASK).await;
        }
    }

    async fn ask(&self) {
        let mut missed = 0_u32;
        let mut timer = tokio::time::interval(ASK);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            timer.tick().await;
            let answer = self.deps.disks.reached().await;
            missed = match answer {
                Some(_) => 0,
                None => missed.saturating_add(1),
            };
            self.reaching.heard(answer, missed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_is_lost_when_it_has_not_answered_twice_or_never_has() {
        let reaching = Reaching::default();
        let pool = || Some("id/pool".to_owned());
        let seen = |reaching: &Reaching| (reaching.known(), reaching.problem(Some("pool")).is_some());
        assert_eq!(seen(&reaching), (None, false));
        for (answer, missed, expected) in [
            (None, 1, (None, true)),
            (pool(), 0, (pool(), false)),
            (None, 1, (pool(), false)),
            (pool(), 0, (pool(), false)),
            (None, 1, (pool(), false)),
            (None, 2, (None, true)),
            (None, 3, (None, true)),
            (Some("other/pool".into()), 0, (Some("other/pool".into()), false)),
        ] {
            reaching.heard(answer, missed);
            assert_eq!(seen(&reaching), expected, "{missed}");
        }
        assert_eq!(reaching.problem(None), None);
    }
}
