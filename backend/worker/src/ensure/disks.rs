//! Disks of an instance: the file of each on this host, made once and never again, and what the guest knows it by.
//! A disk is its file, or its image in the pool: neither its name on the bus nor its serial number tells it from another.
//! What takes hours, the copy of a whole disk, comes before all that others wait for, and has places of its own
//! (`places.rs`).

use std::{future::Future, io, path::PathBuf};

use cumulet_certs::DiskKey;
use cumulet_domain::{
    account::AccountId,
    crash_point,
    id::{InstanceId, VolumeId},
    image::{DiskFormat, ImageRef},
    spec::{DiskSource, DiskSpec, InstanceSpec, secret_uuid},
    time::Timestamp,
};
use cumulet_hypervisor::{Backing, DeviceKey, Devices, DiskSecret, DomainDisk, free_target};

use crate::{
    Worker,
    disks::{DiskFile, Lock, May},
    failure::Failure,
    image_cache::Sources,
    places::Place,
    snapshots::{BRIEFLY, restore},
    stores::{lost, store_of},
    volumes::Turn,
};

impl Worker {
    /// What has to be copied before an instance's disks can be made is copied: its images, and its volumes that are made of
    /// snapshots. Each copy waits for a place of the instance's account, `until` its command's time is over. New images in
    /// the pool are made, too. Since it may take hours, whoever calls has nothing that others wait for: no place of a
    /// launch, and no volume's turn.
    pub(crate) async fn gather(
        &self,
        name: &str,
        spec: &InstanceSpec,
        until: Timestamp,
    ) -> Result<(), Failure> {
        if !self.deps.disks.uses_images() {
            return Ok(());
        }
        let disks = self.opened(spec)?;
        for (disk, wanted) in disks.iter().zip(&spec.disks) {
            if let Some(image) = wanted.image() {
                let secret = disk.secret.as_ref().filter(|_| image.encrypted);
                let key = secret.map(|secret| &secret.key);
                self.bring(spec, image, key, until).await?;
            }
        }
        crash_point!(name, "image");
        for (disk, wanted) in disks.iter().zip(&spec.disks) {
            self.restore_volume(spec, wanted, disk, until).await?;
            self.make_image(spec, wanted, disk, until).await?;
        }
        Ok(())
    }

    /// The files of an instance's disks shall be there, over their images, and as large as they should be where its
    /// guest has not got them in hands yet; the disks. What is copied for them was gathered before.
    pub(crate) async fn disks(
        &self,
        name: &str,
        spec: &InstanceSpec,
        has: Option<&Devices>,
    ) -> Result<Vec<DomainDisk>, Failure> {
        let disks = self.opened(spec)?;
        if !self.deps.disks.uses_images() {
            return Ok(disks);
        }
        // Images that disks are being made over are not pruned.
        let _hold = self.cache.hold().await;
        for (disk, wanted) in disks.iter().zip(&spec.disks) {
            let file = file(disk);
            let (make, is_new) = match &wanted.source {
                DiskSource::Image(_) => (true, true),
                // One that is to be made of a snapshot is never made empty.
                DiskSource::Volume { create, from, .. } => (*create && from.is_none(), *create),
            };
            let may = May {
                make,
                grow: !has.is_some_and(|has| has.has(&DeviceKey::Disk(disk.path.clone()))),
            };
            if !self.deps.disks.ensure(&file, may).await? {
                return Err(Failure {
                    permanent: !is_new,
                    ..Failure::of(lost(wanted.volume, store_of(&wanted.source)), disk.path.display())
                });
            }
        }
        crash_point!(name, "disk");
        Ok(disks)
    }

    /// The disks of a specification, with what they are opened with.
    fn opened(&self, spec: &InstanceSpec) -> Result<Vec<DomainDisk>, Failure> {
        let mut disks = self.described(spec);
        for (disk, wanted) in disks.iter_mut().zip(&spec.disks) {
            self.reaches(store_of(&wanted.source), wanted.volume)?;
            self.not_lost(store_of(&wanted.source))?;
            disk.secret = self.secret(wanted.volume, wanted.encrypted)?;
        }
        Ok(disks)
    }

