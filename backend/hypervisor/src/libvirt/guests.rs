//! Guests' processes on their host: as whom they run, what they may use, and what else confines them. Static: decided
//! when a guest is started. The driver asks it for each guest; `cumulet doctor` shows it.

use std::{os::unix::fs::MetadataExt as _, path::Path};

use super::tree::parse;
use crate::{DomainSpec, Error, RbdImage, Result};

/// A user and a group, by their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct GuestUser {
    pub uid: u32,
    pub gid: u32,
}

const ROOT: GuestUser = GuestUser { uid: 0, gid: 0 };

/// What a guest may use of its host; nothing is bounded by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Its process has no more memory than the guest's and what an emulator needs. It takes control groups.
    pub memory: bool,
    /// Bytes in a second for each of its disks; 0: any number.
    pub disk_bytes: u64,
    /// Reads and writes in a second for each of its disks; 0: any number.
    pub disk_operations: u64,
}

/// As whom guests run, and what they may use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guests {
    /// Whom libvirt runs a guest as that has no user number of its own, where that is known.
    pub usual: Option<GuestUser>,
    /// The group of those that have one.
    pub group: Option<u32>,
    /// A guest that can't reach its disk otherwise may run as root.
    pub may_be_root: bool,
    /// What each may use.
    pub bounds: Bounds,
}

impl Guests {
    /// As whom the guest's process has to run; `None`: libvirt's own user for that.
    ///
    /// # Errors
    /// `Refused` where only root could reach its disk, and none is to run as root.
    pub(super) fn user(&self, spec: &DomainSpec) -> Result<Option<GuestUser>> {
        let own = spec.uid.zip(self.group).map(|(uid, gid)| GuestUser { uid, gid });
        let user = own.or(self.usual);
        let below = |d: &crate::DomainDisk| {
            d.backing
                .as_ref()
                .is_none_or(|below| reachable(&below.path, user))
        };
        if spec
            .disks
            .iter()
            .all(|disk| reachable(&disk.path, user) && below(disk))
        {
            return Ok(own);
        }
        if user == Some(ROOT) || self.may_be_root {
            tracing::warn!(instance = %spec.instance, "only root can reach its disk: the guest's process runs as root");
            return Ok(Some(ROOT));
        }
        Err(Error::Refused(
            "only root could reach the guest's disk, and no guest runs as root: move the cloud with --state-dir, for \
             instance to /var/lib/cumulet (or set `libvirt.guests_as_root`)"
                .into(),
        ))
    }
}

/// Whether a user may pass through the directories above a file, as the guest's process must. Access lists that grant
/// more are not seen, and not needed: the directories are ours. An image in a pool is in none.
fn reachable(path: &Path, user: Option<GuestUser>) -> bool {
    if user == Some(ROOT) || RbdImage::of(path).is_some() {
        return true;
    }
    path.ancestors().skip(1).all(|dir| {
        std::fs::metadata(dir).is_ok_and(|found| passes(found.mode(), found.uid(), found.gid(), user))
    })
}

fn passes(mode: u32, owner: u32, group: u32, user: Option<GuestUser>) -> bool {
    let bit = match user {
        Some(user) if user.uid == owner => 0o100,
        Some(user) if user.gid == group => 0o010,
        _ => 0o001,
    };
    mode & bit != 0
}

/// What confines guests beside their user: the security drivers of a libvirt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Confinement {
    /// Their models, such as `apparmor`, `selinux`, `dac`.
    pub models: Vec<String>,
}

impl Confinement {
    /// The driver that confines guests also where they are root, if there is one.
    pub fn mandatory(&self) -> Option<&str> {
        let known = ["apparmor", "selinux"];
        self.models
            .iter()
            .map(String::as_str)
            .find(|model| known.contains(model))
    }

    fn read(capabilities: &str) -> Confinement {
        let host = parse(capabilities).ok();
        let host = host.as_ref().and_then(|all| all.at(&["host"]));
        let models = host.into_iter().flat_map(|host| &host.children);
        let models = models.filter(|child| child.name == "secmodel");
        Confinement {
            models: models
                .filter_map(|model| Some(model.at(&["model"])?.text.clone()))
                .collect(),
        }
    }
}

