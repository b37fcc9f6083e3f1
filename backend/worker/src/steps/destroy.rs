//! The command `destroy`: nothing of the instance is left on the host but its tombstone, the generation at
//! which it went, and a root that outlives it, which is a volume from then on.

use std::path::PathBuf;

use cumulet_domain::{
    crash_point,
    id::VolumeId,
    image::DiskFormat,
    message::{InstanceReport, KeptRoot},
};

use super::{Attempt, absent};
use crate::{Worker, ensure::file, failure::Failure, qcow2::Altered, record::Record};

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
        if let Some(root) = attempt.pending.kept {
            self.keep_root(attempt, root).await?;
        }
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

    /// The volume, if its file is on this host. (A host without images has no files at all.)
    pub(super) async fn kept_root(&self, volume: VolumeId) -> Result<Option<VolumeId>, Failure> {
        if !self.deps.disks.uses_images() {
            return Ok(Some(volume));
        }
        let path = self.layout.volume(volume, DiskFormat::Qcow2);
        let there = self.layout.blocking(move |files| files.exists(&path)).await?;
        Ok(there.then_some(volume))
    }

    /// The root of an instance without a guest becomes a volume's file: it lies over nothing from then on, so that it needs
    /// no image, and has the volume's place. Cut off at any point it is done again.
    async fn keep_root(&self, attempt: &Attempt<'_>, root: KeptRoot) -> Result<(), Failure> {
        let KeptRoot { volume, encrypted } = root;
        if !self.deps.disks.uses_images() {
            return Ok(());
        }
        let (from, to) = (
            self.layout.disk(attempt.instance),
            self.layout.volume(volume, DiskFormat::Qcow2),
        );
        let paths = (from.clone(), to.clone());
        let look = self
            .layout
            .blocking(move |files| Ok((files.exists(&paths.0)?, files.exists(&paths.1)?)));
        match look.await? {
            (true, _) => {}
            (false, true) => return Ok(()),
            // It was lost before, and the outcome does not name it: no end could wait for it.
            (false, false) => {
                tracing::error!(instance = %attempt.instance, %volume, "the root that is to be kept is not on this host");
                return Ok(());
            }
        }
        let spec = self.read_spec(attempt.instance).await?;
        let place = || self.flattening.take(spec.metadata.account);
        let (_place, _turn) = self.place_and_turn(place, volume).await;
        let described = self.described(&spec).into_iter().zip(&spec.disks);
        let mut described = described.filter(|(_, wanted)| wanted.volume == volume);
        let Some((mut disk, _)) = described.next() else {
            return Err(Failure::temporary(format!(
                "{volume} is no disk of {}",
                attempt.instance
            )));
        };
        disk.secret = self.secret(volume, encrypted)?;
        if let Err(error) = self.deps.disks.flatten(&file(&disk)).await {
            return match Altered::of(&error) {
                Some(_) => self.set_aside(volume, from).await,
                None => Err(error.into()),
            };
        }
        crash_point!(attempt.name, "flattened");
        let layout = self.layout.clone();
        let moved = self.layout.blocking(move |files| {
            layout.take_back(&from)?;
            files.rename(&from, &to)
        });
        moved.await?;
        crash_point!(attempt.name, "moved");
        Ok(())
    }

    /// A root that is not as it was made is no volume, and no end could wait for it to be one: it stays beside them, for the
    /// operator, whom the look at it has told, and the outcome does not name it.
    async fn set_aside(&self, volume: VolumeId, root: PathBuf) -> Result<(), Failure> {
        let aside = self.layout.volumes().join(format!("{volume}.altered"));
        tracing::error!(%volume, file = %aside.display(), "a root that was to be kept is set aside");
        let layout = self.layout.clone();
        let moved = self.layout.blocking(move |files| {
            layout.take_back(&root)?;
            files.rename(&root, &aside)
        });
        Ok(moved.await?)
    }
}
