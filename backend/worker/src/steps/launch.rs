//! A launch, or a start: image, disk, metadata, interface, guest, firewall and DHCP, and go.

use std::path::PathBuf;

use cumulet_domain::{
    crash_point,
    id::NetworkInterfaceId,
    image::DiskFormat,
    message::{InstanceReport, Power},
    spec::InstanceSpec,
};
use cumulet_hypervisor::{DiskSpec, DomainSpec, NicSpec, Prepared};

use super::Order;
use crate::{Worker, failure::Failure, network::device_name, record::Record};

impl Worker {
    pub(super) async fn launch(
        &self,
        order: &Order<'_>,
        record: Option<Record>,
    ) -> Result<InstanceReport, Failure> {
        crash_point!(order.name, "received");
        let Some((spec, policy)) = order.launch else {
            return Err(Failure::temporary("what to launch from is lost"));
        };
        let interfaces: Vec<NetworkInterfaceId> = spec.interfaces.iter().map(|i| i.id).collect();
        // The worker's own notes first, so that one that comes back knows what it had begun.
        let needed = |id| interfaces.contains(&id) || self.slots.needs(id);
        self.vpcs.remember(policy, needed).await?;
        self.write_spec_unless_newer(spec).await?;
        crash_point!(order.name, "kept");
        let mut record = record.unwrap_or_else(|| Record::new(spec));
        record.vpc = spec.vpc;
        record.interfaces.clone_from(&interfaces);
        self.begin(&mut record, order).await?;
        crash_point!(order.name, "begun");

        let permit = self.launches.acquire().await;
        let disk = self.disk(order.name, spec).await?;
        let snapshot = self.read_spec(spec.id).await?.metadata;
        self.deps.metadata.put(&snapshot);
        crash_point!(order.name, "metadata");
        if self.prepare(order.name, spec, disk).await? == Prepared::Paused {
            tracing::debug!(instance = %spec.id, "the guest is there and waits for its network");
        }
        crash_point!(order.name, "defined");
        self.vpcs.attach(policy, &interfaces, needed).await?;
        crash_point!(order.name, "firewall");
        self.deps.hypervisor.resume(spec.id).await?;
        drop(permit);
        crash_point!(order.name, "started");
        record.power = Power::On;
        record.off_reason = None;
        self.finish(record, order).await
    }

    /// A change of the metadata may have overtaken the launch.
    async fn write_spec_unless_newer(&self, spec: &InstanceSpec) -> Result<(), Failure> {
        let kept = self.read_spec(spec.id).await.ok();
        match kept.filter(|kept| kept.metadata.revision > spec.metadata.revision) {
            Some(kept) => {
                let mut spec = spec.clone();
                spec.metadata = kept.metadata;
                Ok(self.write_spec(&spec).await?)
            }
            None => Ok(self.write_spec(spec).await?),
        }
    }

    /// The root disk over its image; `None` where guests have none.
    async fn disk(&self, name: &str, spec: &InstanceSpec) -> Result<Option<DiskSpec>, Failure> {
        if !self.deps.disks.uses_images() {
            return Ok(None);
        }
        let image: PathBuf = self.cache.ensure(&spec.image, &*self.deps.images).await?;
        crash_point!(name, "image");
        let path = self.layout.disk(spec.id);
        let bytes = (spec.disk_gib << 30).max(spec.image.virtual_bytes);
        self.deps
            .disks
            .ensure(&path, bytes, (&image, spec.image.format))
            .await?;
        crash_point!(name, "disk");
        Ok(Some(DiskSpec {
            path,
            format: DiskFormat::Qcow2,
            backing: Some((image, spec.image.format)),
        }))
    }

    /// The guest's process shall be there. Only one that is not gets new devices: those of a guest that is
    /// there are in its hands.
    async fn prepare(
        &self,
        name: &str,
        spec: &InstanceSpec,
        disk: Option<DiskSpec>,
    ) -> Result<Prepared, Failure> {
        let there = self.deps.hypervisor.status(spec.id).await?;
        let mut nics = Vec::new();
        for interface in &spec.interfaces {
            let tap = if there.power == Power::On {
                device_name(interface.id)
            } else {
                self.deps
                    .network
                    .prepare_interface(spec.vpc, interface.id)
                    .await?
            };
            nics.push(NicSpec {
                mac: interface.mac,
                tap,
            });
        }
        crash_point!(name, "tap");
        let domain = DomainSpec {
            instance: spec.id,
            generation: spec.generation,
            instance_type: spec.instance_type.clone(),
            vcpus: spec.vcpus,
            memory_mib: spec.memory_mib,
            disks: disk.into_iter().collect(),
            nics,
            console_log: self.layout.console(spec.id),
        };
        Ok(self.deps.hypervisor.prepare(&domain).await?)
    }
}
