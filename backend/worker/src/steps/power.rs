//! The commands `stop` and `reboot`: a request to the guest first, and force after a while, or at once when
//! something more urgent waits for the instance.

use std::time::Duration;

use cumulet_domain::{
    crash_point,
    message::{InstanceReport, OffReason, Power},
};

use super::{Attempt, absent};
use crate::{Worker, failure::Failure, record::Record};

impl Worker {
    pub(super) async fn stop(
        &self,
        attempt: &Attempt<'_>,
        record: Option<Record>,
        force: bool,
    ) -> Result<InstanceReport, Failure> {
        crash_point!(attempt.name, "received");
        let id = attempt.instance;
        let Some(mut record) = record else {
            // The command to run it may have been overtaken, and come yet.
            self.slots.bar(id, attempt.generation, self.deps.clock.now())?;
            self.deps.hypervisor.ensure_off(id, Duration::ZERO).await?;
            return Ok(absent(id, attempt.generation));
        };
        let was = self.deps.hypervisor.status(id).await?;
        self.begin(&mut record, attempt).await?;
        crash_point!(attempt.name, "begun");
        let grace = if force {
            Duration::ZERO
        } else {
            self.grace(attempt, self.config.stop_grace)
        };
        let asked = self.deps.hypervisor.ensure_off(id, grace);
        tokio::select! {
            biased;
            done = asked => done?,
            () = self.slots.urgent(id), if !grace.is_zero() => {
                self.deps.hypervisor.ensure_off(id, Duration::ZERO).await?;
            }
        }
        crash_point!(attempt.name, "off");
        self.vpcs.detach(record.vpc, &record.interfaces).await?;
        crash_point!(attempt.name, "network");
        self.deps.metadata.remove(id);
        record.off_reason = match was.power {
            Power::On => Some(OffReason::Commanded),
            // It had gone off by itself before.
            Power::Off | Power::Absent => record.off_reason.or(was.off_reason),
        };
        record.power = Power::Off;
        self.finish(record, attempt).await
    }

    pub(super) async fn reboot(
        &self,
        attempt: &Attempt<'_>,
        record: Option<Record>,
    ) -> Result<InstanceReport, Failure> {
        crash_point!(attempt.name, "received");
        let id = attempt.instance;
        let Some(mut record) = record else {
            return Err(Failure::temporary("the instance is not on this host"));
        };
        if self.deps.hypervisor.status(id).await?.power != Power::On {
            return Err(Failure::temporary("the instance does not run"));
        }
        self.begin(&mut record, attempt).await?;
        crash_point!(attempt.name, "begun");
        let asked = self
            .deps
            .hypervisor
            .reboot(id, self.grace(attempt, self.config.reboot_grace));
        tokio::select! {
            biased;
            done = asked => done?,
            () = self.slots.urgent(id) => return Err(Failure::temporary("something newer is to be done")),
        }
        crash_point!(attempt.name, "reset");
        record.power = Power::On;
        record.off_reason = None;
        self.finish(record, attempt).await
    }

    /// How long a guest may take, so that something is left of the command's time.
    pub(super) fn grace(&self, attempt: &Attempt<'_>, grace: Duration) -> Duration {
        let left = attempt.pending.deadline.since(self.deps.clock.now());
        grace.min(left / 2)
    }
}
