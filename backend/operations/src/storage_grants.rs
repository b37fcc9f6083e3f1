//! Grants of the stores of images and of snapshots, made when a command is sent to a host that may not have the stores'
//! directories: for what the command names, as long as it counts.

use cumulet_certs::storage_grant;
use cumulet_domain::{
    Result,
    id::{HostId, SnapshotId},
    message::Command,
    storage::{StorageGrant, StorageNeeds},
};
use cumulet_store::batch::load_in;

use crate::Driver;

impl Driver {
    /// The grant that goes with a command; `None` where it needs none, or none can be made.
    pub(crate) async fn grant(&self, host: &HostId, command: &Command) -> Option<String> {
        let needs = StorageNeeds::of(command);
        // Those of this process have the directories.
        if needs.is_empty() || self.settings.hosts_are_here {
            return None;
        }
        let snapshots = match self.disks_of(&needs.snapshots).await {
            Ok(snapshots) => snapshots,
            Err(error) => {
                tracing::error!(%host, %error, "a host can't be granted what it is to bring");
                return None;
            }
        };
        let grant = StorageGrant {
            host: host.clone(),
            until: command.deadline,
            images: needs.images,
            manifests: needs.manifests,
            snapshots,
        };
        let sealed = self
            .rng
            .with(|rng| storage_grant::seal(&self.sealer, rng, &grant));
        sealed
            .inspect_err(|error| tracing::error!(%host, %error, "a grant can't be made"))
            .ok()
    }

    /// Snapshots with the bytes of their disks.
    async fn disks_of(&self, snapshots: &[SnapshotId]) -> Result<Vec<(SnapshotId, u64)>> {
        let ids: Vec<i64> = snapshots.iter().map(|id| id.to_db()).collect();
        let found = load_in!(self.store.read(), snapshot, Id, &ids).into_iter();
        Ok(found
            .map(|row| (row.id.0, u64::from(row.size_gib.0) << 30))
            .collect())
    }
}
