//! Counters of operations by kind and step, in this process. The engine and the ends count; the metrics read.

use std::sync::atomic::{AtomicU64, Ordering};

/// A counter's value, with its labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// Such as `launch`.
    pub operation: &'static str,
    /// A step, or how it ended: `done` or `failed`.
    pub what: &'static str,
    /// So many times.
    pub times: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Counts {
    steps: Vec<Counter>,
    errors: Vec<Counter>,
    ends: Vec<Counter>,
}

#[derive(Debug)]
struct Counter {
    operation: &'static str,
    what: &'static str,
    times: AtomicU64,
}

/// How an operation ends that nothing supersedes.
const ENDS: [&str; 2] = ["done", "failed"];

impl Counts {
    /// Of these operations with these steps, nothing yet.
    pub(super) fn of(kinds: impl Iterator<Item = (&'static str, Vec<&'static str>)>) -> Self {
        let mut counts = Counts {
            steps: Vec::new(),
            errors: Vec::new(),
            ends: Vec::new(),
        };
        let counter = |operation, what| Counter {
            operation,
            what,
            times: AtomicU64::new(0),
        };
        for (operation, steps) in kinds {
            for step in steps {
                counts.steps.push(counter(operation, step));
                counts.errors.push(counter(operation, step));
            }
            counts.ends.extend(ENDS.map(|how| counter(operation, how)));
        }
        counts
    }

    /// Steps that an engine has run.
    pub fn steps(&self) -> Vec<Count> {
        read(&self.steps)
    }

    /// Those of them that came to an error, and run again.
    pub fn errors(&self) -> Vec<Count> {
        read(&self.errors)
    }

    /// Operations that have ended by themselves.
    pub fn ends(&self) -> Vec<Count> {
        read(&self.ends)
    }

    pub(super) fn step(&self, operation: &str, step: &str) {
        add(&self.steps, operation, step);
    }

    pub(super) fn error(&self, operation: &str, step: &str) {
        add(&self.errors, operation, step);
    }

    pub(super) fn end(&self, operation: &str, failed: bool) {
        add(&self.ends, operation, ENDS[usize::from(failed)]);
    }
}

fn read(counters: &[Counter]) -> Vec<Count> {
    let read = |counter: &Counter| Count {
        operation: counter.operation,
        what: counter.what,
        times: counter.times.load(Ordering::Relaxed),
    };
    counters.iter().map(read).collect()
}

fn add(counters: &[Counter], operation: &str, what: &str) {
    let mut all = counters.iter();
    if let Some(counter) = all.find(|one| one.operation == operation && one.what == what) {
        counter.times.fetch_add(1, Ordering::Relaxed);
    }
}
