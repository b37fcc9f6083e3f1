//! Chooses hosts for instances. `pick` is pure: hosts and a request in, an order of hosts or the reasons
//! against them out. What makes a choice hold is the claim, one conditional update in the conductor; a
//! lost race tries the next host.

pub mod filters;
mod pick;
mod snapshot;
pub mod weights;

pub use pick::{HostState, Refusal, Request, pick};
pub use snapshot::{could_fit, hosts};
