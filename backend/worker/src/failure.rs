//! Failures of commands, as their outcomes tell them: what a tenant reads after the host's name, and what only the
//! log has.

use std::io;

use cumulet_domain::id::VolumeId;

use crate::{image_cache::ImageError, network::NetworkError, qcow2::Altered, rbd::Trouble, vpcs::VpcError};

/// A failure in words, and whether trying again here is of no use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Failure {
    /// To be read after "host vm: ", without paths, programs' output or numbers of the system.
    pub(crate) reason: String,
    /// The same with all that is known, where that is more.
    pub(crate) detail: Option<String>,
    pub(crate) permanent: bool,
    /// Something that was called has not answered in time: what came of it is not known.
    pub(crate) unanswered: bool,
    /// Volumes that the guest was to let go of and has not; all else is done.
    pub(crate) kept: Vec<VolumeId>,
    /// Somebody else has what it takes, perhaps for long: nothing is wrong, and whoever waits for that has nothing that
    /// others wait for.
    pub(crate) busy: bool,
}

impl Failure {
    pub(crate) fn temporary(reason: impl Into<String>) -> Self {
        Failure {
            reason: reason.into(),
            ..Failure::default()
        }
    }

    /// With a detail for the log.
    pub(crate) fn of(reason: impl Into<String>, detail: impl ToString) -> Self {
        Failure {
            detail: Some(detail.to_string()),
            ..Failure::temporary(reason)
        }
    }
}

/// As QEMU and what else tells it in words says that there is no room.
pub(crate) const NO_ROOM: &str = "No space left on device";

impl Failure {
    /// Of what was to come to the store of snapshots.
    pub(crate) fn of_store(error: &io::Error) -> Self {
        let why = match error.kind() {
            io::ErrorKind::StorageFull => "the store of snapshots is full".into(),
            io::ErrorKind::QuotaExceeded => "the quota of the store of snapshots is used up".into(),
            _ => plain(error),
        };
        Failure {
            unanswered: is_unanswered(error),
            ..Failure::of(format!("the snapshot can't be kept: {why}"), error)
        }
    }

    /// Of a disk that was to be made, in this reason. Where a pool or a store has not answered, it is made later.
    pub(crate) fn of_disk(reason: String, error: &io::Error) -> Self {
        Failure {
            unanswered: is_unanswered(error),
            ..Failure::of(reason, error)
        }
    }

    /// Of copies of a guest's disks, by what the hypervisor says of them.
    pub(crate) fn of_copies(said: String) -> Self {
        let why = if said.contains(NO_ROOM) {
            ": the disk is full"
        } else {
            ""
        };
        Failure::of(format!("the guest's disks could not be copied{why}"), said)
    }
}

/// The system's answer without its number.
fn plain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::StorageFull => "the disk is full".into(),
        io::ErrorKind::QuotaExceeded => "the disk's quota is used up".into(),
        io::ErrorKind::TimedOut => "the disk is too slow".into(),
        io::ErrorKind::HostUnreachable => "the cloud's storage can't be reached".into(),
        kind => kind.to_string(),
    }
}

/// The same of the pool of volumes.
const fn of_pool(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::StorageFull => "the pool of volumes is full",
        io::ErrorKind::QuotaExceeded => "the quota of the pool of volumes is used up",
        io::ErrorKind::TimedOut => "the pool of volumes does not answer",
        io::ErrorKind::HostUnreachable => "the pool of volumes could not be reached",
        io::ErrorKind::PermissionDenied => "the pool of volumes refuses this host",
        io::ErrorKind::ResourceBusy => "the volume is still open somewhere",
        _ => "the pool of volumes could not do it",
    }
}

/// Whether what was called has not answered.
fn is_unanswered(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::TimedOut | io::ErrorKind::HostUnreachable
    )
}

impl From<cumulet_hypervisor::Error> for Failure {
    fn from(error: cumulet_hypervisor::Error) -> Self {
        use cumulet_hypervisor::Error;
        let reason = match &error {
            // The words of the hypervisor have paths and arguments of QEMU's in them.
            Error::Away(_) => "the hypervisor can't be reached".into(),
            Error::Unavailable(_) => "the hypervisor could not do it".into(),
            Error::Refused(_) => "the hypervisor refused it".into(),
            // Ours.
            Error::NotFound(_)
            | Error::Foreign(_)
            | Error::Hung(_)
            | Error::Late(_)
            | Error::NoFirmware
            | Error::NoConsole(..) => error.to_string(),
        };
        Failure {
            permanent: error.is_permanent(),
            unanswered: error.is_unanswered(),
            ..Failure::of(reason, &error)
        }
    }
}

