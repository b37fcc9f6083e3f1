//! What a script asks of volumes, snapshots and images, and what must have become of them.

use cumulet_backend::{
    api::{
        ClientToken, Cloud as Api,
        images::{self, CreatedImage},
        snapshots::{self, NewSnapshot},
        volumes::{self, Detach, NewCopy, NewVolume},
    },
    entity::{columns::Key, image, instance, snapshot, volume},
    store::{attachments, failed},
};
use cumulet_domain::{
    Error, Result,
    account::Principal,
    id::{InstanceId, VolumeId},
    image::ImageState,
    snapshot::SnapshotState,
    volume::{
        AttachmentState, DiskAsked, EncryptionAsked, Mapped, Mapping, Provisioned, VolumeChange, VolumeState,
        VolumeStore, VolumeType,
    },
};
use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _};

use super::Script;
use crate::run::setup::ZONE;

/// The GiB that a volume is to grow to.
const LARGER: u32 = 3;

/// The operations that a call for an image becomes.
pub(super) const OF_IMAGES: [&str; 2] = ["create-image", "run-again"];

/// What is no operation by itself: a snapshot is taken for it.
pub(super) const COPY: &str = "copy-volume";

/// Nor is this: what the first instance had is attached to the last, which is on another host.
pub(super) const MOVE: &str = "move-volume";

/// Where volumes are: in a store that hosts share where one is to come to another host.
pub(super) fn store_of(act: &str) -> VolumeStore {
    match act {
        MOVE => VolumeStore::Rbd,
        _ => VolumeStore::Local,
    }
}

impl Script<'_> {
    /// What has become of volumes, snapshots and images.
    pub(super) async fn check_storage(&mut self) -> Result<()> {
        match self.act.name {
            "launch" => return self.check_disks().await,
            "terminate" => return self.check_roots().await,
            _ => {}
        }
        if OF_IMAGES.contains(&self.act.name) {
            return self.check_image().await;
        }
        let Some(id) = self.volume else {
            return Ok(());
        };
        let conn = self.cloud.store.read();
        match self.act.name {
            "create-snapshot" => return self.check_snapshots(id).await,
            COPY => return self.check_copies(id).await,
            MOVE => self.check_moved(id).await?,
            _ => {}
        }
        let row = attachments::find(conn, id.to_db()).await?;
        if self.act.name == "modify-volume" && row.as_ref().map(|row| row.size_gib.0) != Some(LARGER) {
            self.wrong(format!("{id} shall be of {LARGER} GiB: {row:?}"));
        }
        let is = row.map_or("gone", |row| row.state.0.name());
        let wanted = match self.act.name {
            "attach-volume" | MOVE | "modify-volume" => "in-use",
            "detach-volume" => "available",
            _ => "deleted",
        };
        if is != wanted {
            self.wrong(format!("{id} shall be {wanted} and is {is}"));
        }
        Ok(())
    }

    /// The volume is kept by the last instance's host, which is another one than the first's.
    async fn check_moved(&mut self, volume: VolumeId) -> Result<()> {
        let conn = self.cloud.store.read();
        let kept = attachments::find(conn, volume.to_db())
            .await?
            .and_then(|row| row.host);
        let mut on = Vec::new();
        for id in &self.ids {
            let row = instance::Entity::find_by_id(Key(*id))
                .one(conn)
                .await
                .map_err(failed)?;
            on.push(row.and_then(|row| row.host));
        }
        if on.first() == on.last() || on.last() != Some(&kept) {
            self.wrong(format!(
                "{volume} is kept by {kept:?}, and instances are on {on:?}"
            ));
        }
        Ok(())
    }

    /// Each snapshot of the volume that there is was taken. One whose asker was not told may have been asked for twice.
    async fn check_snapshots(&mut self, volume: VolumeId) -> Result<()> {
        let theirs = snapshot::Entity::find().filter(snapshot::Column::Volume.eq(volume.to_db()));
        let theirs = theirs.all(self.cloud.store.read()).await.map_err(failed)?;
        if theirs.is_empty() {
            self.wrong(format!("there is no snapshot of {volume}"));
        }
        for row in theirs {
            if row.state.0 != SnapshotState::Completed || row.manifest.is_none() {
                let (id, why) = (row.id.0, row.state_message);
                self.wrong(format!("{id} is {}, with {:?}: {why:?}", row.state, row.manifest));
            }
        }
        Ok(())
    }

    /// There is one copy, which can be attached, made of a snapshot that nobody sees.
    async fn check_copies(&mut self, source: VolumeId) -> Result<()> {
        let conn = self.cloud.store.read();
        let made = volume::Entity::find().filter(volume::Column::SourceVolume.eq(source.to_db()));
        let made = made.all(conn).await.map_err(failed)?;
        if made.len() != 1 || made.iter().any(|row| row.state.0 != VolumeState::Available) {
            self.wrong(format!("one copy shall be available: {made:?}"));
        }
        let of: Vec<_> = made.iter().filter_map(|row| row.snapshot).collect();
        let taken = snapshot::Entity::find().all(conn).await.map_err(failed)?;
        if taken.iter().any(|row| row.deleted_at.is_none()) || taken.len() != of.len() {
            self.wrong(format!(
                "what copies are made of shall be all, and hidden: {taken:?}"
            ));
        }
        self.check_snapshots(source).await
    }

    /// There is one image, made of the first instance, which has started once more for it.
    async fn check_image(&mut self) -> Result<()> {
        let made = image::Entity::find().filter(image::Column::SourceInstance.is_not_null());
        let made = made.all(self.cloud.store.read()).await.map_err(failed)?;
        let is_whole = |row: &image::Model| row.state() == ImageState::Available && row.manifest.is_some();
        if made.len() != 1 || !made.iter().all(is_whole) {
            self.wrong(format!("one image shall be available: {made:?}"));
        }
        let starts = self.ids.first().map(|id| self.world.boots(*id).0);
        if starts != Some(2) {
            self.wrong(format!("the instance of the image has started {starts:?} times"));
        }
        Ok(())
    }

    /// The root of each instance is a volume of the host that it was on.
    async fn check_roots(&mut self) -> Result<()> {
        for id in self.ids.clone() {
            let row = attachments::find(self.cloud.store.read(), id.to_db()).await?;
            let is_kept = |row: &volume::Model| row.state.0 == VolumeState::Available && row.host.is_some();
            if !row.as_ref().is_some_and(is_kept) {
                self.wrong(format!("the root of {id} shall be available: {row:?}"));
            }
        }
        Ok(())
    }

    /// Each instance has the volume that it was launched with, and it is made.
    async fn check_disks(&mut self) -> Result<()> {
        for id in self.ids.clone() {
            let conn = self.cloud.store.read();
            let theirs = attachments::of_instance(conn, id.to_db()).await?;
            let data: Vec<_> = theirs.iter().filter(|disk| !disk.is_root()).collect();
            let [disk] = data.as_slice() else {
                self.wrong(format!("{id} shall have one volume: {data:?}"));
                continue;
            };
            let row = attachments::find(conn, disk.volume.to_db()).await?;
            let is_made = row.as_ref().is_some_and(|row| row.made_at.is_some());
            if disk.state.0 != AttachmentState::Attached || !is_made {
                self.wrong(format!("{id} shall have its volume: {disk:?}, {row:?}"));
            }
        }
        Ok(())
    }
}

