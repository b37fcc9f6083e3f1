//! Host administration. No principal is asked: these are the operator's own commands. Instances are never
//! moved and never ended from here; their users do that.

pub mod aggregates;
mod change;
mod confirm;
mod list;
mod pool;

pub use change::{Drained, Window, cancel_maintenance, disable, drain, enable, plan_maintenance, remove};
pub use confirm::{Confirmed, Given, confirm};
pub use list::{HostView, Maintenance, Standing, get, list, planned, show};
pub use pool::forget_pool;
