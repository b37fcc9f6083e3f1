//! Instances: launched, described, powered, changed and ended. Each function's transaction changes the
//! rows and the journal together; the conductor does the rest.

mod addresses;
mod attributes;
mod cache;
mod console;
mod describe;
mod launch;
mod launch_disks;
mod launch_plan;
mod launch_spec;
mod metadata_options;
mod power;
mod public_addresses;
mod rendering;
mod replay;
mod user_data;
mod view;

pub use attributes::{AttributeChange, DiskChange, modify_attribute};
pub use cache::InstanceCache;
pub use console::{ConsoleOutput, console_output, console_screenshot};
pub use cumulet_network::interface_view::{GroupRef, InterfaceView};
pub use cumulet_store::addresses::{InterfaceAddress, InterfaceAddresses};
pub use describe::{InstanceQuery, describe, describe_reservations, get};
pub use launch::launch;
pub use launch_spec::{LaunchSpec, LaunchTags};
pub use metadata_options::{MetadataChange, modify_metadata_options};
pub use power::{StateChange, reboot, start, stop, terminate};
pub use user_data::{UserData, user_data};
pub use view::{DiskView, InstanceView, ReservationKey, ReservationView};
