//! The state that all parts of a run share: clock, dice, trace, observations.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use cumulet_backend::{
    entity::{columns::Key, instance},
    store::Store,
};
use cumulet_domain::{
    id::{HostId, InstanceId},
    instance::State,
};
use sea_orm::EntityTrait as _;

use crate::{
    clock::VirtualClock,
    dice::Dice,
    faults::Faults,
    options::Sabotage,
    outcome::{Counts, Invariant, Stopwatches, Violation},
    trace::Trace,
};

/// Violations of one invariant that are told in words.
const TOLD: usize = 5;

/// One run.
pub(crate) struct World {
    pub(crate) clock: VirtualClock,
    pub(crate) dice: Dice,
    trace: Trace,
    faults: Faults,
    /// Whether things go wrong now.
    raging: AtomicBool,
    pub(crate) sabotage: Option<Sabotage>,
    /// None before the run and after it: the store has the world among its hooks, and neither would ever go.
    store: Mutex<Option<Store>>,
    seen: Mutex<Seen>,
}

/// What was seen in a run.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) counts: Counts,
    pub(crate) watches: Stopwatches,
    pub(crate) killed_at: BTreeSet<String>,
    pub(crate) violations: BTreeMap<Invariant, (u64, Vec<String>)>,
    /// How often each guest has started, and how often it was reset.
    boots: BTreeMap<InstanceId, (u64, u64)>,
    /// The processes of guests, by instance: on which host.
    guests: BTreeMap<InstanceId, Vec<HostId>>,
}

impl World {
    pub(crate) fn new(seed: u64, faults: Faults, sabotage: Option<Sabotage>, keep_trace: bool) -> Arc<Self> {
        Arc::new(World {
            clock: VirtualClock::start(),
            dice: Dice::new(seed),
            trace: Trace::new(keep_trace),
            raging: AtomicBool::new(false),
            store: Mutex::default(),
            faults,
            sabotage,
            seen: Mutex::default(),
        })
    }

    /// What goes wrong now.
    pub(crate) fn faults(&self) -> Faults {
        if self.raging.load(Ordering::Relaxed) {
            self.faults.clone()
        } else {
            Faults::default()
        }
    }

    /// Whether things go wrong now.
    pub(crate) fn rages(&self) -> bool {
        self.raging.load(Ordering::Relaxed)
    }

    /// What goes wrong in the run.
    pub(crate) fn planned(&self) -> &Faults {
        &self.faults
    }

    /// Whether nothing goes wrong in the whole run.
    pub(crate) fn quiet(&self) -> bool {
        self.faults == Faults::default() && self.sabotage.is_none()
    }

    /// From now on things go wrong.
    pub(crate) fn rage(&self) {
        self.raging.store(true, Ordering::Relaxed);
    }

    /// Looks into these rows when a guest starts.
    pub(crate) fn watch(&self, store: Store) {
        *self.store.lock().unwrap_or_else(PoisonError::into_inner) = Some(store);
    }

    /// The run is over.
    pub(crate) fn over(&self) {
        drop(self.store.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// A guest's CPUs run from now on: its instance has not ended (I6).
    pub(crate) fn started(self: &Arc<Self>, id: InstanceId) {
        {
            let mut seen = self.seen();
            seen.counts.starts += 1;
            let at = self.clock.elapsed();
            seen.watches.started(id, at);
            seen.boots.entry(id).or_default().0 += 1;
        }
        let this = self.clone();
        tokio::spawn(async move {
            let store = this.store.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let Some(store) = store else { return };
            let row = instance::Entity::find_by_id(Key(id)).one(store.read()).await;
            if let Ok(Some(row)) = row
                && row.state.0 == State::Terminated
            {
                this.violate(Invariant::I6, format_args!("{id} is terminated and starts"));
            }
        });
    }

    /// A guest that runs starts over.
    pub(crate) fn reset(&self, id: InstanceId) {
        self.seen().boots.entry(id).or_default().1 += 1;
    }

    /// How often a guest has started, and how often it was reset.
    pub(crate) fn boots(&self, id: InstanceId) -> (u64, u64) {
        self.seen().boots.get(&id).copied().unwrap_or_default()
    }

    /// From now on nothing goes wrong any more.
    pub(crate) fn calm(&self) {
        self.raging.store(false, Ordering::Relaxed);
        self.note(format_args!("calm"));
    }

    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn count(&self, count: impl FnOnce(&mut Counts)) {
        count(&mut self.seen().counts);
    }

    /// Adds an event to the trace.
    pub(crate) fn note(&self, event: fmt::Arguments<'_>) {
        self.trace.add(self.clock.elapsed(), event);
    }

    pub(crate) fn trace(&self) -> &Trace {
        &self.trace
    }

    /// An invariant does not hold.
    pub(crate) fn violate(&self, invariant: Invariant, words: fmt::Arguments<'_>) {
        self.note(format_args!("{invariant:?} violated: {words}"));
        let at = self.clock.elapsed();
        let mut seen = self.seen();
        let (count, told) = seen.violations.entry(invariant).or_default();
        *count += 1;
        if told.len() < TOLD {
            told.push(format!("at {at} ms: {words}"));
        }
    }

    /// What does not hold.
    pub(crate) fn violations(&self) -> Vec<Violation> {
        let seen = self.seen();
        let all = seen
            .violations
            .iter()
            .map(|(invariant, (count, told))| Violation {
                invariant: *invariant,
                count: *count,
                told: told.clone(),
            });
        all.collect()
    }

    /// A guest's process is there from now on: the only one of its instance (I7).
    pub(crate) fn guest_on(&self, id: InstanceId, host: &HostId) {
        let others = {
            let mut seen = self.seen();
            let hosts = seen.guests.entry(id).or_default();
            let others: Vec<_> = hosts.iter().filter(|other| *other != host).cloned().collect();
            if !hosts.contains(host) {
                hosts.push(host.clone());
            }
            others
        };
        if !others.is_empty() {
            self.violate(
                Invariant::I7,
                format_args!("{id} runs on {host} and on {others:?}"),
            );
        }
    }

    /// It is no more.
    pub(crate) fn guest_off(&self, id: InstanceId, host: &HostId) {
        let mut seen = self.seen();
        if let Some(hosts) = seen.guests.get_mut(&id) {
            hosts.retain(|other| other != host);
            if hosts.is_empty() {
                seen.guests.remove(&id);
            }
        }
    }

    /// Lets virtual time pass; a role of the control plane, a host or a message waits so.
    pub(crate) async fn pause(&self, millis: std::ops::Range<u64>) {
        let pause = self.dice.millis(millis);
        if pause > Duration::ZERO {
            tokio::time::sleep(pause).await;
        }
    }
}
