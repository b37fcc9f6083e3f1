//! The instance view that doors render: the row and all that belongs to it.

use std::{net::Ipv4Addr, sync::Arc};

use cumulet_domain::{
    Result,
    account::AccountId,
    id::{ImageId, InstanceId, ReservationId, SubnetId, VolumeId, VpcId},
    image::{Architecture, BootMode},
    instance::{ShutdownBehavior, State, StateReason},
    metadata::MetadataOptions,
    tag::Tag,
    time::Timestamp,
    volume::{AttachmentState, ROOT_DEVICE},
};
use cumulet_network::interface_view::InterfaceView;
use cumulet_store::{
    entity::{columns::Key, image, instance, volume_attachment},
    instances,
};
use sea_orm::FromQueryResult;
use serde::{Deserialize, Serialize};

use crate::instances::rendering::Rendering;

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
            reservation: row.reservation.to_db(),
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
            reservation: Key(self.id).to_db(),
        })
    }
}

/// A disk of an instance: the attachment of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskView {
    /// The volume.
    pub volume: VolumeId,
    /// The name that it has at the instance.
    pub device: String,
    /// The instance starts from it.
    pub is_root: bool,
    /// Where the attachment is in its life.
    pub state: AttachmentState,
    /// It ends with the instance.
    pub delete_on_termination: bool,
    /// Since when it is attached.
    pub attached_at: Timestamp,
}

impl DiskView {
    /// The disk of a row.
    pub(super) fn of(row: volume_attachment::Model) -> Self {
        DiskView {
            is_root: row.is_root(),
            volume: row.volume.0,
            device: row.device.0,
            state: row.state.0,
            delete_on_termination: row.delete_on_termination.0,
            attached_at: Timestamp(row.attached_at),
        }
    }
}

/// An instance with all that belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceView {
    /// The instance.
    pub row: instance::Model,
    /// Its interfaces by device index; none once it has ended.
    pub interfaces: Vec<InterfaceView>,
    /// Its disks, the root disk first; none once it has ended.
    pub disks: Vec<DiskView>,
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
    /// What its row says, read.
    pub(super) state: State,
    pub(super) options: MetadataOptions,
    pub(super) shutdown: ShutdownBehavior,
}

impl InstanceView {
    /// An instance, and nothing of what belongs to it yet.
    pub(super) fn of(row: instance::Model) -> Result<Self> {
        Ok(InstanceView {
            state: row.state.0,
            options: instances::metadata_options(&row),
            shutdown: row.shutdown_behavior.0,
            row,
            interfaces: Vec::new(),
            disks: Vec::new(),
            tags: Vec::new(),
            image: None,
            metadata_pending: false,
            placement_group: None,
            rendering: Rendering::default(),
        })
    }
}

#[allow(missing_docs)] // the names say it
impl InstanceView {
    pub fn id(&self) -> InstanceId {
        self.row.id.0
    }

    pub fn state(&self) -> State {
        self.state
    }

    pub fn reservation(&self) -> ReservationId {
        self.row.reservation.0
    }

    pub fn image_id(&self) -> ImageId {
        self.row.image.0
    }

    /// The VPC of the primary interface; none once it has ended, as on EC2.
    pub fn vpc(&self) -> Option<VpcId> {
        self.primary().map(InterfaceView::vpc)
    }

    /// The subnet of the primary interface; none once it has ended, as on EC2.
    pub fn subnet(&self) -> Option<SubnetId> {
        self.primary().map(InterfaceView::subnet)
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

    pub fn is_termination_disabled(&self) -> bool {
        self.row.disable_api_termination.0
    }

    pub fn is_stop_disabled(&self) -> bool {
        self.row.disable_api_stop.0
    }

    pub fn shutdown_behavior(&self) -> ShutdownBehavior {
        self.shutdown
    }

    pub fn metadata_options(&self) -> MetadataOptions {
        self.options
    }

    /// The disk that it starts from; none once it has ended.
    pub fn root_disk(&self) -> Option<&DiskView> {
        self.disks.iter().find(|disk| disk.is_root)
    }

    /// The name of the disk that it starts from, or started from: its image's where it has ended.
    pub fn root_device(&self) -> &str {
        match (self.root_disk(), &self.image) {
            (Some(disk), _) => &disk.device,
            (None, Some(image)) => &image.root_device.0,
            // The image of one that has ended may have been deleted since.
            (None, None) => ROOT_DEVICE,
        }
    }

    /// How its image wants to be started; by BIOS where the image of one that has ended is gone.
    pub fn boot_mode(&self) -> BootMode {
        let image = self.image.as_ref();
        image.map_or(BootMode::LegacyBios, |image| image.boot_mode())
    }

    /// What its image is for; `x86_64` where the image of one that has ended is gone.
    pub fn architecture(&self) -> &'static str {
        let image = self.image.as_ref();
        image
            .map_or(Architecture::X86_64, |image| image.architecture.0)
            .name()
    }
}
