//! Recovery of a worker after a restart: running guests are left alone, and have their network and metadata
//! again; commands that were begun are resumed.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use cumulet_domain::{
    id::{InstanceId, VpcId},
    message::Power,
    network::VpcPolicy,
    spec::InstanceSpec,
};

use crate::{
    Worker, WorkerError,
    layout::{copy_of, failed},
    qemu_nbd::{end_left, is_socket},
    record::Record,
    slots::Queued,
};

impl Worker {
    /// Does what is to be done before the first command.
    pub(crate) async fn restore(self: &Arc<Self>) -> Result<(), WorkerError> {
        let dir = self.layout.instances();
        self.slots.sweep().await.map_err(|e| failed(&dir, e))?;
        let volumes = self.layout.volumes();
        self.volumes.sweep().await.map_err(|e| failed(&volumes, e))?;
        self.sweep_copies().await.map_err(|e| failed(&dir, e))?;
        let hypervisor = &self.deps.hypervisor;
        let listed = self.until_answered(|| hypervisor.list()).await?;
        let on: HashMap<_, _> = listed.into_iter().map(|s| (s.instance, s)).collect();
        let runs = |id: InstanceId| on.get(&id).is_some_and(|s| s.power == Power::On);
        if self.deps.disks.uses_images()
            && let Err(failure) = self.take_all_back().await
        {
            tracing::warn!(
                failure = failure.reason,
                detail = failure.detail,
                "can't look after the volumes"
            );
        }
        let records = self.slots.records();
        // Snapshots first: the moment a listener is open a guest may ask.
        for record in records.iter().filter(|r| runs(r.instance)) {
            match self.read_spec(record.instance).await {
                Ok(spec) => self.deps.metadata.put(&spec.metadata),
                Err(error) => tracing::error!(instance = %record.instance, %error, "no metadata for a guest"),
            }
        }
        let policies = self
            .vpcs
            .restore(|id| self.slots.needs(id))
            .await
            .map_err(|e| failed(&self.layout.vpcs(), e))?;
        self.attach_again(&records, &policies, runs).await;
        for record in records {
            let queued = match record.pending {
                Some(pending) => Queued::Resume(pending, policies.get(&record.vpc).cloned()),
                None => Queued::Observe,
            };
            self.enqueue(record.instance, queued, None);
        }
        Ok(())
    }

    /// Removes copies of disks that the last worker has left, and ends what served it some: their snapshots are taken
    /// anew.
    async fn sweep_copies(&self) -> std::io::Result<()> {
        let layout = self.layout.clone();
        let swept = self.layout.blocking(move |files| {
            let mut dirs = vec![layout.volumes(), layout.cache()];
            dirs.extend(
                files
                    .names(&layout.instances())?
                    .iter()
                    .map(|name| layout.instances().join(name)),
            );
            for dir in dirs {
                for name in files.names(&dir)? {
                    let path = dir.join(name);
                    if is_socket(&path) {
                        end_left(&path)?;
                    } else if let Some(snapshot) = copy_of(&path) {
                        tracing::info!(%snapshot, "removes what was left of a copy");
                        files.remove(&path)?;
                    }
                }
            }
            Ok(())
        });
        swept.await
    }

    /// Guests that run and whose interfaces are not where they should be get them back.
    async fn attach_again(
        &self,
        records: &[Record],
        policies: &BTreeMap<VpcId, Arc<VpcPolicy>>,
        runs: impl Fn(InstanceId) -> bool,
    ) {
        let there = match self.deps.network.inventory().await {
            Ok(there) => there,
            Err(error) => return tracing::error!(%error, "the host's network can't be listed"),
        };
        for record in records.iter().filter(|r| r.pending.is_none() && runs(r.instance)) {
            let vpc = there.vpcs.get(&record.vpc);
            let has = |id| vpc.is_some_and(|v| v.interfaces.contains(id));
            if record.interfaces.iter().all(has) {
                continue;
            }
            let Some(policy) = policies.get(&record.vpc) else {
                tracing::error!(instance = %record.instance, "no policy for a guest that runs");
                continue;
            };
            for interface in record
                .interfaces
                .iter()
                .filter(|id| !has(id) && !there.prepared.contains(id))
            {
                tracing::error!(instance = %record.instance, %interface, "the guest's device is gone");
                if let Err(error) = self.deps.network.prepare_interface(record.vpc, *interface).await {
                    tracing::error!(%interface, %error, "it can't be made again");
                }
            }
            if let Err(error) = self.vpcs.attach(policy, &record.interfaces, |_| false).await {
                tracing::error!(instance = %record.instance, %error, "a guest that runs has no network");
            }
        }
    }

    /// The specification that an instance was last run from.
    pub(crate) async fn read_spec(&self, id: InstanceId) -> std::io::Result<InstanceSpec> {
        let path = self.layout.spec(id);
        let read = self.layout.blocking(move |files| files.read(&path));
        Ok(serde_json::from_slice(&read.await?)?)
    }

    /// Keeps the specification that an instance is run from.
    pub(crate) async fn write_spec(&self, spec: &InstanceSpec) -> std::io::Result<()> {
        let (layout, id) = (self.layout.clone(), spec.id);
        let text = serde_json::to_vec(spec)?;
        let kept = self.layout.blocking(move |_| layout.keep_spec(id, &text));
        kept.await
    }
}