    /// An image shall be here. Somebody else who brings it is waited for, without a place; but nobody waits for a place
    /// that another account has to get.
    async fn bring(
        &self,
        spec: &InstanceSpec,
        image: &ImageRef,
        key: Option<&DiskKey>,
        until: Timestamp,
    ) -> Result<(), Failure> {
        let flight = self.cache.flight(image);
        loop {
            let landed = flight.landed();
            if self.cache.has(image).await? {
                return Ok(());
            }
            let place = tokio::select! {
                biased;
                place = self.place(spec, until) => place?,
                () = landed => continue,
            };
            if flight.is_under_way() {
                drop(place);
                self.patiently(spec.id, until, flight.ended()).await?;
                continue;
            }
            // What is on its way is not pruned.
            let _hold = self.cache.hold().await;
            let sources = Sources {
                images: &*self.deps.images,
                snapshots: &*self.deps.snapshots,
                disks: &*self.deps.disks,
            };
            self.cache.ensure(image, key, sources).await?;
        }
    }

    /// A place for a copy of a disk of an instance.
    async fn place(&self, spec: &InstanceSpec, until: Timestamp) -> Result<Place<AccountId>, Failure> {
        let place = self.copies.take(spec.metadata.account);
        self.patiently(spec.id, until, place).await
    }

    /// Waits for what may take hours to come, unless something more urgent is to be done with the instance.
    pub(crate) async fn patiently<T>(
        &self,
        id: InstanceId,
        until: Timestamp,
        wait: impl Future<Output = T>,
    ) -> Result<T, Failure> {
        let left = until.since(self.deps.clock.now());
        tokio::select! {
            biased;
            done = wait => Ok(done),
            () = self.slots.urgent(id) => Err(Failure::temporary("something newer is to be done")),
            () = tokio::time::sleep(left) => {
                Err(Failure::temporary("the host copies other disks and has not come to this one in time"))
            }
        }
    }

    /// A volume that is to be made of a snapshot is made, unless it is there: whole, or not at all.
    async fn restore_volume(
        &self,
        spec: &InstanceSpec,
        wanted: &DiskSpec,
        disk: &DomainDisk,
        until: Timestamp,
    ) -> Result<(), Failure> {
        let DiskSource::Volume {
            create: true,
            from: Some(snapshot),
            generation,
            ..
        } = &wanted.source
        else {
            return Ok(());
        };
        if self.is_there(&disk.path).await? {
            return Ok(());
        }
        // The last place is not for this: it may take hours, and launches wait for images.
        let place = || self.copies.take_but_last(spec.metadata.account);
        let wait = self.place_and_turn(place, wanted.volume);
        let (_place, _turn) = self.patiently(spec.id, until, wait).await?;
        self.volumes
            .admit(wanted.volume, *generation, self.deps.clock.now())?;
        if self.is_there(&disk.path).await? {
            return Ok(());
        }
        let fresh = self.deps.disks.partial(&disk.path);
        let to = DiskFile {
            path: &fresh,
            ..file(disk)
        };
        let (disks, snapshots) = (&*self.deps.disks, &*self.deps.snapshots);
        if let Err(error) = restore(disks, snapshots, &snapshot.manifest, &to).await {
            self.remove_partial(fresh).await;
            return Err(Failure {
                permanent: error.kind() == io::ErrorKind::InvalidData,
                ..Failure::of_disk(
                    format!("{} can't be made of {}", wanted.volume, snapshot.id),
                    &error,
                )
            });
        }
        Ok(self.put_in_place(fresh, disk.path.clone()).await?)
    }

    /// A place for a copy, and the volume's turn: who waits for one of them for long has not got the other, which somebody
    /// else waits for.
    pub(crate) async fn place_and_turn<W: Future<Output = Place<AccountId>>>(
        &self,
        wait: impl Fn() -> W,
        volume: VolumeId,
    ) -> (Place<AccountId>, Vec<Turn>) {
        loop {
            let place = wait().await;
            if let Ok(turn) = tokio::time::timeout(BRIEFLY, self.volumes.turns([volume])).await {
                return (place, turn);
            }
            drop(place);
            drop(self.volumes.turns([volume]).await);
        }
    }

    /// What a volume is opened with, where it is encrypted.
    pub(crate) fn secret(&self, volume: VolumeId, encrypted: bool) -> Result<Option<DiskSecret>, Failure> {
        let given = encrypted.then(|| self.keys.get(volume)).transpose()?;
        Ok(given.map(|key| DiskSecret {
            uuid: secret_uuid(volume),
            key,
        }))
    }

