//! Snapshots of volumes that no guest has in hands: they are read as they are, and until that is done no guest gets them.
//! What lies below a root is told by the host's own notes, never by the root's file, which its guest's process has written.

use cumulet_domain::{
    crash_point,
    image::{DiskFormat, ImageRef},
    snapshot::TakenSnapshot,
    spec::DiskSpec,
};
use cumulet_hypervisor::{DiskCopy, DiskSecret};

use super::snapshot::{NAME, Source, plain};
use crate::{
    Worker,
    disks::{DiskFile, Lock},
    failure::Failure,
    volumes::Turn,
};

impl Worker {
    /// Of what no guest has. Whoever wants it waits.
    pub(super) async fn take_still(
        &self,
        sources: &[Source<'_>],
        _turns: Vec<Turn>,
    ) -> Result<Vec<TakenSnapshot>, Failure> {
        let mut taken = Vec::with_capacity(sources.len());
        for source in sources {
            taken.push(match (source.format, &source.secret) {
                // Both are read where they are, in a file or in the pool.
                (_, Some(secret)) => self.take_encrypted(source, secret).await?,
                (DiskFormat::Raw, None) => {
                    crash_point!(NAME, "copied");
                    self.keep(source, &plain(&source.disk)).await?
                }
                (DiskFormat::Qcow2, None) => self.take_copy(source).await?,
            });
        }
        Ok(taken)
    }

    async fn take_copy(&self, source: &Source<'_>) -> Result<TakenSnapshot, Failure> {
        let copies = [DiskCopy {
            disk: source.disk.clone(),
            copy: self.layout.copy(source.root_of, source.told.snapshot),
            secret: None,
        }];
        self.remove_copies(&copies).await?;
        let done = async {
            let [DiskCopy { disk, copy, .. }] = &copies;
            let image = self.below(source).await?;
            let image = image
                .as_ref()
                .map(|image| (self.cache.path(image), image.kept_as()));
            let file = DiskFile {
                format: source.format,
                image: image.as_ref().map(|(path, format)| (path.as_path(), *format)),
                ..plain(disk)
            };
            self.deps.disks.copy(&file, copy).await?;
            crash_point!(NAME, "copied");
            self.keep(source, &plain(copy)).await
        };
        let done = done.await;
        self.remove_copies(&copies).await?;
        done
    }

    async fn take_encrypted(
        &self,
        source: &Source<'_>,
        secret: &DiskSecret,
    ) -> Result<TakenSnapshot, Failure> {
        let image = self.below(source).await?;
        let below = image
            .as_ref()
            .map(|image| (self.cache.path(image), image.kept_as()));
        let file = DiskFile {
            format: source.format,
            image: below.as_ref().map(|(path, format)| (path.as_path(), *format)),
            lock: Some(Lock {
                key: &secret.key,
                below: image.is_some_and(|image| image.encrypted),
            }),
            ..plain(&source.disk)
        };
        crash_point!(NAME, "copied");
        self.keep(source, &file).await
    }

    /// The image that a disk lies over: the host's own notes say it, not the disk's file.
    async fn below(&self, source: &Source<'_>) -> Result<Option<ImageRef>, Failure> {
        let Some(instance) = source.root_of.filter(|_| self.deps.disks.uses_images()) else {
            return Ok(None);
        };
        let spec = self.read_spec(instance).await?;
        Ok(spec.root().and_then(DiskSpec::image).cloned())
    }
}
