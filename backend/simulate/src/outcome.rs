//! The outcome of a run: its seed, its trace's hash, its counters and the invariants that were violated.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use cumulet_domain::id::InstanceId;
use serde::Serialize;

use crate::faults::Faults;

/// What must hold in every run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Invariant {
    /// No leak: what hosts have is what rows say.
    I1,
    /// Convergence: nothing stays on its way when all is well again.
    I2,
    /// No host is oversold, and what is used of one is the sum of its rows.
    I3,
    /// A client token makes one set of instances.
    I4,
    /// What was acknowledged is there.
    I5,
    /// What has ended never runs again.
    I6,
    /// At most one guest of an instance.
    I7,
    /// No address twice in a VPC.
    I8,
    /// A hypervisor that is slow for less than an operation may take delays it, and ends nothing. (Where nothing else
    /// goes wrong.)
    I9,
    /// An open operation holds what it works on; nothing is held for one that has ended.
    I10,
    /// The data of each volume is on the host that its row names, and guests have what is attached to them.
    I11,
    /// No error that the API must not show.
    Errors,
}

impl Invariant {
    /// All of them, with their names.
    pub const ALL: [(Invariant, &'static str); 12] = [
        (Invariant::I1, "I1 no leak"),
        (Invariant::I2, "I2 convergence"),
        (Invariant::I3, "I3 never oversold"),
        (Invariant::I4, "I4 client tokens are idempotent"),
        (Invariant::I5, "I5 what was acknowledged is there"),
        (Invariant::I6, "I6 terminated is final"),
        (Invariant::I7, "I7 one guest an instance"),
        (Invariant::I8, "I8 unique addresses"),
        (Invariant::I9, "I9 what is slow for a while ends nothing"),
        (Invariant::I10, "I10 holds are those of open operations"),
        (
            Invariant::I11,
            "I11 no volume is lost, left behind or somewhere twice",
        ),
        (Invariant::Errors, "no internal errors"),
    ];
}

/// What does not hold.
#[derive(Clone, Debug, Serialize)]
pub struct Violation {
    /// Which invariant.
    pub invariant: Invariant,
    /// How often that was seen.
    pub count: u64,
    /// The first times, in words.
    pub told: Vec<String>,
}

macro_rules! counts {
    ($($name:ident)*) => {
        /// How often what came to pass.
        #[derive(Clone, Debug, Default, Serialize)]
        #[allow(missing_docs)]
        pub struct Counts {
            $(pub $name: u64,)*
        }

        impl Counts {
            /// Each, with its name.
            pub fn each(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)*]
            }
        }
    };
}

counts! {
    calls refused retried commands reports lost repeated delayed starts transactions
    database_errors role_kills worker_kills power_cuts freezes partitions guest_crashes clock_jumps
    step_failures dropped_commands slow_spells late_calls
}

/// Times that something took, sorted by [`Latencies::of`].
#[derive(Debug, Default)]
pub(crate) struct Stopwatches {
    /// From a launch's answer to its guest's start, by virtual time and by a real clock.
    launches: BTreeMap<InstanceId, (u64, Instant)>,
    /// A guest may be up before its launch's answer has come.
    started: BTreeMap<InstanceId, (u64, Instant)>,
    pub(crate) last_start: Option<Instant>,
    pub(crate) virtual_launch: Vec<Duration>,
    pub(crate) wall_launch: Vec<Duration>,
    pub(crate) wall_call: Vec<Duration>,
}

impl Stopwatches {
    /// A launch was asked for at this time, and has made this instance.
    pub(crate) fn launched(&mut self, id: InstanceId, at: u64, began: Instant) {
        match self.started.remove(&id) {
            Some((virtually, really)) => self.took(virtually.saturating_sub(at), really - began),
            None => drop(self.launches.insert(id, (at, began))),
        }
    }

    /// An instance's guest has started; its first start is the launch's.
    pub(crate) fn started(&mut self, id: InstanceId, at: u64) {
        let now = Instant::now();
        self.last_start = Some(now);
        match self.launches.remove(&id) {
            Some((virtually, really)) => self.took(at.saturating_sub(virtually), now - really),
            None => drop(self.started.entry(id).or_insert((at, now))),
        }
    }

    fn took(&mut self, virtual_ms: u64, wall: Duration) {
        self.virtual_launch.push(Duration::from_millis(virtual_ms));
        self.wall_launch.push(wall);
    }
}

/// Percentiles, in milliseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[allow(missing_docs)]
pub struct Latencies {
    pub count: usize,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub max: f64,
}

impl Latencies {
    pub(crate) fn of(times: &mut [Duration]) -> Self {
        times.sort_unstable();
        let at = |share: usize| {
            let index = (times.len() * share / 100).min(times.len().saturating_sub(1));
            times.get(index).map_or(0.0, |time| time.as_secs_f64() * 1000.0)
        };
        Latencies {
            count: times.len(),
            p50: at(50),
            p90: at(90),
            p99: at(99),
            max: at(100),
        }
    }
}

/// What a run ends with. All but what names the wall is the same for the same seed.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs)]
pub struct Outcome {
    pub seed: u64,
    pub hosts: usize,
    /// Rows of instances at the end, by state.
    pub instances: BTreeMap<String, u64>,
    pub faults: Faults,
    pub virtual_seconds: f64,
    pub wall_seconds: f64,
    /// Guests started in a second by a real clock.
    pub starts_per_wall_second: f64,
    /// From a launch's answer to the guest's start.
    pub launch_virtual_ms: Latencies,
    pub launch_wall_ms: Latencies,
    pub call_wall_ms: Latencies,
    pub counts: Counts,
    pub violations: Vec<Violation>,
    /// How many events the digest is of.
    pub events: u64,
    /// SHA-256 of all that came to pass, in order.
    pub digest: String,
    /// The crash points at which a role was killed.
    pub killed_at: Vec<String>,
    #[serde(skip)]
    pub trace: String,
}

impl Outcome {
    /// Whether all invariants hold.
    pub fn holds(&self) -> bool {
        self.violations.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_sorted_times() {
        let mut times: Vec<_> = (1..=100).rev().map(Duration::from_millis).collect();
        let of = Latencies::of(&mut times);
        assert_eq!((of.count, of.p50, of.p99, of.max), (100, 51.0, 100.0, 100.0));
        assert_eq!(Latencies::of(&mut []).max, 0.0);
    }
}