    /// The disks of a specification as the guest is to know them, and where their files are.
    pub(crate) fn described(&self, spec: &InstanceSpec) -> Vec<DomainDisk> {
        let root = spec.root().map(|disk| disk.volume);
        let path = |disk: &DiskSpec| match &disk.source {
            DiskSource::Image(_) if Some(disk.volume) == root => self.layout.disk(spec.id),
            DiskSource::Image(_) => self.layout.own_disk(spec.id, disk.volume),
            DiskSource::Volume { format, store, .. } => self.stored_at(*store, disk.volume, *format),
        };
        domain_disks(spec, path, |image| self.cache.path(image))
    }
}

/// A disk's file, as it is made.
pub(crate) fn file(disk: &DomainDisk) -> DiskFile<'_> {
    let below = disk.backing.as_ref();
    DiskFile {
        path: &disk.path,
        format: disk.format,
        bytes: disk.bytes,
        image: below.map(|below| (below.path.as_path(), below.format)),
        lock: disk.secret.as_ref().map(|secret| Lock {
            key: &secret.key,
            below: below.is_some_and(|below| below.encrypted),
        }),
    }
}

/// What the guest is to know of each of its disks, in the specification's order: `path` is where a disk's file is,
/// `image` an image's.
pub(super) fn domain_disks(
    spec: &InstanceSpec,
    path: impl Fn(&DiskSpec) -> PathBuf,
    image: impl Fn(&ImageRef) -> PathBuf,
) -> Vec<DomainDisk> {
    let names = targets(spec.disks.iter().map(|disk| disk.device.as_str()));
    let described = |(disk, target): (&DiskSpec, String)| DomainDisk {
        path: path(disk),
        format: match &disk.source {
            DiskSource::Image(_) => DiskFormat::Qcow2,
            DiskSource::Volume { format, .. } => *format,
        },
        backing: disk.image().map(|of| Backing {
            path: image(of),
            format: of.kept_as(),
            encrypted: of.encrypted,
        }),
        secret: None,
        bytes: disk.bytes(),
        target,
        serial: disk.serial(),
        boot: disk.boot_order,
        throttle: disk.throttle,
    };
    spec.disks.iter().zip(names).map(described).collect()
}

/// The letters of a device's name, such as `f` of `/dev/sdf`, `/dev/xvdf` or `vdf`.
fn letters(device: &str) -> Option<&str> {
    let name = device.strip_prefix("/dev/").unwrap_or(device);
    let name = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let letters = ["xvd", "vd", "sd"]
        .into_iter()
        .find_map(|kind| name.strip_prefix(kind))?;
    let are_letters = letters.bytes().all(|byte| byte.is_ascii_lowercase());
    (are_letters && (1..=2).contains(&letters.len())).then_some(letters)
}

/// The name of each disk on the bus: with the letters of its device's name, or the first that are free where those
/// say nothing or are another's.
fn targets<'a>(devices: impl Iterator<Item = &'a str> + Clone) -> Vec<String> {
    let mut names: Vec<Option<String>> = Vec::new();
    for device in devices {
        let name = letters(device).map(|letters| format!("vd{letters}"));
        names.push(name.filter(|name| !names.contains(&Some(name.clone()))));
    }
    let mut taken: std::collections::BTreeSet<_> = names.iter().flatten().cloned().collect();
    let named = |name: Option<String>| {
        name.unwrap_or_else(|| {
            let name = free_target(|name| taken.contains(name));
            taken.insert(name.clone());
            name
        })
    };
    names.into_iter().map(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_keep_their_letters_where_they_can() {
        for (devices, expected) in [
            (vec!["/dev/vda"], vec!["vda"]),
            (
                vec!["/dev/xvda", "/dev/sdf", "/dev/xvdba"],
                vec!["vda", "vdf", "vdba"],
            ),
            (vec!["/dev/sda1", "/dev/sdb2"], vec!["vda", "vdb"]),
            (vec!["/dev/sdf", "/dev/xvdf"], vec!["vdf", "vda"]),
            (
                vec!["ebs1", "/dev/sda", "/dev/sd1", ""],
                vec!["vdb", "vda", "vdc", "vdd"],
            ),
            (vec!["/dev/sdABC", "/dev/nvme0n1"], vec!["vda", "vdb"]),
        ] {
            assert_eq!(targets(devices.iter().copied()), expected, "{devices:?}");
        }
        let many = targets(std::iter::repeat_n("", 30));
        assert_eq!((many[25].as_str(), many[26].as_str()), ("vdz", "vdaa"));
    }
}
