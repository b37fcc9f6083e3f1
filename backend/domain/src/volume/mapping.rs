//! Block device mappings of a launch: what it says of each device, laid over what its image says. Pure; the sizes of
//! snapshots and what is checked by them come after it.

use std::fmt::Display;

use super::{EncryptionAsked, MAX_ATTACHED, Provisioned, VolumeType, check_device};
use crate::{Error, Result, error::Limit, id::SnapshotId};

/// Instance store volumes that a launch may name, as on EC2: `ephemeral0` to `ephemeral23`.
const INSTANCE_STORES: u32 = 24;

/// What a launch says of one device.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Mapping {
    pub device: String,
    pub content: Mapped,
}

/// What a device is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mapped {
    /// Nothing, whatever the image says.
    Nothing,
    /// An instance store volume, by its virtual name.
    InstanceStore(String),
    /// A volume.
    Volume(DiskAsked),
}

/// A volume, as far as the launch says: the rest is the image's, or the default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct DiskAsked {
    pub snapshot: Option<SnapshotId>,
    pub size_gib: Option<u32>,
    pub kind: Option<VolumeType>,
    pub provisioned: Provisioned,
    pub delete_on_termination: Option<bool>,
    pub encryption: EncryptionAsked,
}

/// A disk that instances are to have.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Disk {
    pub device: String,
    /// What it is made of; `None`: it is empty, or the image's file.
    pub snapshot: Option<SnapshotId>,
    /// `None`: as large as what it is made of.
    pub size_gib: Option<u32>,
    pub kind: VolumeType,
    pub provisioned: Provisioned,
    pub delete_on_termination: bool,
    /// Whether it is to be encrypted; `None`: nobody has said.
    pub encrypted: Option<bool>,
    /// The place in the request of the mapping that says something of it, from 1.
    pub given: Option<usize>,
}

impl Disk {
    /// The root of instances of an image that says nothing of it but its device.
    pub fn root(device: &str) -> Self {
        Disk {
            device: device.into(),
            snapshot: None,
            size_gib: None,
            kind: VolumeType::Gp3,
            provisioned: Provisioned::default(),
            delete_on_termination: true,
            encrypted: None,
            given: None,
        }
    }

    /// An empty volume that the launch alone knows. (Of CreateVolume's type where it names none.)
    fn new(device: &str) -> Self {
        Disk {
            kind: VolumeType::Gp2,
            ..Disk::root(device)
        }
    }

    /// What the launch says of it, over what was said before. What was provisioned is the old type's alone.
    fn laid_over(self, asked: &DiskAsked, given: usize) -> Self {
        let kind = asked.kind.unwrap_or(self.kind);
        let before = match kind == self.kind {
            true => self.provisioned,
            false => Provisioned::default(),
        };
        Disk {
            device: self.device,
            snapshot: asked.snapshot.or(self.snapshot),
            size_gib: asked.size_gib.or(match asked.snapshot {
                // Of another snapshot it is as large as that.
                Some(other) if self.snapshot != Some(other) => None,
                _ => self.size_gib,
            }),
            kind,
            provisioned: Provisioned {
                iops: asked.provisioned.iops.or(before.iops),
                throughput: asked.provisioned.throughput.or(before.throughput),
            },
            delete_on_termination: asked.delete_on_termination.unwrap_or(self.delete_on_termination),
            encrypted: asked.encryption.encrypted.or(self.encrypted),
            given: Some(given),
        }
    }

    /// The name of one of its members, as a refusal has it.
    pub fn member(&self, name: &str) -> String {
        match self.given {
            Some(n) => format!("BlockDeviceMapping.{n}.Ebs.{name}"),
            None => format!("BlockDeviceMapping.Ebs.{name}"),
        }
    }

    /// Checks its size and its performance by its type, as those of a volume that is made by itself.
    ///
    /// # Errors
    /// `InvalidParameter`, `InvalidCombination`.
    pub fn check(&self, size_gib: u32) -> Result<()> {
        let checked = self.kind.check(size_gib, self.provisioned);
        checked.map_err(|error| match error {
            Error::InvalidParameter { name, value, reason } => Error::InvalidParameter {
                name: self.member(if name == "Size" { "VolumeSize" } else { &name }),
                value,
                reason,
            },
            other => other,
        })
    }
}