/// A volume that an instance is launched with.
pub(super) fn data_disk() -> Mapping {
    Mapping {
        device: "/dev/sdf".into(),
        content: Mapped::Volume(DiskAsked {
            size_gib: Some(1),
            ..DiskAsked::default()
        }),
    }
}

pub(super) async fn make_image(api: &Api, who: &Principal, instance: Option<InstanceId>) -> Result<()> {
    let new = CreatedImage {
        instance: instance.ok_or_else(|| Error::Internal("there is no instance".into()))?,
        name: "image".into(),
        description: String::new(),
        no_reboot: false,
        disks: Vec::new(),
        tags: Vec::new(),
        snapshot_tags: Vec::new(),
    };
    images::create(api, who, new).await.map(drop)
}

pub(super) async fn make_volume(api: &Api, who: &Principal) -> Result<VolumeId> {
    let new = NewVolume {
        availability_zone: ZONE.into(),
        size_gib: Some(1),
        snapshot: None,
        kind: VolumeType::Gp2,
        provisioned: Provisioned::default(),
        encryption: EncryptionAsked {
            encrypted: Some(true),
            key: None,
        },
        tags: Vec::new(),
        client_token: None,
    };
    Ok(volumes::create(api, who, new).await?.id())
}

pub(super) async fn on_volume(
    api: &Api,
    who: &Principal,
    name: &str,
    volume: VolumeId,
    instance: InstanceId,
) -> Result<()> {
    let what = Detach {
        volume,
        instance: None,
        device: None,
    };
    match name {
        "attach-volume" | MOVE => {
            let attached = volumes::attach(api, who, volume, instance, "/dev/sdf").await;
            attached.map(drop)
        }
        "detach-volume" => volumes::detach(api, who, what).await.map(drop),
        "create-snapshot" => {
            let new = NewSnapshot {
                volume,
                description: String::new(),
                tags: Vec::new(),
            };
            snapshots::create(api, who, new).await.map(drop)
        }
        COPY => {
            let new = NewCopy {
                source: volume,
                size_gib: None,
                kind: VolumeType::Gp2,
                provisioned: Provisioned::default(),
                encryption: EncryptionAsked::default(),
                tags: Vec::new(),
                client_token: Some(ClientToken {
                    token: COPY.into(),
                    request_hash: String::new(),
                }),
            };
            volumes::copy(api, who, new).await.map(drop)
        }
        "modify-volume" => {
            let change = VolumeChange {
                size_gib: Some(LARGER),
                ..VolumeChange::default()
            };
            match volumes::modify(api, who, volume, change).await {
                // It was asked for before, and that was heard.
                Err(Error::Modifying { .. }) => Ok(()),
                other => other.map(drop),
            }
        }
        _ => volumes::delete(api, who, volume).await,
    }
}
