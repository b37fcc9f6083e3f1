//! Instances: launched, described, powered, changed and ended. Each function's transaction changes the
//! rows and the journal together; the conductor does the rest.

mod addresses;
mod attributes;
mod cache;
mod console;
mod describe;
mod launch;
mod metadata;
mod plan;
mod power;
mod replay;
mod spec;
mod user_data;
mod view;

pub use attributes::{AttributeChange, modify_attribute};
pub use cache::InstanceCache;
pub use console::{ConsoleOutput, console_output, console_screenshot};
pub use describe::{InstanceQuery, describe, describe_reservations, get};
pub use launch::launch;
pub use metadata::{MetadataChange, modify_metadata_options};
pub use power::{StateChange, reboot, start, stop, terminate};
pub use spec::{LaunchSpec, LaunchTags};
pub use view::{GroupRef, InstanceView, InterfaceView, ReservationView};

#[cfg(test)]
mod tests;
