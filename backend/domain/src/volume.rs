//! The states and types of volumes and of their attachments to instances, in EC2's terms.

mod device;
mod performance;

use std::{fmt, str::FromStr};

pub use device::check_device;
pub use performance::{Performance, Provisioned};

/// Volumes of one instance at the most, its root's among them: EC2's bound for most types.
pub const MAX_ATTACHED: usize = 28;

/// Volumes that can be attached to a guest while it runs: the machine's spare ports. What it is started with needs
/// none of them.
pub const MAX_PLUGGED: usize = 4;

/// An enum whose values have names, which EC2 shows and the database keeps.
macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($value:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[allow(missing_docs)]
        pub enum $name {
            $($value,)*
        }

        impl $name {
            /// Every one.
            pub const ALL: &[$name] = &[$($name::$value,)*];

            /// Its name.
            pub const fn name(self) -> &'static str {
                match self {
                    $($name::$value => $text,)*
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }

        impl FromStr for $name {
            type Err = ();

            fn from_str(text: &str) -> Result<Self, ()> {
                $name::ALL.iter().copied().find(|one| one.name() == text).ok_or(())
            }
        }
    };
}

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
    /// The types that EC2 has. All of them are as fast as the host's disk.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back() {
        for state in VolumeState::ALL {
            assert_eq!(state.to_string().parse(), Ok(*state));
        }
        for state in AttachmentState::ALL {
            assert_eq!(state.to_string().parse(), Ok(*state));
        }
        for kind in VolumeType::ALL {
            assert_eq!(kind.to_string().parse(), Ok(*kind));
        }
        for unknown in ["", "In-use", "gp4", "attached "] {
            assert_eq!(unknown.parse::<VolumeState>(), Err(()), "{unknown:?}");
            assert_eq!(unknown.parse::<VolumeType>(), Err(()), "{unknown:?}");
        }
    }
}
