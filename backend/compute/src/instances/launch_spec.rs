//! The launch specification, and the checks that need no database.

use std::net::Ipv4Addr;

use cumulet_core::ClientToken;
use cumulet_domain::{
    Error, Result,
    id::{ImageId, SecurityGroupId, SnapshotId, SubnetId},
    instance::ShutdownBehavior,
    tag::{Tag, all_readable},
    volume::{Mapped, Mapping},
};
use cumulet_operations::Hints;
use cumulet_storage::encryption::AccountKey;
use cumulet_store::tags;

use crate::instances::{MetadataChange, UserData};

/// Instances in one launch at the most.
pub(super) const MAX_INSTANCES: u32 = 1000;

/// Tags for what a launch makes, by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaunchTags {
    /// For each instance.
    pub instance: Vec<Tag>,
    /// For each interface.
    pub network_interface: Vec<Tag>,
    /// For each volume.
    pub volume: Vec<Tag>,
}

/// A launch.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct LaunchSpec {
    pub image: ImageId,
    pub instance_type: String,
    /// At least so many, or none.
    pub min: u32,
    /// At most so many.
    pub max: u32,
    pub key_name: Option<String>,
    /// Without one the default subnet of the zone.
    pub subnet: Option<SubnetId>,
    pub availability_zone: Option<String>,
    pub groups: Vec<SecurityGroupId>,
    pub group_names: Vec<String>,
    pub user_data: Option<UserData>,
    pub private_ip: Option<Ipv4Addr>,
    /// Without it the subnet decides.
    pub associate_public_ip: Option<bool>,
    pub interface_description: String,
    pub tags: LaunchTags,
    pub shutdown_behavior: ShutdownBehavior,
    pub disable_api_termination: bool,
    pub disable_api_stop: bool,
    pub metadata: MetadataChange,
    /// What it says of the instances' disks, over what the image says.
    pub mappings: Vec<Mapping>,
    pub client_token: Option<ClientToken>,
    /// The placement group's name.
    pub placement_group: Option<String>,
    /// The partition of the group.
    pub partition_number: Option<u32>,
    /// Where the instances are to be, by others.
    pub hints: Hints,
}

impl LaunchSpec {
    /// One instance with everything else at its default.
    pub fn new(image: ImageId, instance_type: &str) -> Self {
        LaunchSpec {
            image,
            instance_type: instance_type.into(),
            min: 1,
            max: 1,
            key_name: None,
            subnet: None,
            availability_zone: None,
            groups: Vec::new(),
            group_names: Vec::new(),
            user_data: None,
            private_ip: None,
            associate_public_ip: None,
            interface_description: String::new(),
            tags: LaunchTags::default(),
            shutdown_behavior: ShutdownBehavior::Stop,
            disable_api_termination: false,
            disable_api_stop: false,
            metadata: MetadataChange::default(),
            mappings: Vec::new(),
            client_token: None,
            placement_group: None,
            partition_number: None,
            hints: Hints::default(),
        }
    }

    /// The snapshots that it names.
    pub(super) fn snapshots(&self) -> impl Iterator<Item = SnapshotId> {
        self.mappings.iter().filter_map(|mapping| match &mapping.content {
            Mapped::Volume(asked) => asked.snapshot,
            Mapped::Nothing | Mapped::InstanceStore(_) => None,
        })
    }

    /// Checks that each key that it names is the account's.
    pub(super) fn validate_keys(&self, key: &AccountKey) -> Result<()> {
        for (mapping, n) in self.mappings.iter().zip(1..) {
            if let Mapped::Volume(asked) = &mapping.content {
                let name = format!("BlockDeviceMapping.{n}.Ebs.KmsKeyId");
                key.check_asked(&name, &asked.encryption)?;
            }
        }
        Ok(())
    }

    /// Checks what needs no database.
    pub(super) fn validate(&self) -> Result<()> {
        self.validate_count()?;
        self.validate_network()?;
        if let Some(token) = &self.client_token {
            token.validate()?;
        }
        self.metadata.validate()?;
        for tags in [
            &self.tags.instance,
            &self.tags.network_interface,
            &self.tags.volume,
        ] {
            tags::validate(tags)?;
        }
        if self.metadata.tags == Some(true) {
            all_readable(self.tags.instance.iter().map(|tag| tag.key.as_str()))?;
        }
        Ok(())
    }

    fn validate_count(&self) -> Result<()> {
        for (name, value) in [("MinCount", self.min), ("MaxCount", self.max)] {
            if !(1..=MAX_INSTANCES).contains(&value) {
                let reason = format!("a launch makes 1 to {MAX_INSTANCES} instances");
                return Err(Error::invalid(name, &value.to_string(), reason));
            }
        }
        if self.min > self.max {
            let reason = "MinCount is not above MaxCount";
            return Err(Error::invalid("MinCount", &self.min.to_string(), reason));
        }
        Ok(())
    }

    fn validate_network(&self) -> Result<()> {
        if self.private_ip.is_some() && self.max > 1 {
            let reason = "a private address can be asked for with one instance only".into();
            return Err(Error::InvalidCombination { reason });
        }
        if self.interface_description.chars().count() > 255 {
            let reason = "a description has at most 255 characters";
            return Err(Error::invalid(
                "NetworkInterface.1.Description",
                &self.interface_description,
                reason,
            ));
        }
        Ok(())
    }
}