/// What confines the guests of a libvirt, for a process that has no driver.
///
/// # Errors
/// When libvirt can't be reached.
pub async fn confinement(uri: &str, most: std::time::Duration) -> Result<Confinement> {
    let pool = super::Pool::new(uri.to_owned());
    let ask = |connection: &virt::connect::Connect| connection.capabilities();
    let told = pool.call(super::For::Host, most, ask).await?;
    Ok(Confinement::read(&told))
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt as _, chown},
    };

    use cumulet_domain::{id::InstanceId, image::DiskFormat, spec::Throttle};

    use super::*;
    use crate::DomainDisk;

    const OWN: GuestUser = GuestUser {
        uid: 1_900_000_007,
        gid: 64_055,
    };

    fn spec(disk: &Path, uid: Option<u32>) -> DomainSpec {
        DomainSpec {
            instance: InstanceId::new(7),
            generation: 1,
            instance_type: String::new(),
            vcpus: 1,
            memory_mib: 1,
            nvram: None,
            disks: vec![DomainDisk {
                path: disk.to_owned(),
                format: DiskFormat::Qcow2,
                backing: None,
                secret: None,
                bytes: 1 << 30,
                target: "vda".into(),
                serial: "vol00123456789abcdef".into(),
                boot: Some(1),
                throttle: Throttle::default(),
            }],
            nics: vec![],
            console_log: "/dev/null".into(),
            uid,
        }
    }

    #[test]
    fn a_user_passes_by_the_bits_that_are_its() {
        let of = |mode, owner, group| passes(mode, owner, group, Some(OWN));
        assert!(of(0o710, 0, OWN.gid) && of(0o711, 0, 0) && of(0o100, OWN.uid, 0));
        assert!(!of(0o700, 0, OWN.gid) && !of(0o710, 0, 0) && !of(0o011, OWN.uid, OWN.gid));
        assert!(
            !of(0o701, 0, OWN.gid),
            "the group's bits, also where others have more"
        );
        assert!(passes(0o711, 0, 0, None) && !passes(0o710, 0, 0, None));
    }

    #[test]
    fn no_guest_runs_as_root_in_silence() {
        let top = tempfile::Builder::new().tempdir_in("/var/tmp").unwrap();
        let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        let dir = top.path().join("instance");
        fs::create_dir(&dir).unwrap();
        mode(top.path(), 0o711);
        mode(&dir, 0o710);
        let disk = dir.join("disk");
        let guests = Guests {
            group: Some(OWN.gid),
            ..Guests::default()
        };
        let refused = guests.user(&spec(&disk, Some(OWN.uid))).unwrap_err();
        assert!(
            matches!(&refused, Error::Refused(text) if text.contains("--state-dir")),
            "{refused}"
        );
        let allowed = Guests {
            may_be_root: true,
            ..guests.clone()
        };
        assert_eq!(allowed.user(&spec(&disk, Some(OWN.uid))), Ok(Some(ROOT)));
        if nix_is_root() {
            chown(&dir, Some(0), Some(OWN.gid)).unwrap();
            assert_eq!(guests.user(&spec(&disk, Some(OWN.uid))), Ok(Some(OWN)));
        }
        let image = Path::new("rbd:pool/vol-0.raw");
        assert_eq!(guests.user(&spec(image, Some(OWN.uid))), Ok(Some(OWN)));
        mode(&dir, 0o711);
        assert_eq!(guests.user(&spec(&disk, None)), Ok(None), "libvirt's own user");
        let as_root = Guests {
            usual: Some(ROOT),
            ..Guests::default()
        };
        mode(&dir, 0o700);
        assert_eq!(
            as_root.user(&spec(&disk, None)),
            Ok(None),
            "the operator's own choice in qemu.conf"
        );
    }

    fn nix_is_root() -> bool {
        fs::metadata("/proc/self").is_ok_and(|found| found.uid() == 0)
    }

    #[test]
    fn what_confines_guests_is_read() {
        let told = "<capabilities><host><cpu/><secmodel><model>apparmor</model><doi>0</doi></secmodel>\
            <secmodel><model>dac</model><doi>0</doi></secmodel></host></capabilities>";
        let found = Confinement::read(told);
        assert_eq!((found.models.len(), found.mandatory()), (2, Some("apparmor")));
        let none = Confinement::read(
            "<capabilities><host><secmodel><model>dac</model></secmodel></host></capabilities>",
        );
        assert_eq!(none.mandatory(), None);
        assert_eq!(Confinement::read("<"), Confinement::default());
    }
}