/// So many GiB, where that is not less than what the volume is made of, which has `least`. `of` names that, such as
/// `snapshot 'snap-…'`.
///
/// # Errors
/// `InvalidMapping`, in EC2's words.
pub fn at_least(gib: u32, least: u64, of: impl Display) -> Result<u32> {
    if u64::from(gib) >= least {
        return Ok(gib);
    }
    Err(Error::InvalidMapping {
        reason: format!("Volume of size {gib}GB is smaller than {of}, expect size >= {least}GB"),
    })
}

/// Lays what a launch says over its image's disks, the root's first: the root's, and the others in the order of their
/// devices.
///
/// # Errors
/// `InvalidMapping`; `NoDeviceName`; `InvalidParameter`, `MissingParameter`; `Unsupported` of what the root can't be;
/// `LimitExceeded`.
pub fn merge(root: Disk, others: Vec<Disk>, asked: &[Mapping]) -> Result<(Disk, Vec<Disk>)> {
    let (mut root, mut data) = (root, others);
    for (index, mapping) in asked.iter().enumerate() {
        let given = index + 1;
        let device = mapping.device.as_str();
        if asked.iter().take(index).any(|other| other.device == device) {
            let reason = format!("The device '{device}' is used in more than one block-device mapping");
            return Err(Error::InvalidMapping { reason });
        }
        if device == root.device {
            root = over_root(root, &mapping.content, given)?;
            continue;
        }
        check_device(device)?;
        let before = data.iter().position(|disk| disk.device == device);
        let before = before.map(|at| data.remove(at));
        match &mapping.content {
            Mapped::Nothing => {}
            // No type here has an instance store, and on EC2 what a type has not got is not there, without a word.
            Mapped::InstanceStore(name) => check_instance_store(name, given)?,
            Mapped::Volume(volume) => {
                let before = before.unwrap_or_else(|| Disk::new(device));
                data.push(before.laid_over(volume, given));
            }
        }
    }
    if data
        .iter()
        .any(|disk| disk.size_gib.is_none() && disk.snapshot.is_none())
    {
        let name = "size or snapshotId".into();
        return Err(Error::MissingParameter { name });
    }
    if data.len() >= MAX_ATTACHED {
        let (limit, max) = (Limit::VolumesPerInstance, MAX_ATTACHED as u64);
        return Err(Error::LimitExceeded { limit, max });
    }
    data.sort_by(|a, b| a.device.cmp(&b.device));
    Ok((root, data))
}

/// What a launch says of the root. Its data is the instance's own and lies over the image's on one host, so that it is
/// of no other snapshot and ends with the instance.
fn over_root(root: Disk, content: &Mapped, given: usize) -> Result<Disk> {
    let unsupported = |what: &str| Err(Error::Unsupported { what: what.into() });
    let asked = match content {
        Mapped::Nothing => return unsupported("an instance without its root disk"),
        Mapped::InstanceStore(_) => return unsupported("a root disk in an instance store"),
        Mapped::Volume(asked) => asked,
    };
    match asked.snapshot {
        Some(snapshot) if root.snapshot != Some(snapshot) => {
            unsupported("a root disk of another snapshot than its image's")
        }
        _ => Ok(root.laid_over(asked, given)),
    }
}

