//! The written form of an instance specification, in messages and in hosts' files. Programs of before know one disk,
//! from an image, and the interfaces of one VPC, under other names: those are written beside the lists, so that an
//! older worker (or the same one after a step back) reads what it always read, and read where there are no lists.

use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};

use super::{DiskSource, DiskSpec, InstanceSpec, NicSpec, Throttle};
use crate::{
    id::{InstanceId, VolumeId, VpcId},
    image::{Firmware, ImageRef},
    metadata::InstanceMetadata,
    network::InterfacePolicy,
};

/// Both forms.
#[derive(Serialize)]
struct Written<'a> {
    id: InstanceId,
    generation: u64,
    instance_type: &'a str,
    vcpus: u32,
    memory_mib: u64,
    #[serde(skip_serializing_if = "is_bios")]
    firmware: Firmware,
    disks: &'a [DiskSpec],
    nics: &'a [NicSpec],
    metadata: &'a InstanceMetadata,
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<&'a ImageRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    disk_gib: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vpc: Option<VpcId>,
    interfaces: Vec<&'a InterfacePolicy>,
}

impl Serialize for InstanceSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let root = self.root();
        Written {
            id: self.id,
            generation: self.generation,
            instance_type: &self.instance_type,
            vcpus: self.vcpus,
            memory_mib: self.memory_mib,
            firmware: self.firmware,
            disks: &self.disks,
            nics: &self.nics,
            metadata: &self.metadata,
            image: root.and_then(DiskSpec::image),
            disk_gib: root.map(|disk| disk.size_gib),
            vpc: self.primary().map(|nic| nic.vpc),
            interfaces: self.nics.iter().map(|nic| &nic.interface).collect(),
        }
        .serialize(serializer)
    }
}

/// As it was when there was nothing else.
fn is_bios(firmware: &Firmware) -> bool {
    *firmware == Firmware::LegacyBios
}

/// Either form.
#[derive(Deserialize)]
pub(super) struct Read {
    id: InstanceId,
    generation: u64,
    instance_type: String,
    vcpus: u32,
    memory_mib: u64,
    #[serde(default)]
    firmware: Firmware,
    disks: Option<Vec<DiskSpec>>,
    nics: Option<Vec<NicSpec>>,
    metadata: Arc<InstanceMetadata>,
    image: Option<ImageRef>,
    disk_gib: Option<u64>,
    vpc: Option<VpcId>,
    interfaces: Option<Vec<InterfacePolicy>>,
}

impl Read {
    /// The one disk of the form of before. Root volumes had their instances' numbers.
    fn disk(&self) -> Option<DiskSpec> {
        Some(DiskSpec {
            volume: VolumeId::new(self.id.number()),
            device: self.metadata.root_device.clone(),
            source: DiskSource::Image(self.image.clone()?),
            size_gib: self.disk_gib?,
            boot_order: Some(1),
            throttle: Throttle::default(),
            encrypted: false,
        })
    }
}

impl TryFrom<Read> for InstanceSpec {
    type Error = String;

    fn try_from(mut read: Read) -> Result<Self, String> {
        let missing = |what: &str| format!("a specification has neither {what} nor what they were before");
        let disks = match read.disks.take() {
            Some(disks) => disks,
            None => vec![read.disk().ok_or_else(|| missing("disks"))?],
        };
        let nics = match (read.nics, read.vpc, read.interfaces) {
            (Some(nics), ..) => nics,
            (None, Some(vpc), Some(interfaces)) => (0..)
                .zip(interfaces)
                .map(|(device_index, interface)| NicSpec {
                    device_index,
                    vpc,
                    interface,
                })
                .collect(),
            _ => return Err(missing("interfaces")),
        };
        Ok(InstanceSpec {
            id: read.id,
            generation: read.generation,
            instance_type: read.instance_type,
            vcpus: read.vcpus,
            memory_mib: read.memory_mib,
            firmware: read.firmware,
            disks,
            nics,
            metadata: read.metadata,
        })
    }
}

