//! The command `run`, a launch or a start: metadata; the guest's process with its disk and taps, and at the
//! same time the VPC's namespace with its rules and services; then the taps go there, and the guest runs.

use std::{future::Future, io, sync::Arc};

use cumulet_domain::{
    crash_point,
    id::{InstanceId, NetworkInterfaceId},
    image::Firmware,
    message::{InstanceReport, Power},
    metadata::InstanceMetadata,
    network::VpcPolicy,
    spec::InstanceSpec,
};
use cumulet_hypervisor::{DeviceKey, Devices, DomainSpec, Prepared};
use tokio::time::Instant;

use super::Attempt;
use crate::{Worker, failure::Failure, record::Record, volumes::Turn};

impl Worker {
    pub(super) async fn launch(
        &self,
        attempt: &Attempt<'_>,
        record: Option<Record>,
    ) -> Result<InstanceReport, Failure> {
        crash_point!(attempt.name, "received");
        let (spec, policy) = specified(attempt)?;
        let interfaces: Vec<NetworkInterfaceId> = spec.nics.iter().map(|nic| nic.interface.id).collect();
        // The worker's own notes first, so that one that comes back knows what it had begun.
        let needed = |id| interfaces.contains(&id) || self.slots.needs(id);
        let clock = Stopwatch::start(spec.id);
        let hold = self.vpcs.hold(policy.vpc).await;
        clock.time("policy", self.vpcs.remember(policy, needed)).await?;
        let kept = clock
            .time("notes", self.begin_launch(attempt, spec, record))
            .await?;
        drop(hold);
        let (mut record, metadata) = kept;
        crash_point!(attempt.name, "begun");
        self.deps.metadata.put(&metadata);
        crash_point!(attempt.name, "metadata");
        let copied = self.gather(attempt.name, spec, attempt.pending.deadline);
        clock.time("copies", copied).await?;

        // Until the guest has its volumes in hands, or has failed to get them, nobody else does anything with them. Another's
        // copy of one may take hours, and a place among launches is what others wait for.
        let turns = self.volumes.turns(spec.disks.iter().map(|disk| disk.volume));
        let turns = self.patiently(spec.id, attempt.pending.deadline, turns).await?;
        let permit = self.launches.acquire().await;
        // The VPC's namespace, rules and services are made while the guest's process is: neither needs the
        // other. Both are waited for to their end, also if one fails: half a program is worse than an error.
        let (built, prepared) = tokio::join!(
            clock.time("vpc", self.vpcs.build(policy, &interfaces, needed)),
            self.prepare(attempt.name, spec, record.uid, turns, &clock),
        );
        built?;
        let unplug = prepared?;
        crash_point!(attempt.name, "defined");
        clock
            .time("attach", self.vpcs.attach(policy, &interfaces, needed))
            .await?;
        crash_point!(attempt.name, "firewall");
        clock.time("resume", self.deps.hypervisor.resume(spec.id)).await?;
        drop(permit);
        crash_point!(attempt.name, "started");
        let patience = self.grace(attempt, self.config.unplug_grace);
        clock
            .time("let go", self.let_go(spec.id, &unplug, patience))
            .await?;
        record.power = Power::On;
        record.off_reason = None;
        clock.time("finish", self.finish(record, attempt)).await
    }

