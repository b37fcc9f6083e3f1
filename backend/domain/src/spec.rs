//! The instance specification that a host is sent: everything that it needs to run the instance without
//! asking again.

mod wire;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    id::{InstanceId, VolumeId, VpcId},
    image::{DiskFormat, Firmware, ImageRef},
    metadata::InstanceMetadata,
    network::InterfacePolicy,
    snapshot::SnapshotRef,
    volume::VolumeStore,
};

/// An instance, whole, at one generation. A higher one reaches a guest that runs, too: the host compares what is
/// with what shall be. How it is written, and what an older program makes of that, is in `spec/wire.rs`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "wire::Read")]
pub struct InstanceSpec {
    /// Which instance.
    pub id: InstanceId,
    /// The instance's generation: grows with every change of intent. A host drops what is older than
    /// what it has seen.
    pub generation: u64,
    /// The instance type's name, shown in the SMBIOS tables.
    pub instance_type: String,
    /// Virtual CPUs, at least 1.
    pub vcpus: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// What it is started by.
    pub firmware: Firmware,
    /// The disks; at least the root.
    pub disks: Vec<DiskSpec>,
    /// The interfaces, by device index; at least one.
    pub nics: Vec<NicSpec>,
    /// What the instance reads at 169.254.169.254.
    pub metadata: Arc<InstanceMetadata>,
}

/// A disk of an instance: a volume that is attached to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskSpec {
    /// The volume.
    pub volume: VolumeId,
    /// The device's name as the API has it, such as `/dev/sdf`. The guest may name it otherwise.
    pub device: String,
    /// What is on it.
    pub source: DiskSource,
    /// Its size in GiB; one from an image is never smaller than that. It may be raised, and is never lowered.
    pub size_gib: u64,
    /// Its place among those that are booted from, the lowest first; `None`: it is not booted from.
    #[serde(default)]
    pub boot_order: Option<u32>,
    /// What it may do in a second; the host's own bound for each disk holds all the same.
    #[serde(default)]
    pub throttle: Throttle,
    /// What the host keeps of it is encrypted with the volume's key, which comes with the command.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub encrypted: bool,
}

/// What the bytes of a disk are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiskSource {
    /// It starts as an image, is the instance's own, and goes with it.
    Image(ImageRef),
    /// What the host has of the volume, or reaches of it, which outlives the instance.
    Volume {
        /// Where that is.
        #[serde(default, skip_serializing_if = "VolumeStore::is_local")]
        store: VolumeStore,
        /// The file's format.
        format: DiskFormat,
        /// It is made, empty, if it is not there: false once a host has made it, so that one that is lost is an
        /// error and never an empty disk.
        create: bool,
        /// The volume's own generation, by which a host tells what is newer: this, or a deletion. 0 where it is not told.
        #[serde(default)]
        generation: u64,
        /// What it is made from, where it is made; `None`: it is empty then.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<SnapshotRef>,
    },
}

/// What a disk may do in a second, read and written together; `None`: no bound of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Throttle {
    /// Bytes.
    #[serde(default)]
    pub bytes: Option<u64>,
    /// Reads and writes.
    #[serde(default)]
    pub operations: Option<u64>,
}

/// A network interface of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NicSpec {
    /// Its place among the instance's interfaces, from 0.
    pub device_index: u32,
    /// The VPC that it is in.
    pub vpc: VpcId,
    /// Its id, addresses and groups.
    pub interface: InterfacePolicy,
}

impl DiskSpec {
    /// The serial number that the guest sees: the volume's id without its dash, as on EC2. 20 characters, the most
    /// that a virtio disk has.
    pub fn serial(&self) -> String {
        self.volume.to_string().replace('-', "")
    }

    /// The image that it starts as.
    pub const fn image(&self) -> Option<&ImageRef> {
        match &self.source {
            DiskSource::Image(image) => Some(image),
            DiskSource::Volume { .. } => None,
        }
    }

    /// Its size in bytes.
    pub fn bytes(&self) -> u64 {
        let least = self.image().map_or(0, |image| image.virtual_bytes);
        self.size_gib.saturating_mul(1 << 30).max(least)
    }
}

impl InstanceSpec {
    /// The disk that the instance boots from: the first in the order, or the first of all.
    pub fn root(&self) -> Option<&DiskSpec> {
        let ordered = self.disks.iter().filter(|disk| disk.boot_order.is_some());
        ordered.min_by_key(|disk| disk.boot_order).or(self.disks.first())
    }

    /// The interface with the lowest device index.
    pub fn primary(&self) -> Option<&NicSpec> {
        self.nics.iter().min_by_key(|nic| nic.device_index)
    }

    /// The version of the protocol that it takes to understand it: what has more than one disk, or interfaces of
    /// more than one VPC, would be misread by a program that knows neither; what is started by UEFI would be started by
    /// BIOS, which finds nothing on its disk; a volume from a snapshot would be made empty, and an image of one be looked
    /// for among the files; what is to be encrypted would not be; and what is in a store that hosts share would be a file.
    pub fn version(&self) -> u32 {
        let is_from_snapshot = |disk: &DiskSpec| match &disk.source {
            DiskSource::Volume { from, .. } => from.is_some(),
            DiskSource::Image(image) => image.from_snapshot,
        };
        let is_shared =
            |disk: &DiskSpec| matches!(&disk.source, DiskSource::Volume { store, .. } if !store.is_local());
        match self.firmware {
            _ if self.disks.iter().any(is_shared) => 6,
            _ if self.disks.iter().any(|disk| disk.encrypted) => 4,
            Firmware::Uefi => 3,
            Firmware::LegacyBios if self.disks.iter().any(is_from_snapshot) => 3,
            Firmware::LegacyBios if wire::was_always_so(self) => 1,
            Firmware::LegacyBios => 2,
        }
    }

    /// The system UUID that the guest sees: `ec2`, the instance's number and a fixed rest, so that it is
    /// stable, derivable, and recognised by cloud-init (ds-identify wants uuid and serial to begin with
    /// `ec2`).
    pub fn smbios_uuid(&self) -> String {
        smbios_uuid(self.id)
    }
}

/// See [`InstanceSpec::smbios_uuid`].
pub fn smbios_uuid(id: InstanceId) -> String {
    numbered_uuid("ec2", id.number())
}

/// What a hypervisor knows the key of a volume by.
pub fn secret_uuid(volume: VolumeId) -> String {
    numbered_uuid("d15", volume.number())
}

/// A version-8 UUID (RFC 9562): `ec2XXXXX-XXXX-8XXX-aXXX-X00000000000`, where `ec2` is what it is of, with the 16 digits
/// of the number in the places of X.
fn numbered_uuid(of: &str, number: u64) -> String {
    let hex = format!("{number:016x}");
    format!(
        "{of}{}-{}-8{}-a{}-{}00000000000",
        &hex[..5],
        &hex[5..9],
        &hex[9..12],
        &hex[12..15],
        &hex[15..]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_uuid_holds_the_whole_number() {
        let uuid = smbios_uuid(InstanceId::new(0x0123_4567_89ab_cdef));
        assert_eq!(uuid, "ec201234-5678-89ab-acde-f00000000000");
        let uuid = secret_uuid(VolumeId::new(0x0123_4567_89ab_cdef));
        assert_eq!(uuid, "d1501234-5678-89ab-acde-f00000000000");
    }
}