/// Whether the form of before says all of it that a guest needs. (A host of before lets the disk be as fast as it lets
/// any other, until the guest is started by a newer program.)
pub(super) fn was_always_so(spec: &InstanceSpec) -> bool {
    let [disk] = spec.disks.as_slice() else {
        return false;
    };
    let vpc = spec.nics.first().map(|nic| nic.vpc);
    let mut nics = (0..).zip(&spec.nics);
    disk.image().is_some() && nics.all(|(index, nic)| nic.device_index == index && Some(nic.vpc) == vpc)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{image::DiskFormat, volume::VolumeStore};

    /// As the last program wrote it that knew one disk.
    const BEFORE: &str = include_str!("before.json");

    fn before() -> InstanceSpec {
        serde_json::from_str(BEFORE).unwrap()
    }

    #[test]
    fn what_was_written_before_is_read() {
        let spec = before();
        let root = spec.root().unwrap();
        assert_eq!((root.device.as_str(), root.size_gib), ("/dev/vda", 9));
        assert_eq!(root.volume.number(), spec.id.number());
        assert_eq!(root.serial(), "vol00000100000000001");
        assert_eq!(root.image().unwrap().virtual_bytes, 1_048_576);
        assert_eq!(root.bytes(), 9 << 30);
        let nics: Vec<_> = spec.nics.iter().map(|nic| (nic.device_index, nic.vpc)).collect();
        let vpc = "vpc-00000100000000000".parse().unwrap();
        assert_eq!(nics, [(0, vpc), (1, vpc)]);
        assert_eq!(spec.version(), 1);
    }

    /// An older program skips what it does not know, and finds all that it does.
    #[test]
    fn a_program_of_before_finds_what_it_knows() {
        let old: Value = serde_json::from_str(BEFORE).unwrap();
        let written = serde_json::to_value(before()).unwrap();
        for (name, value) in old.as_object().unwrap() {
            assert_eq!(&written[name], value, "{name}");
        }
        assert_eq!(serde_json::from_value::<InstanceSpec>(written).unwrap(), before());
    }

    #[test]
    fn what_a_program_of_before_would_misread_is_of_a_version_that_it_refuses() {
        let change = |change: &dyn Fn(&mut InstanceSpec)| {
            let mut spec = before();
            change(&mut spec);
            let text = serde_json::to_string(&spec).unwrap();
            assert_eq!(serde_json::from_str::<InstanceSpec>(&text).unwrap(), spec);
            spec.version()
        };
        let data = DiskSpec {
            volume: VolumeId::new(7 << 40),
            device: "/dev/sdf".into(),
            source: DiskSource::Volume {
                store: VolumeStore::Local,
                format: DiskFormat::Qcow2,
                create: true,
                generation: 1,
                from: None,
            },
            size_gib: 3,
            boot_order: None,
            throttle: Throttle::default(),
            encrypted: false,
        };
        assert_eq!(change(&|spec| spec.disks.push(data.clone())), 2);
        assert_eq!(change(&|spec| spec.disks = vec![data.clone()]), 2);
        assert_eq!(change(&|spec| spec.disks[0].throttle.bytes = Some(1)), 1);
        assert_eq!(change(&|spec| spec.firmware = Firmware::Uefi), 3);
        assert_eq!(change(&|spec| spec.disks[0].encrypted = true), 4);
        assert_eq!(change(&|spec| spec.nics[1].vpc = VpcId::new(1)), 2);
        assert_eq!(change(&|spec| spec.nics[1].device_index = 2), 2);
        assert_eq!(change(&|spec| spec.disks[0].size_gib = 100), 1);
        assert_eq!(change(&|spec| drop(spec.nics.pop())), 1);
    }

    #[test]
    fn the_first_in_the_order_is_the_root() {
        let mut spec = before();
        let mut other = spec.disks[0].clone();
        (other.volume, other.boot_order) = (VolumeId::new(9), None);
        spec.disks.insert(0, other);
        assert_eq!(spec.root().unwrap().volume.number(), spec.id.number());
        spec.disks[1].boot_order = None;
        assert_eq!(spec.root().unwrap().volume, VolumeId::new(9));
    }

    #[test]
    fn what_is_neither_is_refused() {
        for gone in ["image", "disk_gib", "vpc", "interfaces", "metadata"] {
            let mut text: Value = serde_json::from_str(BEFORE).unwrap();
            text.as_object_mut().unwrap().remove(gone);
            assert!(serde_json::from_value::<InstanceSpec>(text).is_err(), "{gone}");
        }
        let mut text: Value = serde_json::from_str(BEFORE).unwrap();
        text["disks"] = json!([{"volume": "vol-00000100000000001"}]);
        assert!(serde_json::from_value::<InstanceSpec>(text).is_err());
    }
}
