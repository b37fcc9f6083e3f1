//! Reconciliation of an instance's devices: what its guest has is compared with what the specification names, and
//! only the difference is made. The command `run` calls it at every generation, so that a raised one reaches a guest
//! that runs.

mod changes;
mod disks;
mod nics;
mod volumes;

use std::time::Duration;

use cumulet_domain::{
    id::{InstanceId, VolumeId},
    message::Power,
};
use cumulet_hypervisor::{DeviceKey, Devices, DomainSpec, Unplugged};
use tokio::time::Instant;

use crate::{Worker, failure::Failure, files::volume_of};
pub use changes::{Changes, changes};
pub use disks::domain_disks;

impl Worker {
    /// A guest that ran before the command came gets the devices that it has not, and disks as large as they are to
    /// be; what it is to let go of.
    pub(crate) async fn complete(
        &self,
        domain: &DomainSpec,
        has: &Devices,
    ) -> Result<Vec<DeviceKey>, Failure> {
        let (id, hypervisor) = (domain.instance, &self.deps.hypervisor);
        let Changes { plug, resize, unplug } = changes(has, domain);
        for device in &plug {
            tracing::info!(instance = %id, device = ?device.key(), "plugs a device in");
            hypervisor.plug(id, device).await?;
        }
        for (disk, bytes) in &resize {
            hypervisor.resize(id, disk, *bytes).await?;
        }
        Ok(unplug)
    }

    /// The guest shall let go of these devices, within `patience` all together. It may take all of that, so nothing
    /// that other instances wait for is held meanwhile.
    pub(crate) async fn let_go(
        &self,
        id: InstanceId,
        devices: &[DeviceKey],
        patience: Duration,
    ) -> Result<(), Failure> {
        let end = Instant::now() + patience;
        let mut kept = Vec::new();
        for key in devices {
            let left = end.saturating_duration_since(Instant::now());
            let unplugged = tokio::select! {
                unplugged = self.deps.hypervisor.unplug(id, key, left) => unplugged?,
                () = self.slots.urgent(id) => return Err(Failure::temporary("something newer is to be done")),
            };
            tracing::info!(instance = %id, device = ?key, ?unplugged, "asked a guest for a device");
            match unplugged {
                Unplugged::Busy => kept.push(key),
                Unplugged::Gone => self.take_back(key).await?,
            }
        }
        if kept.is_empty() {
            return Ok(());
        }
        let told: Vec<String> = kept.iter().map(|key| told(key)).collect();
        let reason = format!("the guest uses {} and has not let go of it", told.join(" and "));
        Err(Failure {
            kept: kept.into_iter().filter_map(volume).collect(),
            ..Failure::temporary(reason)
        })
    }

    /// What the guest has, if it runs; `None`: it gets all that it is to have when it is started.
    pub(crate) async fn has(&self, id: InstanceId) -> Result<Option<Devices>, Failure> {
        let hypervisor = &self.deps.hypervisor;
        if hypervisor.status(id).await?.power != Power::On {
            return Ok(None);
        }
        Ok(Some(hypervisor.devices(id).await?))
    }
}

/// The volume that a device is, if it is one.
fn volume(key: &DeviceKey) -> Option<VolumeId> {
    match key {
        DeviceKey::Disk(path) => volume_of(path),
        DeviceKey::Nic(_) => None,
    }
}

/// A device in words for its owner.
fn told(key: &DeviceKey) -> String {
    match key {
        DeviceKey::Disk(_) => volume(key).map_or_else(|| "a disk".into(), |volume| volume.to_string()),
        DeviceKey::Nic(mac) => format!("the interface {mac}"),
    }
}
