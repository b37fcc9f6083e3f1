//! Calls of the simulated hypervisor: each takes the time that the plan says and fails as it says. Whoever calls waits
//! no longer than libvirt's driver would; what is late comes back later, with its effect.

use std::time::Duration;

use cumulet_domain::id::InstanceId;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep_until, timeout_at},
};

use super::{FakeHypervisor, Guest, plan::Fate, witness::Seen};
use crate::{ACTION, Error, Result, outstanding::For};

impl FakeHypervisor {
    /// A call that looks at the host or a guest.
    pub(super) async fn look<T: Send + 'static>(
        &self,
        whom: For,
        deadline: Duration,
        see: impl FnOnce(&FakeHypervisor) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        if self.plan().look_latency.is_zero() {
            return see(self);
        }
        self.in_time(whom, deadline, None, see).await
    }

    /// A call that changes a guest. Where there is nothing to change it is no more than a look, as with libvirt, once
    /// the guest's outstanding calls are back: `change` makes the same of what it has made.
    pub(super) async fn act<T: Send + 'static>(
        &self,
        whom: For,
        deadline: Duration,
        change: impl Fn(&mut Option<Guest>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let Some(instance) = whom.instance() else {
            return Err(Error::Refused("no guest was named".into()));
        };
        let end = Instant::now() + deadline;
        self.outstanding.turn(whom, end).await?;
        let before = self.state().guests.get(&instance).cloned();
        let mut after = before.clone();
        let done = change(&mut after);
        if done.is_ok() && after == before {
            return self.look(whom, deadline, |_| done).await;
        }
        let call = {
            let mut state = self.state();
            let calls = state.calls.entry(instance).or_default();
            *calls += 1;
            *calls
        };
        let effect = move |host: &FakeHypervisor| {
            let mut outcome = Err(Error::NotFound(instance));
            host.change(instance, |guest| outcome = change(guest));
            outcome
        };
        if !self.plan().is_quick(instance) {
            return self.in_time(whom, deadline, Some((instance, call)), effect).await;
        }
        let outcome = self.plan().fate(self.config.seed, instance, call).outcome;
        if outcome.is_err() {
            self.witness.tell(Seen::Failed(instance));
        }
        outcome.and_then(|()| effect(self))
    }

    /// A call that ends a guest, also one that an outstanding call is about to start.
    pub(super) async fn for_good(
        &self,
        instance: InstanceId,
        end: impl Fn(&mut Option<Guest>) -> Result<()> + Copy + Send + 'static,
    ) -> Result<()> {
        loop {
            let is_clear = self.outstanding.is_clear(instance);
            self.act(For::Guest(instance), ACTION, end).await?;
            if is_clear {
                return Ok(());
            }
            let until = Instant::now() + ACTION;
            self.outstanding.turn(For::Process(instance), until).await?;
        }
    }

    /// Makes a call in a task of its own, and waits for it until the deadline.
    async fn in_time<T: Send + 'static>(
        &self,
        whom: For,
        deadline: Duration,
        call: Option<(InstanceId, u32)>,
        effect: impl FnOnce(&FakeHypervisor) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let end = Instant::now() + deadline;
        self.outstanding.turn(whom, end).await?;
        let gone = || Error::Away("the simulated host is gone".into());
        let this = self.this.upgrade().ok_or_else(gone)?;
        let (_caller, callee) = self.outstanding.begin(whom);
        let (sender, receiver) = oneshot::channel();
        let cuts = self.cuts();
        tokio::spawn(async move {
            let outcome = this.meet_fate(call, cuts).await.and_then(|()| effect(&this));
            drop(callee);
            // Nobody may wait for it any more.
            drop(sender.send(outcome));
        });
        match timeout_at(end, receiver).await {
            Ok(outcome) => outcome.map_err(|_| gone())?,
            Err(_) => Err(self.late(whom, deadline)),
        }
    }

    /// What whoever waits no longer hears.
    fn late(&self, whom: For, deadline: Duration) -> Error {
        if let Some(instance) = whom.instance() {
            self.witness.tell(Seen::Late(instance));
        }
        match self.plan().refuses_what_is_late {
            true => Error::Refused("it is late, and the plan says so".into()),
            false => Error::Late(deadline),
        }
    }

    /// Waits as the plan says, and fails as it says, or as the power is cut again.
    async fn meet_fate(&self, call: Option<(InstanceId, u32)>, cuts: u64) -> Result<()> {
        let began = Instant::now();
        loop {
            let moved = self.moved.notified();
            if self.cuts() != cuts {
                return Err(Error::Away("the simulated host has lost its power".into()));
            }
            let plan = self.plan();
            let (fate, hangs) = match call {
                Some((instance, call)) => (
                    plan.fate(self.config.seed, instance, call),
                    plan.hang.contains(&instance),
                ),
                None => (Fate::of_a_look(&plan), false),
            };
            tokio::select! {
                biased;
                () = moved => {}
                () = sleep_until(began + fate.latency), if !hangs => {
                    if let (Err(_), Some((instance, _))) = (&fate.outcome, call) {
                        self.witness.tell(Seen::Failed(instance));
                    }
                    return fate.outcome;
                }
            }
        }
    }
}
