//! A host's hypervisor driver: calls that take long while the hypervisor is slow, are late like the real ones, and have
//! their effect when they come back, whichever step waits for them by then.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use cumulet_domain::{host::NotReady, id::InstanceId};
use cumulet_worker::decisions::{Diagnosis, Measurement, judge_readiness};
use tokio::time::{Instant, sleep};

use super::{Host, Life, Stop, obey::STEP};

/// How long a call takes while the hypervisor is slow, in milliseconds.
const LATENCY: Range<u64> = 500..60_000;

/// How long a call is waited for (as in the drivers), and from when on calls are too slow (the worker's default).
const ACTION: Duration = Duration::from_secs(40);
const TOO_SLOW: Duration = Duration::from_secs(15);

/// How often it is looked whether a call has come back.
const LOOK: Duration = Duration::from_millis(250);

/// What is known of a hypervisor.
#[derive(Debug, Default)]
pub(super) struct Driver {
    /// Since when it is slow.
    slow: Mutex<Option<Instant>>,
    /// The calls that have not come back.
    calls: Mutex<BTreeMap<InstanceId, u32>>,
    /// How often the power was cut: calls of before are gone.
    cuts: AtomicU64,
}

impl Driver {
    fn slow_since(&self) -> Option<Instant> {
        *self.slow.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn calls(&self) -> MutexGuard<'_, BTreeMap<InstanceId, u32>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cuts(&self) -> u64 {
        self.cuts.load(Ordering::Relaxed)
    }

    pub(super) fn lose_power(&self) {
        self.cuts.fetch_add(1, Ordering::Relaxed);
        self.calls().clear();
    }

    /// A call of a guest has come back.
    fn back(&self, id: InstanceId) {
        let mut calls = self.calls();
        if let Some(count) = calls.get_mut(&id) {
            *count -= 1;
            if *count == 0 {
                calls.remove(&id);
            }
        }
    }
}

impl Host {
    /// The hypervisor is slow from now on, or quick again.
    pub(crate) fn slow(&self, slow: bool) {
        let mut since = self.driver.slow.lock().unwrap_or_else(PoisonError::into_inner);
        if slow != since.is_some() {
            self.world.count(|counts| counts.slow_spells += u64::from(slow));
            self.world.note(format_args!("{}: slow {slow}", self.id));
            *since = slow.then(Instant::now);
        }
    }

    /// Why the host takes no launches, if it does not, as the worker judges it.
    pub(super) fn not_ready(&self) -> Option<NotReady> {
        let measurement = Measurement {
            last: Some(Ok(Duration::ZERO)),
            so_far: self.driver.slow_since().map(|since| since.elapsed()),
        };
        let service = "the simulated hypervisor";
        judge_readiness(&measurement, TOO_SLOW, service, &Diagnosis::default())
    }

    /// A call for a guest that the host may not be able to do.
    pub(super) async fn hypervisor(
        &self,
        life: &Life,
        id: InstanceId,
        effect: impl FnOnce(&Host) -> Option<InstanceId> + Send + 'static,
    ) -> Result<(), Stop> {
        self.step(life).await?;
        self.call(life, id, effect).await
    }

    /// A call for a guest, after those that have not come back, so that what they start yet is seen. The effect answers
    /// with the guest whose CPUs it has set going.
    pub(super) async fn call(
        &self,
        life: &Life,
        id: InstanceId,
        effect: impl FnOnce(&Host) -> Option<InstanceId> + Send + 'static,
    ) -> Result<(), Stop> {
        self.turn(life, id).await?;
        if self.driver.slow_since().is_none() {
            if let Some(started) = effect(self) {
                self.world.started(started).await;
            }
            return Ok(());
        }
        let Some(this) = self.this.upgrade() else {
            return Err(Stop::Dead);
        };
        *self.driver.calls().entry(id).or_default() += 1;
        let (end, cuts) = (Instant::now() + ACTION, self.driver.cuts());
        let latency = self.world.dice.millis(LATENCY);
        let call = tokio::spawn(async move {
            this.pass(latency, cuts).await;
            if this.driver.cuts() == cuts {
                if let Some(started) = effect(&this) {
                    this.world.started(started).await;
                }
                this.driver.back(id);
            }
        });
        while !call.is_finished() {
            self.alive(life, 0..1).await?;
            if Instant::now() >= end {
                self.world.count(|counts| counts.late_calls += 1);
                self.world
                    .note(format_args!("{}: a call for {id} is late", self.id));
                return Err(Stop::Unanswered("the hypervisor did not answer within 40 s"));
            }
            sleep(LOOK).await;
        }
        self.alive(life, 0..1).await
    }

    /// Waits for a guest's calls that have not come back.
    async fn turn(&self, life: &Life, id: InstanceId) -> Result<(), Stop> {
        let end = Instant::now() + ACTION;
        while self.driver.calls().contains_key(&id) {
            if Instant::now() >= end {
                return Err(Stop::Unanswered("an earlier call has not come back"));
            }
            sleep(LOOK).await;
            self.alive(life, 0..1).await?;
        }
        Ok(())
    }

    /// Lets the time of a call pass: it comes back at the latest when the hypervisor is quick again.
    async fn pass(&self, latency: Duration, cuts: u64) {
        let end = Instant::now() + latency;
        while Instant::now() < end && self.driver.slow_since().is_some() && self.driver.cuts() == cuts {
            sleep(LOOK).await;
        }
    }

    /// A step that the host may not be able to do.
    pub(super) async fn step(&self, life: &Life) -> Result<(), Stop> {
        self.alive(life, STEP).await?;
        let (faults, dice) = (self.world.faults(), &self.world.dice);
        let refused = dice.chance(faults.step_refused);
        if refused || dice.chance(faults.step_fails) {
            self.world.count(|counts| counts.step_failures += 1);
            return Err(Stop::Failed("the hypervisor says so", refused));
        }
        Ok(())
    }
}
