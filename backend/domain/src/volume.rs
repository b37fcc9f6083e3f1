//! The states and types of volumes and of their attachments to instances, in EC2's terms.

mod device;
mod encryption;
mod mapping;
mod modification;
mod performance;
mod throttle;

pub use device::{ROOT_DEVICE, ROOT_DEVICES, check_device, check_root_device};
pub use encryption::{DataKey, EncryptionAsked, StaysEncrypted, data_key};
pub use mapping::{Disk, DiskAsked, Mapped, Mapping, at_least, merge};
pub use modification::{ModificationState, VolumeChange, VolumeShape};
pub use performance::{Performance, Provisioned};

use crate::named;

/// Volumes of one instance at the most, its root's among them: EC2's bound for most types. A guest has a slot for each,
/// whether it is started with it or gets it while it runs.
pub const MAX_ATTACHED: usize = 28;

named! {
    /// Where a volume is in its life.
    VolumeState {
        Creating = "creating",
        Available = "available",
        InUse = "in-use",
        Deleting = "deleting",
        Deleted = "deleted",
        Error = "error",
    }
}

named! {
    /// Where an attachment is in its life.
    AttachmentState {
        Attaching = "attaching",
        Attached = "attached",
        Detaching = "detaching",
        Detached = "detached",
        Busy = "busy",
    }
}

named! {
    /// The types that EC2 has. Each is as fast as it says, where the host's disk is.
    VolumeType {
        Gp2 = "gp2",
        Gp3 = "gp3",
        Io1 = "io1",
        Io2 = "io2",
        Sc1 = "sc1",
        St1 = "st1",
        Standard = "standard",
    }
}
