//! The command `delete-volume`: nothing of a volume is left, on the host or in the pool, but its tombstone here, the
//! generation at which it went. It holds the volume's turn from beginning to end, and no thread that others wait for.

use cumulet_bus::Delivered;
use cumulet_domain::{
    crash_point,
    id::VolumeId,
    message::{Command, ReportContent, VolumeOutcome},
    volume::VolumeStore,
};

use crate::{
    Worker,
    failure::Failure,
    retry::{PAUSE, goes_on},
};

/// What the conductor calls it.
const NAME: &str = "delete-volume";

impl Worker {
    /// Carries the command out if it is news, and tells its outcome.
    pub(crate) async fn delete_volume(
        &self,
        (volume, store): (VolumeId, VolumeStore),
        generation: u64,
        command: &Delivered<Command>,
    ) {
        let _turn = self.volumes.turns([volume]).await;
        if self.deps.clock.now() > command.deadline {
            self.counters.expired();
            return tracing::info!(%volume, generation, "dropped a command after its deadline");
        }
        if self.volumes.is_stale(volume, generation) {
            self.counters.stale();
            return tracing::info!(%volume, generation, "dropped a command that is out of date");
        }
        crash_point!(NAME, "received");
        let failure = loop {
            let Err(failure) = self.remove_volume(volume, store, generation).await else {
                break None;
            };
            let Failure { reason, detail, .. } = &failure;
            tracing::warn!(%volume, reason, detail, "a volume can't be deleted");
            let is_open = failure.unanswered || failure.busy;
            if !goes_on(is_open, self.deps.clock.now(), command.deadline) {
                break Some(self.explain(failure));
            }
            tokio::time::sleep(PAUSE).await;
        };
        let Some(operation) = command.operation else {
            return;
        };
        let permanent = failure.as_ref().is_some_and(|failure| failure.permanent);
        let outcome = VolumeOutcome {
            operation,
            volume,
            failure: failure.map(|failure| failure.reason),
            permanent,
        };
        self.reporter.send(ReportContent::VolumeDone(outcome)).await;
        crash_point!(NAME, "reported");
    }

    async fn remove_volume(
        &self,
        volume: VolumeId,
        store: VolumeStore,
        generation: u64,
    ) -> Result<(), Failure> {
        self.reaches(store, volume)?;
        let open = self.deps.hypervisor.open_disks().await?;
        if let Some(instance) = self.volumes.holder(volume, &open) {
            return Err(Failure::temporary(format!("{instance} has {volume} in use")));
        }
        self.volumes.bury(volume, generation, self.deps.clock.now())?;
        self.keys.forget(volume);
        crash_point!(NAME, "tombstone");
        self.remove_from(store, volume).await?;
        crash_point!(NAME, "removed");
        Ok(())
    }
}
