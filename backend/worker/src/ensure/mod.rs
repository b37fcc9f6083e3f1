//! Reconciliation of an instance's devices: what its guest has is compared with what the specification names, and
//! only the difference is made. The command `run` calls it at every generation, so that a raised one reaches a guest
//! that runs.

mod changes;
mod disks;
mod images;
mod nics;
mod volumes;

use std::time::Duration;

use cumulet_domain::{
    id::{InstanceId, VolumeId},
    message::Power,
    spec::InstanceSpec,
};
use cumulet_hypervisor::{DeviceKey, Devices, DomainNic, DomainSpec, Unplugged};
use tokio::time::Instant;

use crate::{Worker, failure::Failure, layout::volume_of};
pub use changes::Changes;
use changes::changes;
pub(crate) use disks::file;
use images::{has_image, is_image};

impl Worker {
    /// A guest that ran before the command came gets the devices that it has not, and disks as large and as fast as
    /// they are to be; what it is to let go of.
    pub(crate) async fn complete(
        &self,
        domain: &DomainSpec,
        has: &Devices,
    ) -> Result<Vec<DeviceKey>, Failure> {
        let (id, hypervisor) = (domain.instance, &self.deps.hypervisor);
        let has = &self.sized(domain, has).await?;
        let Changes {
            plug,
            resize,
            throttle,
            unplug,
        } = changes(has, domain, |own| hypervisor.bounded(own));
        let is_touched = !(plug.is_empty() && resize.is_empty() && throttle.is_empty());
        if is_touched && has_image(has, domain) {
            self.pool_answers().await?;
        }
        for device in &plug {
            tracing::info!(instance = %id, device = ?device.key(), "plugs a device in");
            hypervisor.plug(id, device).await?;
        }
        for (disk, bytes) in &resize {
            tracing::info!(instance = %id, disk = %disk.display(), bytes, "a disk grows");
            hypervisor.resize(id, disk, *bytes).await?;
        }
        for (disk, most) in &throttle {
            hypervisor.throttle(id, disk, *most).await?;
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
        if devices.iter().any(is_image) {
            self.pool_answers().await?;
        }
        let end = Instant::now() + patience;
        let mut kept = Vec::new();
        for key in devices {
            let left = end.saturating_duration_since(Instant::now());
            let unplugged = tokio::select! {
                biased;
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

    /// What is to be done to a guest that has these devices and is to have those of a specification. Nothing is.
    pub fn difference(&self, spec: &InstanceSpec, has: &Devices) -> Changes {
        let nics = spec.nics.iter().map(|nic| DomainNic {
            mac: nic.interface.mac,
            tap: String::new(),
        });
        let wanted = DomainSpec {
            instance: spec.id,
            generation: spec.generation,
            instance_type: spec.instance_type.clone(),
            vcpus: spec.vcpus,
            memory_mib: spec.memory_mib,
            nvram: None,
            disks: self.described(spec),
            nics: nics.collect(),
            console_log: self.layout.console(spec.id),
            uid: None,
        };
        changes(has, &wanted, |own| self.deps.hypervisor.bounded(own))
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