impl From<VpcError> for Failure {
    fn from(error: VpcError) -> Self {
        match &error {
            VpcError::Network(of_network) => network(of_network),
            VpcError::Io(source) => Failure {
                unanswered: is_unanswered(source),
                ..Failure::of(
                    format!("the VPC's rules can't be kept: {}", plain(source)),
                    &error,
                )
            },
            VpcError::Metadata(_) => Failure::of("the instance's metadata can't be served", &error),
        }
    }
}

fn network(error: &NetworkError) -> Failure {
    let why = match error {
        NetworkError::Command { program, .. } => format!("{program} has failed"),
        NetworkError::Deadline(program) => format!("{program} did not end in time"),
        NetworkError::Io { source, .. } => source.kind().to_string(),
        NetworkError::Policy(_) => "its rules contradict each other".into(),
        NetworkError::NotInPolicy { .. } => "the rules that are there do not know the interface".into(),
        NetworkError::NoDevice(_) => "the guest's device is gone".into(),
        NetworkError::NoNamespace(_) => "the VPC is not there".into(),
    };
    Failure {
        permanent: matches!(error, NetworkError::Policy(_)),
        unanswered: matches!(error, NetworkError::Deadline(_)),
        ..Failure::of(format!("the network can't be set up: {why}"), error)
    }
}

impl From<NetworkError> for Failure {
    fn from(error: NetworkError) -> Self {
        network(&error)
    }
}

