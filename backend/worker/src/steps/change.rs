//! The command `change`: a guest that runs gets and loses devices, and is not touched otherwise. One that is off stays
//! off; it is started with what it is to have then.

use cumulet_domain::{
    crash_point,
    id::NetworkInterfaceId,
    message::{InstanceReport, Power},
    spec::InstanceSpec,
};
use cumulet_hypervisor::DeviceKey;

use super::{
    Attempt,
    launch::{Stopwatch, specified},
};
use crate::{Worker, failure::Failure, record::Record};

impl Worker {
    pub(super) async fn change(
        &self,
        attempt: &Attempt<'_>,
        record: Option<Record>,
    ) -> Result<InstanceReport, Failure> {
        crash_point!(attempt.name, "received");
        let (spec, policy) = specified(attempt)?;
        if record.is_none() || self.has(spec.id).await?.is_none() {
            return Err(is_off());
        }
        let interfaces: Vec<NetworkInterfaceId> = spec.nics.iter().map(|nic| nic.interface.id).collect();
        let needed = |id| interfaces.contains(&id) || self.slots.needs(id);
        let clock = Stopwatch::start(spec.id);
        self.vpcs.remember(policy, needed).await?;
        let (mut record, metadata) = self.begin_launch(attempt, spec, record).await?;
        crash_point!(attempt.name, "begun");
        self.deps.metadata.put(&metadata);
        crash_point!(attempt.name, "metadata");
        // As at a launch: neither needs the other, and both are waited for to their end.
        let (built, plugged) = tokio::join!(
            clock.time("vpc", self.vpcs.build(policy, &interfaces, needed)),
            self.exchange(attempt, spec, record.uid, &clock),
        );
        built?;
        let unplug = plugged?;
        crash_point!(attempt.name, "plugged");
        self.vpcs.attach(policy, &interfaces, needed).await?;
        crash_point!(attempt.name, "firewall");
        let patience = self.grace(attempt, self.config.unplug_grace);
        clock
            .time("let go", self.let_go(spec.id, &unplug, patience))
            .await?;
        crash_point!(attempt.name, "unplugged");
        (record.power, record.off_reason) = (Power::On, None);
        self.finish(record, attempt).await
    }

    /// The guest gets what it has not; what it has and is not to have.
    async fn exchange(
        &self,
        attempt: &Attempt<'_>,
        spec: &InstanceSpec,
        uid: Option<u32>,
        clock: &Stopwatch,
    ) -> Result<Vec<DeviceKey>, Failure> {
        let copied = self.gather(attempt.name, spec, attempt.pending.deadline);
        clock.time("copies", copied).await?;
        // As at a launch.
        let turns = self.volumes.turns(spec.disks.iter().map(|disk| disk.volume));
        let _turns = self.patiently(spec.id, attempt.pending.deadline, turns).await?;
        let has = self.has(spec.id).await?.ok_or_else(is_off)?;
        let domain = self.domain(attempt.name, spec, Some(&has), uid, clock).await?;
        clock.time("devices", self.complete(&domain, &has)).await
    }
}

fn is_off() -> Failure {
    Failure::temporary("the instance does not run")
}
