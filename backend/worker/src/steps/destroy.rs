//! The end of an instance here: nothing of it is left but the generation at which it went.

use cumulet_domain::{crash_point, message::InstanceReport};

use super::{Order, absent};
use crate::{Worker, failure::Failure, record::Record};

impl Worker {
    pub(super) async fn destroy(
        &self,
        order: &Order<'_>,
        record: Option<Record>,
    ) -> Result<InstanceReport, Failure> {
        crash_point!(order.name, "received");
        let id = order.instance;
        let known = record.as_ref().map(|r| (r.vpc, r.interfaces.clone()));
        if let Some(mut record) = record {
            self.begin(&mut record, order).await?;
        }
        crash_point!(order.name, "begun");
        self.deps.hypervisor.ensure_absent(id).await?;
        crash_point!(order.name, "absent");
        if let Some((vpc, interfaces)) = known {
            self.vpcs.detach(vpc, &interfaces).await?;
        }
        crash_point!(order.name, "network");
        self.deps.metadata.remove(id);
        crash_point!(order.name, "metadata");
        self.slots
            .bury(id, order.generation, self.deps.clock.now())
            .await?;
        crash_point!(order.name, "buried");
        Ok(absent(id, order.generation))
    }
}
