//! Volumes: disks that outlive instances. A call changes rows and queues operations; the conductor does the rest
//! (`backend/operations`).

mod attributes;
mod copy;
mod create;
mod delete;
mod describe;
mod modify;
mod room;
mod status;

use cumulet_domain::{
    id::{InstanceId, VolumeId},
    tag::Tag,
    time::Timestamp,
    volume::AttachmentState,
};

use cumulet_store::entity::{volume, volume_attachment};

pub use attributes::{auto_enable_io, enable_io, set_auto_enable_io};
pub use copy::{NewCopy, copy};
pub use create::{NewVolume, create};
pub use delete::delete;
pub use describe::{VolumeQuery, describe};
pub use modify::{describe_modifications, modify};
pub use room::{fitting, room};
pub use status::{VolumeStatusView, describe as describe_status};

/// A volume with what hangs on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeView {
    /// The volume.
    pub row: volume::Model,
    /// Where it is attached.
    pub attachment: Option<AttachmentView>,
    /// Its tags, sorted by key.
    pub tags: Vec<Tag>,
}

impl VolumeView {
    /// Its id.
    pub fn id(&self) -> VolumeId {
        self.row.id.0
    }
}

/// The attachment of a volume to an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct AttachmentView {
    pub volume: VolumeId,
    pub instance: InstanceId,
    pub device: String,
    pub state: AttachmentState,
    pub delete_on_termination: bool,
    pub attached_at: Timestamp,
}

impl AttachmentView {
    /// The attachment of a row.
    pub fn of(row: &volume_attachment::Model) -> Self {
        AttachmentView {
            volume: row.volume.0,
            instance: row.instance.0,
            device: row.device.0.clone(),
            state: row.state.0,
            delete_on_termination: row.delete_on_termination.0,
            attached_at: Timestamp(row.attached_at),
        }
    }
}
