//! The command `destroy`: nothing of the instance is left on the host but its tombstone, the generation at
//! which it went.

use cumulet_domain::{crash_point, message::InstanceReport};

use super::{Attempt, absent};
use crate::{Worker, failure::Failure, record::Record};

impl Worker {
    pub(super) async fn destroy(
        &self,
        attempt: &Attempt<'_>,
        record: Option<Record>,
    ) -> Result<InstanceReport, Failure> {
        crash_point!(attempt.name, "received");
        let id = attempt.instance;
        let known = record.as_ref().map(|r| (r.vpc, r.interfaces.clone()));
        if let Some(mut record) = record {
            self.begin(&mut record, attempt).await?;
        }
        crash_point!(attempt.name, "begun");
        self.deps.hypervisor.ensure_absent(id).await?;
        if let Ok(spec) = self.read_spec(id).await {
            spec.disks.iter().for_each(|disk| self.keys.forget(disk.volume));
        }
        crash_point!(attempt.name, "absent");
        if let Some((vpc, interfaces)) = known {
            self.vpcs.detach(vpc, &interfaces).await?;
        }
        crash_point!(attempt.name, "network");
        self.deps.metadata.remove(id);
        crash_point!(attempt.name, "metadata");
        self.slots
            .forget(id, attempt.generation, self.deps.clock.now())
            .await?;
        self.uids.free(id);
        crash_point!(attempt.name, "removed");
        Ok(absent(id, attempt.generation))
    }
}
