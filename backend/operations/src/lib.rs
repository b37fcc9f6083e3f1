//! The operations on instances, volumes and snapshots, one file each: its steps, its deadline, what its end changes and what it says to
//! a report. They meet one another (the end of an instance deletes its volumes, a volume comes to a guest that runs), so
//! they are one crate, below the domains whose calls ask for them and below the conductor, which drives them.
//!
//! - `launch`, `start`, `stop`, `reboot`, `terminate`: the operations on instances.
//! - `attach_volume`, `detach_volume`, `modify_volume`, `delete_volume`: those on volumes. `plug`: what the first three
//!   have in common.
//! - `create_snapshot`, with `snapshot` and `snapshot_round`: that on snapshots.
//! - `create_image` and `run_again`, with `image`: those on an instance that an image is made of.
//! - `registry`: the list of them; the journal's engine and reports drive what is in it.
//! - `driver`: what they work with. `deadline`: when an operation's time is over.
//! - `steps`: what several have in common. `instance`, `volume`, `volume_round`: what they are about.
//! - `specs`: rows into what a host needs.
//! - `clear`, `other_host`: a launch that has failed on a host.
//! - `changes`: what guests do by themselves, and the operations that this asks for.
//! - `standing`: whether an instance is a host's.
//! - `keepers`: which host is told of a volume that several reach and no guest has.
//! - `keys`, `storage_grants`: what commands take along for the host that they go to.
//! - `told`: policies that commands have taken along.
//! - `release`: what an instance gives back.

mod attach_volume;
pub mod changes;
mod clear;
mod create_image;
mod create_snapshot;
pub mod deadline;
mod delete_volume;
mod detach_volume;
pub mod driver;
pub mod image;
pub mod instance;
mod keepers;
mod keys;
mod launch;
mod modify_volume;
mod other_host;
mod plug;
mod reboot;
pub mod registry;
pub mod release;
mod run_again;
pub mod snapshot;
mod snapshot_round;
pub mod specs;
pub mod standing;
mod start;
pub mod steps;
mod stop;
mod storage_grants;
mod terminate;
pub mod told;
pub mod volume;
mod volume_round;

pub use attach_volume::AttachVolume;
pub use create_image::CreateImage;
pub use create_snapshot::CreateSnapshot;
pub use cumulet_scheduler::SILENCE;
pub use delete_volume::DeleteVolume;
pub use detach_volume::DetachVolume;
pub use driver::{Driver, Heard, OfInstance, RESEND, Settings};
pub use launch::Launch;
pub use modify_volume::{Modify, ModifyVolume};
pub use reboot::Reboot;
pub use registry::{Duties, REGISTRY, counts, crash_points, steps_of};
pub use run_again::RunAgain;
pub use start::Start;
pub use steps::{
    Nothing,
    demand::{FailedHost, Hints, LaunchState},
};
pub use stop::{Stop, StopState};
pub use terminate::{Terminate, TerminateState};

// For async functions that other crates await: in a box, they are compiled here, once, and not in every crate
// that awaits them (`cargo xtask tidy` asks for it).
pub(crate) use async_recursion::async_recursion as boxed;
