//! Volumes' files of a simulated host: made by the first instance that gets one, and kept until a command deletes it.

use std::sync::Arc;

use cumulet_bus::Delivered;
use cumulet_domain::{
    id::VolumeId,
    message::{Command, ReportContent, VolumeOutcome},
    spec::{DiskSource, InstanceSpec},
};

use super::{Host, Life, Stop};

/// The volumes of a specification that are files of their own, and whether they may be made.
pub(super) fn of(spec: &InstanceSpec) -> Vec<(VolumeId, bool)> {
    let own = spec.disks.iter().filter_map(|disk| match disk.source {
        DiskSource::Volume { create, .. } => Some((disk.volume, create)),
        DiskSource::Image(_) => None,
    });
    own.collect()
}

impl Host {
    /// The files are there, or come to be where they may.
    pub(super) fn volumes(&self, wanted: &[(VolumeId, bool)]) -> Result<(), Stop> {
        let mut machine = self.machine();
        for (volume, create) in wanted {
            if *create {
                machine.volumes.insert(*volume);
            } else if !machine.volumes.contains(volume) {
                return Err(Stop::Failed("a volume is not on this host", true));
            }
        }
        Ok(())
    }

    /// Nothing of the volume is left.
    pub(super) async fn delete_volume(
        self: Arc<Self>,
        life: Arc<Life>,
        volume: VolumeId,
        command: Delivered<Command>,
    ) {
        let is_late = self.now() > command.deadline;
        if is_late || self.at(&life, "delete-volume", "received").await.is_err() {
            return;
        }
        self.machine().volumes.remove(&volume);
        if self.at(&life, "delete-volume", "removed").await.is_err() {
            return;
        }
        if let Some(operation) = command.operation {
            self.send(ReportContent::VolumeDone(VolumeOutcome {
                operation,
                volume,
                failure: None,
                permanent: false,
            }))
            .await;
        }
        if self.at(&life, "delete-volume", "reported").await.is_ok() {
            command.ack();
        }
    }
}
