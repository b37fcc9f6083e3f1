//! The instance metadata snapshot: what an instance may read about itself at 169.254.169.254. It is
//! immutable, kept on the instance's host and replaced as a whole.

use std::{fmt, net::Ipv4Addr};

use serde::{Deserialize, Serialize};

use crate::{
    account::AccountId,
    id::{ImageId, InstanceId, NetworkInterfaceId, ReservationId, SecurityGroupId, SubnetId, VpcId},
    network::{Cidr, Mac},
    tag::Tag,
    time::Timestamp,
};

/// EC2's `MetadataOptions` of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MetadataOptions {
    /// `HttpEndpoint`: whether the service answers at all (403 otherwise).
    pub enabled: bool,
    /// `HttpTokens=required`: reads need a session token (IMDSv2).
    pub tokens_required: bool,
    /// `HttpPutResponseHopLimit`, 1 to 64: the IP TTL of the packets that carry a token.
    pub hop_limit: u8,
    /// `InstanceMetadataTags=enabled`: the instance's tags are readable.
    pub tags: bool,
}

/// What EC2's documents have for an image that says nothing: tokens that a container on the instance, one hop
/// further away, can't fetch.
impl Default for MetadataOptions {
    fn default() -> Self {
        MetadataOptions {
            enabled: true,
            tokens_required: false,
            hop_limit: 1,
            tags: false,
        }
    }
}

/// The base64 text of a key pair's public half as `authorized_keys` wants it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicKey {
    /// The key pair's name.
    pub name: String,
    /// One line: type, key, comment.
    pub openssh: String,
}

/// An interface as its instance sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct InterfaceMetadata {
    pub id: NetworkInterfaceId,
    pub device_index: u32,
    pub mac: Mac,
    pub private_ip: Ipv4Addr,
    pub public_ip: Option<Ipv4Addr>,
    pub subnet: SubnetId,
    pub subnet_cidr: Cidr,
    pub vpc: VpcId,
    pub vpc_cidr: Cidr,
    pub security_groups: Vec<(SecurityGroupId, String)>,
}

/// The snapshot.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct InstanceMetadata {
    pub instance: InstanceId,
    /// Grows with every change; hosts keep the newest.
    pub revision: u64,
    pub options: MetadataOptions,
    pub account: AccountId,
    pub reservation: ReservationId,
    pub image: ImageId,
    pub instance_type: String,
    pub architecture: String,
    pub launch_index: u32,
    /// `ip-10-0-0-5.ec2.internal`.
    pub private_dns_name: String,
    /// Set where the instance has a public address.
    pub public_dns_name: Option<String>,
    pub region: String,
    pub availability_zone: String,
    /// For instance `use1-az1`.
    pub availability_zone_id: String,
    /// The name of its placement group. Control planes from before it was here don't tell it.
    #[serde(default)]
    pub placement_group: Option<String>,
    /// Its partition of the group.
    #[serde(default)]
    pub partition_number: Option<u32>,
    pub public_keys: Vec<PublicKey>,
    /// By device index; the first is the primary.
    pub interfaces: Vec<InterfaceMetadata>,
    /// For instance `/dev/xvda`.
    pub root_device: String,
    /// The volumes that it was started with beside that, such as `/dev/sdf`. Control planes from before there were any
    /// don't tell them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub data_devices: Vec<String>,
    /// The raw bytes, base64 in storage; at most 16 KiB.
    #[serde(with = "base64_bytes")]
    pub user_data: Option<Vec<u8>>,
    /// When the instance was last launched or started: `pendingTime` of the identity document.
    pub pending_time: Timestamp,
    /// Read only where the options say so.
    pub tags: Vec<Tag>,
}

/// User data often holds secrets, so it is not printed.
impl fmt::Debug for InstanceMetadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InstanceMetadata")
            .field("instance", &self.instance)
            .field("revision", &self.revision)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

mod base64_bytes {
    //! Bytes as base64 text in JSON.
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(
        bytes: &Option<Vec<u8>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        bytes.as_ref().map(|b| STANDARD.encode(b)).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Vec<u8>>, D::Error> {
        Option::<String>::deserialize(deserializer)?
            .map(|text| STANDARD.decode(text).map_err(D::Error::custom))
            .transpose()
    }
}
