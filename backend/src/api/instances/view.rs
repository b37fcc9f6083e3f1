//! The instance view that doors render: the row and all that belongs to it.

use std::{net::Ipv4Addr, sync::Arc};

use cumulet_domain::{
    account::AccountId,
    id::{
        ImageId, InstanceId, InterfaceAttachmentId, NetworkInterfaceId, ReservationId, SecurityGroupId,
        SubnetId, VolumeId, VpcId,
    },
    instance::{ShutdownBehavior, State, StateReason},
    metadata::MetadataOptions,
    network::Mac,
    tag::Tag,
};
use sea_orm::FromQueryResult;
use serde::{Deserialize, Serialize};

use super::{
    addresses::{interface_id, ipv4, mac_of},
    rendering::Rendering,
};
use crate::{
    entity::{image, instance, interface, security_group},
    store::instances,
};

/// The place of a reservation in listings: in the order of their launches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, FromQueryResult)]
pub struct ReservationKey {
    /// When it was made; the same for all of its instances.
    pub created_at: i64,
    /// Its number.
    pub reservation: i64,
}

impl ReservationKey {
    /// That of an instance's reservation.
    pub(super) fn of(row: &instance::Model) -> Self {
        ReservationKey {
            created_at: row.created_at,
            reservation: row.reservation,
        }
    }
}

/// The instances of one launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReservationView {
    /// The reservation.
    pub id: ReservationId,
    /// Whose it is.
    pub account: AccountId,
    /// Its instances, or those of them that were asked for.
    pub instances: Vec<Arc<InstanceView>>,
}

impl ReservationView {
    /// Its place in listings.
    pub fn key(&self) -> ReservationKey {
        let first = self.instances.first().map(|view| ReservationKey::of(&view.row));
        first.unwrap_or(ReservationKey {
            created_at: 0,
            reservation: self.id.to_db(),
        })
    }
}

/// A security group, by id and name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupRef {
    /// Which group.
    pub id: SecurityGroupId,
    /// Its name.
    pub name: String,
}

impl GroupRef {
    /// The group of a row.
    pub(super) fn of(row: &security_group::Model) -> Self {
        GroupRef {
            id: SecurityGroupId::from_db(row.id),
            name: row.name.clone(),
        }
    }
}

/// An interface with its groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceView {
    /// The interface.
    pub row: interface::Model,
    /// Its security groups, sorted by id.
    pub groups: Vec<GroupRef>,
    /// Its tags, sorted by key.
    pub tags: Vec<Tag>,
}

#[allow(missing_docs)] // the names say it
impl InterfaceView {
    pub fn id(&self) -> NetworkInterfaceId {
        interface_id(&self.row)
    }

    pub fn attachment(&self) -> InterfaceAttachmentId {
        InterfaceAttachmentId::from_db(self.row.attachment)
    }

    pub fn mac(&self) -> Mac {
        mac_of(self.row.mac)
    }

    pub fn private_ip(&self) -> Ipv4Addr {
        ipv4(self.row.private_ip)
    }

    pub fn public_ip(&self) -> Option<Ipv4Addr> {
        self.row.public_ip.map(ipv4)
    }

    pub fn subnet(&self) -> SubnetId {
        SubnetId::from_db(self.row.subnet)
    }

    pub fn vpc(&self) -> VpcId {
        VpcId::from_db(self.row.vpc)
    }
}

/// An instance with all that belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceView {
    /// The instance.
    pub row: instance::Model,
    /// Its interfaces by device index; none once it has ended.
    pub interfaces: Vec<InterfaceView>,
    /// Its tags, sorted by key.
    pub tags: Vec<Tag>,
    /// Its image, also where that is deregistered; shared by the instances of one answer.
    pub image: Option<Arc<image::Model>>,
    /// Its host has not confirmed the newest of what it can read about itself.
    pub metadata_pending: bool,
    /// The name of its placement group.
    pub placement_group: Option<String>,
    /// What the EC2 door has written of it.
    pub rendering: Rendering,
}

#[allow(missing_docs)] // the names say it
impl InstanceView {
    pub fn id(&self) -> InstanceId {
        InstanceId::from_db(self.row.id)
    }

    /// A row with an unknown state, which no code writes, counts as pending.
    pub fn state(&self) -> State {
        State::from_name(&self.row.state).unwrap_or(State::Pending)
    }

    pub fn reservation(&self) -> ReservationId {
        ReservationId::from_db(self.row.reservation)
    }

    pub fn image_id(&self) -> ImageId {
        ImageId::from_db(self.row.image)
    }

    pub fn vpc(&self) -> VpcId {
        VpcId::from_db(self.row.vpc)
    }

    pub fn subnet(&self) -> SubnetId {
        SubnetId::from_db(self.row.subnet)
    }

    /// The interface at device index 0.
    pub fn primary(&self) -> Option<&InterfaceView> {
        self.interfaces.first()
    }

    pub fn private_ip(&self) -> Option<Ipv4Addr> {
        self.primary().map(InterfaceView::private_ip)
    }

    pub fn public_ip(&self) -> Option<Ipv4Addr> {
        self.primary().and_then(InterfaceView::public_ip)
    }

    pub fn state_reason(&self) -> Option<StateReason> {
        Some(StateReason {
            code: self.row.reason_code.clone()?,
            message: self.row.reason_message.clone().unwrap_or_default(),
        })
    }

    pub fn shutdown_behavior(&self) -> ShutdownBehavior {
        if self.row.shutdown_behavior == super::launch::shutdown_name(ShutdownBehavior::Terminate) {
            ShutdownBehavior::Terminate
        } else {
            ShutdownBehavior::Stop
        }
    }

    pub fn metadata_options(&self) -> MetadataOptions {
        instances::metadata_options(&self.row)
    }

    /// The root volume has the instance's number.
    pub fn root_volume(&self) -> VolumeId {
        VolumeId::from_db(self.row.id)
    }

    pub fn root_device(&self) -> &str {
        self.image.as_ref().map_or("/dev/vda", |image| &image.root_device)
    }

    pub fn architecture(&self) -> &str {
        self.image.as_ref().map_or("x86_64", |image| &image.architecture)
    }
}