    /// Keeps the specification and the record of a launch that has begun; with the metadata to serve. A
    /// change of that may have overtaken the launch of an instance that was here before.
    pub(super) async fn begin_launch(
        &self,
        attempt: &Attempt<'_>,
        spec: &InstanceSpec,
        record: Option<Record>,
    ) -> Result<(Record, Arc<InstanceMetadata>), Failure> {
        let kept = match &record {
            Some(_) => self.read_spec(spec.id).await.ok(),
            None => None,
        };
        let newer = kept.filter(|kept| kept.metadata.revision > spec.metadata.revision);
        let (mut record, metadata, text) = (
            record.map_or_else(|| Record::new(spec), |record| record.with_nics_of(spec)),
            newer
                .as_ref()
                .map_or(&spec.metadata, |kept| &kept.metadata)
                .clone(),
            match &newer {
                Some(kept) => serde_json::to_vec(&InstanceSpec {
                    metadata: kept.metadata.clone(),
                    ..spec.clone()
                }),
                None => serde_json::to_vec(spec),
            },
        );
        record.uid = self
            .uids
            .assign(spec.id, record.uid)
            .map_err(Failure::temporary)?;
        record.begin(attempt.generation, attempt.pending);
        let text = text.map_err(io::Error::from)?;
        self.slots.keep_with(record.clone(), text).await?;
        attempt.noted();
        Ok((record, metadata))
    }

    /// The guest's process shall be there, with its disks and its taps. One that is there already gets what it has not;
    /// what it has and is not to have.
    async fn prepare(
        &self,
        name: &str,
        spec: &InstanceSpec,
        uid: Option<u32>,
        _turns: Vec<Turn>,
        clock: &Stopwatch,
    ) -> Result<Vec<DeviceKey>, Failure> {
        let id = spec.id;
        let has = self.has(id).await?;
        let domain = self.domain(name, spec, has.as_ref(), uid, clock).await?;
        let prepared = clock.time("guest", self.deps.hypervisor.prepare(&domain)).await?;
        if prepared == Prepared::Paused {
            tracing::debug!(instance = %id, "the guest is there and waits for its network");
        }
        match has {
            Some(has) => clock.time("devices", self.complete(&domain, &has)).await,
            None => Ok(Vec::new()),
        }
    }

    /// What the guest is to be, with its disks and its taps, which are made at the same time. Who calls has the turns of
    /// its volumes.
    pub(super) async fn domain(
        &self,
        name: &str,
        spec: &InstanceSpec,
        has: Option<&Devices>,
        uid: Option<u32>,
        clock: &Stopwatch,
    ) -> Result<DomainSpec, Failure> {
        self.admit(spec, has).await?;
        let (disks, nics) = tokio::join!(
            clock.time("disk", self.disks(name, spec, has)),
            clock.time("taps", self.nics(spec, has))
        );
        let domain = DomainSpec {
            instance: spec.id,
            generation: spec.generation,
            instance_type: spec.instance_type.clone(),
            vcpus: spec.vcpus,
            memory_mib: spec.memory_mib,
            nvram: (spec.firmware == Firmware::Uefi).then(|| self.layout.nvram(spec.id)),
            disks: disks?,
            nics: nics?,
            console_log: self.layout.console(spec.id),
            uid,
        };
        crash_point!(name, "tap");
        Ok(domain)
    }
}

/// What an attempt is to bring about, if it can be.
pub(super) fn specified<'a>(
    attempt: &Attempt<'a>,
) -> Result<(&'a InstanceSpec, &'a Arc<VpcPolicy>), Failure> {
    let Some((spec, policy)) = attempt.launch else {
        return Err(Failure::temporary("what to launch from is lost"));
    };
    if spec.nics.iter().any(|nic| nic.vpc != policy.vpc) {
        return Err(Failure {
            permanent: true,
            ..Failure::temporary("the instance has interfaces of more than one VPC")
        });
    }
    Ok((spec, policy))
}

/// Tells the log, at level debug, how long each part of a launch took.
pub(super) struct Stopwatch {
    instance: InstanceId,
    began: Instant,
}

impl Stopwatch {
    pub(super) fn start(instance: InstanceId) -> Stopwatch {
        Stopwatch {
            instance,
            began: Instant::now(),
        }
    }

    pub(super) async fn time<T>(&self, part: &str, work: impl Future<Output = T>) -> T {
        let (instance, from) = (self.instance, self.began.elapsed());
        let done = work.await;
        let to = self.began.elapsed();
        tracing::debug!(%instance, part, ?from, ?to, took = ?(to - from), "a part of a launch");
        done
    }
}