impl From<ImageError> for Failure {
    fn from(error: ImageError) -> Self {
        match &error {
            ImageError::Source { image, error: source } => Failure {
                unanswered: is_unanswered(source),
                ..Failure::of(
                    format!("image {image} can't be fetched: {}", plain(source)),
                    &error,
                )
            },
            ImageError::Wrong { image, .. } => Failure {
                permanent: true,
                ..Failure::of(format!("image {image} is not what was imported"), &error)
            },
            ImageError::Io(source) => Failure {
                unanswered: is_unanswered(source),
                ..Failure::of(format!("the image can't be kept: {}", plain(source)), &error)
            },
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if let Some(altered) = Altered::of(&error) {
            return Failure {
                permanent: true,
                ..Failure::of(altered.told(), &error)
            };
        }
        let reason = match Trouble::is(&error) {
            true => of_pool(error.kind()).to_owned(),
            false => format!("the instance's files can't be kept: {}", plain(&error)),
        };
        Failure {
            unanswered: is_unanswered(&error),
            ..Failure::of(reason, &error)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{path::Path, time::Duration};

    use cumulet_domain::{
        console::ConsoleKind,
        id::{NetworkInterfaceId, VpcId},
        message::is_for_tenants,
    };
    use cumulet_hypervisor::Error as Hypervisor;

    use super::*;
    use crate::testing::instance;

    fn no_room() -> io::Error {
        io::Error::from_raw_os_error(28)
    }

    fn late() -> io::Error {
        io::Error::new(io::ErrorKind::TimedOut, "qemu-img did not end in time")
    }

    fn altered() -> io::Error {
        let disk = Path::new("/var/lib/cumulet/instances/i-0123/disk.qcow2");
        Altered::error(disk, "it names a file below".into())
    }

    fn away() -> io::Error {
        io::Error::new(
            io::ErrorKind::HostUnreachable,
            "the storage door does not answer: 503",
        )
    }

    fn of_a_pool(kind: io::ErrorKind) -> Failure {
        Trouble::error(kind, "rbd: exit status: 1: error opening image pool/vol-0.raw").into()
    }

    fn of_a_disk(error: &io::Error) -> Failure {
        Failure::of_disk("vol-0 can't be made of snap-0".into(), error)
    }

    /// As libvirt says it.
    const LIBVIRTS: &str = "internal error: QEMU unexpectedly closed the monitor (vm='i-0'): -drive file=\
                            /var/lib/cumulet/disk.qcow2: Permission denied";

    fn all() -> Vec<(&'static str, Failure)> {
        let (id, said) = (instance(1), String::from("internal error: /var/lib/x\nmore"));
        let (interface, vpc) = (NetworkInterfaceId::new(1 << 44), VpcId::new(1 << 44));
        let (program, detail) = (String::from("nft"), String::from("Error: /run/x: No such"));
        let (image, path) = (
            String::from("ami-0123"),
            String::from("/var/lib/cumulet/images/ab: gone"),
        );
        vec![
            ("", Hypervisor::NotFound(id).into()),
            ("P", Hypervisor::Foreign(id).into()),
            ("U", Hypervisor::Hung(id).into()),
            ("U", Hypervisor::Late(Duration::from_secs(40)).into()),
            ("U", Hypervisor::Away(LIBVIRTS.into()).into()),
            ("", Hypervisor::Unavailable(LIBVIRTS.into()).into()),
            ("P", Hypervisor::Refused(LIBVIRTS.into()).into()),
            ("P", Hypervisor::NoFirmware.into()),
            ("P", Hypervisor::NoConsole(id, ConsoleKind::Vnc).into()),
            ("", NetworkError::Command { program, detail }.into()),
            ("U", NetworkError::Deadline("ip".into()).into()),
            ("", NetworkError::io("/proc/self/ns/net", no_room()).into()),
            ("P", NetworkError::Policy(said.clone()).into()),
            (
                "",
                NetworkError::NotInPolicy {
                    interface,
                    vpc,
                    generation: 7,
                }
                .into(),
            ),
            ("", NetworkError::NoDevice(interface).into()),
            ("", NetworkError::NoNamespace(vpc).into()),
            ("", VpcError::Io(no_room()).into()),
            ("U", VpcError::Io(late()).into()),
            ("", VpcError::Metadata(said.clone()).into()),
            (
                "",
                ImageError::Source {
                    image: image.clone(),
                    error: io::Error::new(io::ErrorKind::NotFound, path),
                }
                .into(),
            ),
            (
                "U",
                ImageError::Source {
                    image: image.clone(),
                    error: away(),
                }
                .into(),
            ),
            ("U", away().into()),
            ("P", ImageError::Wrong { image, what: said }.into()),
            ("", ImageError::Io(no_room()).into()),
            ("U", ImageError::Io(late()).into()),
            ("", no_room().into()),
            ("P", altered().into()),
            ("U", of_a_pool(io::ErrorKind::TimedOut)),
            ("U", of_a_pool(io::ErrorKind::HostUnreachable)),
            ("", of_a_pool(io::ErrorKind::StorageFull)),
            ("", of_a_pool(io::ErrorKind::QuotaExceeded)),
            ("", of_a_pool(io::ErrorKind::PermissionDenied)),
            ("", of_a_pool(io::ErrorKind::ResourceBusy)),
            ("", of_a_pool(io::ErrorKind::Other)),
            ("", Failure::of_store(&no_room())),
            ("U", Failure::of_store(&away())),
            ("", of_a_disk(&no_room())),
            ("U", of_a_disk(&away())),
            (
                "U",
                of_a_disk(&Trouble::error(io::ErrorKind::TimedOut, "rbd: 110")),
            ),
            ("", Failure::of_copies(LIBVIRTS.into())),
            ("U", late().into()),
        ]
    }

    #[test]
    fn each_kind_is_a_sentence_without_internals() {
        for (kind, failure) in all() {
            let Failure { reason, detail, .. } = &failure;
            assert_eq!(
                (failure.permanent, failure.unanswered),
                (kind == "P", kind == "U"),
                "{reason}"
            );
            assert!(reason.split(' ').count() >= 4, "no sentence: {reason}");
            assert!(reason.starts_with(|c: char| c.is_ascii_lowercase()), "{reason}");
            assert!(reason.ends_with(|c: char| c.is_alphanumeric()), "{reason}");
            for internal in [
                "/",
                "os error",
                "(",
                "\"",
                "::",
                "\n",
                "SHA-256",
                "generation",
                "QEMU",
                "socket",
                "error:",
            ] {
                assert!(!reason.contains(internal), "{internal:?} in: {reason}");
            }
            // What takes reports lets it through.
            assert!(is_for_tenants(reason), "{reason}");
            assert!(detail.is_some(), "nothing for the log: {reason}");
        }
    }

    #[test]
    fn what_has_no_room_is_named() {
        let store = Failure::of_store(&no_room()).reason;
        assert_eq!(
            store,
            "the snapshot can't be kept: the store of snapshots is full"
        );
        let said = String::from("block job failed: No space left on device");
        let copies = Failure::of_copies(said).reason;
        assert_eq!(copies, "the guest's disks could not be copied: the disk is full");
        let other = Failure::of_copies("block job failed: Input/output error".into());
        assert_eq!(other.reason, "the guest's disks could not be copied");
    }

    #[test]
    fn what_the_hypervisor_says_is_in_the_log_alone() {
        let all = [Hypervisor::Refused, Hypervisor::Unavailable, Hypervisor::Away];
        for failure in all.map(|kind| Failure::from(kind(LIBVIRTS.into()))) {
            assert!(!failure.reason.contains("monitor"), "{}", failure.reason);
            assert!(failure.detail.unwrap().ends_with(LIBVIRTS));
        }
    }
}
