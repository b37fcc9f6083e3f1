//! The scheduler: it chooses hosts for instances. `pick` is pure: a fleet and a request in, a host or the
//! reasons against all of them out. What makes a choice hold is the claim, one conditional update in the
//! conductor; a lost race tries again.
//!
//! - `fleet`: the hosts as the choice sees them; what many have in common is kept once.
//! - `filters`, `weights`: what a host must be, and what makes one better. One small file each.
//! - `settings`: which of them are used, and how, as Nova's configuration names it.
//! - `extra_specs`: the operators of extra specifications, Nova's.
//! - `refusal`: why no host is good enough, in words.
//! - `picture`: the cached fleet, as read from the database, and corrected.

pub mod extra_specs;
pub mod filters;
mod fleet;
mod pick;
mod picture;
mod refusal;
mod request;
mod settings;
pub mod weights;

pub use cumulet_domain::placement::Policy;
pub use fleet::{Fleet, HostInfo, HostState, Pairs, Profile};
pub use pick::{fitting, pick, room};
pub use picture::Scheduler;
pub use refusal::{Refusal, Removed};
pub use request::{Group, HostSet, Member, Request, SILENCE, heard_after};
pub use settings::{Multipliers, Settings};
