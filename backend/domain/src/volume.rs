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

use serde::{Deserialize, Serialize};

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
    /// The backing store that has a volume's data.
    #[derive(Default, Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    VolumeStore {
        /// A file of one host, which no other has.
        #[default]
        Local = "local",
        /// An image in a pool of Ceph's, which all hosts reach that are told of it.
        Rbd = "rbd",
    }
}

impl VolumeStore {
    /// Whether only one host has what is in it.
    pub const fn is_local(&self) -> bool {
        matches!(self, VolumeStore::Local)
    }
}

/// Whether this is the name of a Ceph pool that can be told to every program: up to 64 letters, digits, `.`, `_` and `-`,
/// the first of them no mark.
pub fn is_pool_name(name: &str) -> bool {
    let is_mark = |byte: u8| matches!(byte, b'.' | b'_' | b'-');
    let begins = name
        .bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_alphanumeric());
    begins
        && name.len() <= 64
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || is_mark(byte))
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
