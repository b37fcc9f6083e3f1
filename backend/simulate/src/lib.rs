//! The deterministic simulator: the control plane as it is (API, conductor, scheduler, store) and the worker of each
//! host over a simulated machine, in one thread under a virtual clock. Everything that could differ between two runs
//! (time, randomness, the order of messages, what fails) comes from a seed, so that a run that went wrong can be run
//! again.
//!
//! - `world`: what all parts of a run share: clock, dice, trace, what was seen.
//! - `faults`: what goes wrong, and when.
//! - `bus`: the bus between control plane and hosts, which loses, repeats and delays.
//! - `database`: what a database server may do to a transaction, and what is checked after each.
//! - `host`: a simulated host: the worker as it is, over a hypervisor, a network and files that are simulated.
//! - `roles`: the control plane's processes, which are killed and come back.
//! - `client`: those who use the API.
//! - `check`: the invariants.
//! - `kill_each`: a run for each crash point, whose one fault is the death there.

mod bus;
mod check;
mod client;
mod clock;
mod database;
mod dice;
mod faults;
mod host;
mod images;
mod kill_each;
mod options;
mod outcome;
mod roles;
mod run;
mod trace;
mod volumes;
mod world;

pub use faults::{FaultKind, FaultKinds, Faults};
pub use kill_each::{Layout, Trial, TrialOutcome, acts, attempt, survey, trials};
pub use options::{Options, Sabotage};
pub use outcome::{Invariant, Latencies, Outcome, Violation};
pub use run::{run, template};
