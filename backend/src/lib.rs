//! The control plane as doors and wiring have it: the domains under the names of their calls, and the cloud that a door
//! holds. What it is made of are crates of their own beside this one.

pub mod api;
mod cloud;
#[cfg(any(test, feature = "testing"))]
pub mod test_support;
#[cfg(test)]
mod tests;

pub use cloud::Cloud;
pub use cumulet_core::retention;
pub use cumulet_scheduler as scheduler;
pub use cumulet_storage::image_files as images;
pub use cumulet_store as store;
pub use cumulet_store::{authority, entity};

pub mod bootstrap {
    //! The first start.

    pub use cumulet_identity::key_proof::has_key;
    pub use cumulet_operator::bootstrap::{FirstPlan, FirstStart, bootstrap, existing};
}

pub mod conductor {
    //! The conductor, and the operations that it drives.

    pub use cumulet_conductor::Conductor;
    pub use cumulet_core::Wake;
    pub use cumulet_operations::{Driver, Duties, Hints, Settings, counts, crash_points};
}
