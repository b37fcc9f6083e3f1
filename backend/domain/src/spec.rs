//! The instance specification that a host is sent: everything that it needs to run the instance without
//! asking again.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    id::{InstanceId, VpcId},
    image::ImageRef,
    metadata::InstanceMetadata,
    network::InterfacePolicy,
};

/// An instance, whole, at one generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// What the root disk starts as.
    pub image: ImageRef,
    /// The root disk's size in GiB; at least the image's.
    pub disk_gib: u64,
    /// The VPC that the interfaces are in.
    pub vpc: VpcId,
    /// The interfaces, by device index; at least one.
    pub interfaces: Vec<InterfacePolicy>,
    /// What the instance reads at 169.254.169.254.
    pub metadata: Arc<InstanceMetadata>,
}

impl InstanceSpec {
    /// The system UUID that the guest sees: `ec2`, the instance's number and a fixed rest, so that it is
    /// stable, derivable, and recognised by cloud-init (ds-identify wants uuid and serial to begin with
    /// `ec2`).
    pub fn smbios_uuid(&self) -> String {
        smbios_uuid(self.id)
    }
}

/// See [`InstanceSpec::smbios_uuid`]. A version-8 UUID (RFC 9562): `ec2XXXXX-XXXX-8XXX-aXXX-X00000000000`
/// with the 16 digits of the number in the places of X.
pub fn smbios_uuid(id: InstanceId) -> String {
    let hex = format!("{:016x}", id.number());
    format!(
        "ec2{}-{}-8{}-a{}-{}00000000000",
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
    }
}