/// Checks the virtual name of an instance store volume.
fn check_instance_store(name: &str, given: usize) -> Result<()> {
    let number = name.strip_prefix("ephemeral");
    let number = number.filter(|text| text.len() == 1 || !text.starts_with(['0', '+']));
    let number = number.and_then(|text| text.parse::<u32>().ok());
    if number.is_some_and(|number| number < INSTANCE_STORES) {
        return Ok(());
    }
    let most = INSTANCE_STORES - 1;
    let reason = format!("expecting ephemeral0 to ephemeral{most}");
    let parameter = format!("BlockDeviceMapping.{given}.VirtualName");
    Err(Error::invalid(&parameter, name, reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "/dev/xvda";

    /// Mappings of a launch, by their devices.
    type Asked = Vec<(&'static str, Mapped)>;

    fn asked(change: impl FnOnce(&mut DiskAsked)) -> Mapped {
        let mut asked = DiskAsked::default();
        change(&mut asked);
        Mapped::Volume(asked)
    }

    fn gib(size: u32) -> Mapped {
        asked(|disk| disk.size_gib = Some(size))
    }

    fn of(snapshot: u64) -> Mapped {
        asked(|disk| disk.snapshot = Some(SnapshotId::new(snapshot)))
    }

    /// An image with a root of a snapshot, and beside it one disk of another and one that is empty.
    fn image() -> (Disk, Vec<Disk>) {
        let disk = |device: &str, snapshot: Option<u64>, size, delete_on_termination| Disk {
            snapshot: snapshot.map(SnapshotId::new),
            size_gib: size,
            delete_on_termination,
            ..Disk::new(device)
        };
        let provisioned = Provisioned {
            iops: Some(400),
            throughput: None,
        };
        let fast = Disk {
            kind: VolumeType::Io1,
            provisioned,
            ..disk("/dev/sdg", None, Some(8), true)
        };
        let root = disk(ROOT, Some(1), Some(4), true);
        (root, vec![disk("/dev/sdf", Some(2), Some(3), false), fast])
    }

    fn merged(mappings: &[(&str, Mapped)]) -> Result<(Disk, Vec<Disk>)> {
        let mappings: Vec<_> = mappings
            .iter()
            .map(|(device, content)| Mapping {
                device: (*device).into(),
                content: content.clone(),
            })
            .collect();
        let (root, others) = image();
        merge(root, others, &mappings)
    }

    #[test]
    fn what_is_not_said_is_the_images() {
        let (root, data) = merged(&[]).unwrap();
        assert_eq!((root, data), image());
    }

    #[test]
    fn what_is_said_lies_over_what_the_image_says() {
        let later = |change: fn(&mut DiskAsked)| vec![("/dev/sdg", asked(change))];
        let iops = |count| Provisioned {
            iops: Some(count),
            throughput: None,
        };
        let (_, before) = image();
        let (sdf, sdg) = (before[0].clone(), before[1].clone());
        let told = |disk: &Disk| Disk {
            given: Some(1),
            ..disk.clone()
        };
        let cases: Vec<(Asked, Vec<Disk>)> = vec![
            (vec![("/dev/sdf", Mapped::Nothing)], vec![sdg.clone()]),
            (
                vec![("/dev/sdf", Mapped::InstanceStore("ephemeral0".into()))],
                vec![sdg.clone()],
            ),
            (vec![("/dev/sdz", Mapped::Nothing)], before.clone()),
            (
                vec![("/dev/sdz", Mapped::InstanceStore("ephemeral23".into()))],
                before.clone(),
            ),
            (
                vec![("/dev/sdf", gib(9))],
                vec![
                    Disk {
                        size_gib: Some(9),
                        ..told(&sdf)
                    },
                    sdg.clone(),
                ],
            ),
            // Another snapshot has a size of its own.
            (
                vec![("/dev/sdf", of(7))],
                vec![
                    Disk {
                        snapshot: Some(SnapshotId::new(7)),
                        size_gib: None,
                        ..told(&sdf)
                    },
                    sdg.clone(),
                ],
            ),
            (vec![("/dev/sdf", of(2))], vec![told(&sdf), sdg.clone()]),
            // What was provisioned stays with the type.
            (
                later(|disk| disk.provisioned.iops = Some(100)),
                vec![
                    sdf.clone(),
                    Disk {
                        provisioned: iops(100),
                        ..told(&sdg)
                    },
                ],
            ),
            (
                later(|disk| disk.kind = Some(VolumeType::Gp3)),
                vec![
                    sdf.clone(),
                    Disk {
                        kind: VolumeType::Gp3,
                        provisioned: Provisioned::default(),
                        ..told(&sdg)
                    },
                ],
            ),
            (
                later(|disk| disk.delete_on_termination = Some(false)),
                vec![
                    sdf.clone(),
                    Disk {
                        delete_on_termination: false,
                        ..told(&sdg)
                    },
                ],
            ),
            (
                later(|disk| disk.encryption.encrypted = Some(true)),
                vec![
                    sdf.clone(),
                    Disk {
                        encrypted: Some(true),
                        ..told(&sdg)
                    },
                ],
            ),
            (
                vec![("/dev/sdb", gib(2))],
                vec![
                    Disk {
                        size_gib: Some(2),
                        ..told(&Disk::new("/dev/sdb"))
                    },
                    sdf.clone(),
                    sdg.clone(),
                ],
            ),
        ];
        for (mappings, expected) in cases {
            let (_, data) = merged(&mappings).unwrap();
            assert_eq!(data, expected, "{mappings:?}");
        }
    }

    #[test]
    fn the_root_may_be_larger_and_faster_and_is_of_its_own_snapshot() {
        let larger = asked(|disk| {
            disk.snapshot = Some(SnapshotId::new(1));
            disk.size_gib = Some(20);
            disk.kind = Some(VolumeType::Gp3);
            disk.provisioned.throughput = Some(250);
        });
        let (root, _) = merged(&[(ROOT, larger)]).unwrap();
        assert_eq!(
            (root.size_gib, root.kind, root.provisioned.throughput),
            (Some(20), VolumeType::Gp3, Some(250))
        );
        for content in [Mapped::Nothing, Mapped::InstanceStore("ephemeral0".into()), of(2)] {
            let refused = merged(&[(ROOT, content.clone())]);
            assert!(
                matches!(refused, Err(Error::Unsupported { .. })),
                "{content:?}: {refused:?}"
            );
        }
    }

    #[test]
    fn what_is_refused() {
        let store = |name: &str| Mapped::InstanceStore(name.into());
        let invalid = |value: &str| {
            Error::invalid(
                "BlockDeviceMapping.1.VirtualName",
                value,
                "expecting ephemeral0 to ephemeral23",
            )
        };
        for (mappings, expected) in [
            (
                vec![("/dev/sdh", gib(1)), ("/dev/sdh", gib(2))],
                Error::InvalidMapping {
                    reason: "The device '/dev/sdh' is used in more than one block-device mapping".into(),
                },
            ),
            (
                vec![("/dev/vdh", gib(1))],
                Error::NoDeviceName {
                    device: "/dev/vdh".into(),
                },
            ),
            (
                vec![("/dev/sdh", asked(|_| ()))],
                Error::MissingParameter {
                    name: "size or snapshotId".into(),
                },
            ),
            (vec![("/dev/sdh", store("ephemeral24"))], invalid("ephemeral24")),
            (vec![("/dev/sdh", store("ephemeral01"))], invalid("ephemeral01")),
            (vec![("/dev/sdh", store("ephemeral"))], invalid("ephemeral")),
            (vec![("/dev/sdh", store("ephemeral+1"))], invalid("ephemeral+1")),
            (vec![("/dev/sdh", store("swap"))], invalid("swap")),
        ] {
            assert_eq!(merged(&mappings).unwrap_err(), expected, "{mappings:?}");
        }
    }

    #[test]
    fn no_more_than_a_guest_has_slots() {
        let many = |count: u32| -> Vec<Mapping> {
            let letters = (0..count).filter_map(|n| char::from_u32(u32::from('a') + n % 26));
            letters
                .zip(0..)
                .map(|(letter, n)| Mapping {
                    device: format!("/dev/xvd{}{letter}", if n < 26 { 'b' } else { 'c' }),
                    content: gib(1),
                })
                .collect()
        };
        let merge = |count| merge(Disk::root(ROOT), Vec::new(), &many(count));
        assert_eq!(merge(27).unwrap().1.len(), 27);
        assert_eq!(
            merge(28).unwrap_err(),
            Error::LimitExceeded {
                limit: Limit::VolumesPerInstance,
                max: 28
            }
        );
    }

    #[test]
    fn a_refusal_names_the_member_of_the_request() {
        let (_, data) = merged(&[("/dev/sdh", gib(0))]).unwrap();
        let Err(Error::InvalidParameter { name, .. }) = data[2].check(0) else {
            panic!("{data:?}");
        };
        assert_eq!(name, "BlockDeviceMapping.1.Ebs.VolumeSize");
    }
}
