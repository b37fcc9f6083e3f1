//! Requests to a cloud in which a role is to die: instances in the state that an operation needs, the
//! operation, and what must have become of them.

use std::{sync::Arc, time::Duration};

use cumulet_backend::{
    api::{
        ClientToken, Cloud as Api,
        images::{self, CreatedImage},
        instances::{self, LaunchSpec},
        snapshots::{self, NewSnapshot},
        volumes::{self, Detach, NewVolume},
    },
    entity::{image, instance, snapshot},
    store::{attachments, failed},
};
use cumulet_domain::{
    Error, Result,
    account::Principal,
    id::{InstanceId, VolumeId},
    image::ImageState,
    snapshot::SnapshotState,
    volume::{
        AttachmentState, DiskAsked, EncryptionAsked, Mapped, Mapping, Provisioned, VolumeChange, VolumeType,
    },
};
use futures::future::BoxFuture;
use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _};

use super::Doom;
use crate::{
    roles::Lost,
    run::{
        self,
        setup::{Cloud, ZONE},
    },
    world::World,
};

/// Instances that the operation is about.
const COUNT: u32 = 2;

/// The GiB that a volume is to grow to.
const LARGER: u32 = 3;

/// The client token of the launch that the run is about.
const TOKEN: &str = "subject";

/// Nothing is written when the API dies here; from the next step on it is done without being asked again.
const BEFORE: [&str; 2] = ["asked", "written"];

/// How long an answer, or a death, is waited for.
const PATIENCE: Duration = Duration::from_secs(300);
const LOOK: Duration = Duration::from_millis(100);

/// An operation with what it needs before, and what must be after it.
struct Act {
    name: &'static str,
    /// What is done to running instances before, one after the other.
    before: &'static [&'static str],
    /// The state that all of them come to.
    state: &'static str,
    /// How often each has started and was reset: at least, and at the most.
    starts: (u64, u64),
    resets: (u64, u64),
}

/// Every operation of the registry: one without a line here is told as an error.
const ACTS: [Act; 12] = [
    act("launch", &[], "running", (1, 1), (0, 0)),
    act("start", &["stop"], "running", (2, 2), (0, 0)),
    act("stop", &[], "stopped", (1, 1), (0, 0)),
    // Once more where the one that asked was not told that it was done, or the one that did it could not tell.
    act("reboot", &[], "running", (1, 1), (1, 5)),
    act("terminate", &[], "terminated", (1, 1), (0, 0)),
    act("attach-volume", &[], "running", (1, 1), (0, 0)),
    act("detach-volume", &["attach-volume"], "running", (1, 1), (0, 0)),
    act("modify-volume", &["attach-volume"], "running", (1, 1), (0, 0)),
    act(
        "delete-volume",
        &["attach-volume", "detach-volume"],
        "running",
        (1, 1),
        (0, 0),
    ),
    act("create-snapshot", &["attach-volume"], "running", (1, 1), (0, 0)),
    // Of the first instance; the other one goes on.
    act("create-image", &[], "running", (1, 2), (0, 0)),
    act("run-again", &[], "running", (1, 2), (0, 0)),
];

/// The operations that a call for an image becomes.
const OF_IMAGES: [&str; 2] = ["create-image", "run-again"];

const fn act(
    name: &'static str,
    before: &'static [&'static str],
    state: &'static str,
    starts: (u64, u64),
    resets: (u64, u64),
) -> Act {
    Act {
        name,
        before,
        state,
        starts,
        resets,
    }
}

/// One user of the cloud, what he does, and what is wrong with what he gets.
pub(super) struct Script<'a> {
    act: &'static Act,
    pub(super) world: &'a Arc<World>,
    pub(super) cloud: &'a Cloud,
    who: Principal,
    ids: Vec<InstanceId>,
    /// The volume that the operation is about, if it is about one: of the first instance.
    volume: Option<VolumeId>,
    pub(super) problems: Vec<String>,
}

impl<'a> Script<'a> {
    pub(super) fn new(operation: &str, world: &'a Arc<World>, cloud: &'a Cloud) -> Result<Self> {
        let act = ACTS.iter().find(|act| act.name == operation).ok_or_else(|| {
            Error::Internal(format!(
                "{operation} has crash points and no line in kill_each/script.rs"
            ))
        })?;
        Ok(Script {
            act,
            world,
            cloud,
            who: cloud.principal(),
            ids: Vec::new(),
            volume: None,
            problems: Vec::new(),
        })
    }

    pub(super) fn wrong(&mut self, words: String) {
        self.world.note(format_args!("wrong: {words}"));
        self.problems.push(words);
    }

    /// Asks once.
    async fn call<T: Send + 'static>(
        &self,
        ask: impl FnOnce(Api, Principal) -> BoxFuture<'static, Result<T>>,
    ) -> Result<Result<T>, Lost> {
        let who = self.who.clone();
        self.cloud.api.call(|api| ask(api, who)).await
    }

    /// Launches instances: all, or an error.
    pub(super) async fn launch(&self, count: u32, token: &str) -> Result<Result<Vec<InstanceId>>, Lost> {
        let mut spec = LaunchSpec::new(self.cloud.image(), "t3.nano");
        (spec.min, spec.max) = (count, count);
        if self.act.name == "launch" {
            spec.mappings = vec![data_disk()];
        }
        spec.client_token = Some(ClientToken {
            token: token.to_owned(),
            request_hash: count.to_string(),
        });
        self.call(move |api, who| {
            Box::pin(async move {
                let made = instances::launch(&api, &who, spec).await?;
                Ok(made.instances.iter().map(|instance| instance.id()).collect())
            })
        })
        .await
    }

    /// One operation on all instances.
    async fn power(&self, name: &'static str) -> Result<Result<()>, Lost> {
        let (ids, volume) = (self.ids.clone(), self.volume);
        self.call(move |api, who| {
            Box::pin(async move {
                match name {
                    "start" => instances::start(&api, &who, &ids).await.map(drop),
                    "stop" => instances::stop(&api, &who, &ids, false).await.map(drop),
                    "reboot" => instances::reboot(&api, &who, &ids).await,
                    "terminate" => instances::terminate(&api, &who, &ids).await.map(drop),
                    "attach-volume" | "detach-volume" | "modify-volume" | "delete-volume"
                    | "create-snapshot" => {
                        let missing = || Error::Internal("it has no volume".into());
                        let volume = volume.ok_or_else(missing)?;
                        let first = ids.first().copied().ok_or_else(missing)?;
                        on_volume(&api, &who, name, volume, first).await
                    }
                    _ if OF_IMAGES.contains(&name) => make_image(&api, &who, ids.first().copied()).await,
                    other => Err(Error::Internal(format!("{other} is not asked for like this"))),
                }
            })
        })
        .await
    }

    /// Makes instances as the operation needs them.
    pub(super) async fn prepare(&mut self) -> Result<()> {
        if self.act.name == "launch" {
            return Ok(());
        }
        self.ids = answered(self.launch(COUNT, TOKEN).await)?;
        run::settle(self.world, self.cloud).await?;
        if self.act.name.ends_with("-volume") || self.act.name == "create-snapshot" {
            let made = self.call(|api, who| Box::pin(async move { make_volume(&api, &who).await }));
            self.volume = Some(answered(made.await)?);
        }
        for before in self.act.before {
            answered(self.power(before).await)?;
            run::settle(self.world, self.cloud).await?;
        }
        Ok(())
    }

    /// Asks for the operation. Where the answer is lost since the API has died at this step before anything was
    /// written, nothing has happened, and it is asked for again; and so is a launch, by its token, in any case.
    pub(super) async fn ask(&mut self, step: Option<&str>) -> Result<()> {
        let before = self.rows().await?;
        let until = self.world.clock.elapsed() + PATIENCE.as_secs() * 1000;
        while self.world.clock.elapsed() < until {
            let answer = if self.act.name == "launch" {
                self.launch(COUNT, TOKEN).await
            } else {
                self.power(self.act.name)
                    .await
                    .map(|answer| answer.map(|()| self.ids.clone()))
            };
            match answer {
                Ok(Ok(ids)) => {
                    self.ids = ids;
                    return Ok(());
                }
                Ok(Err(Error::Unavailable(_))) => {}
                Ok(Err(error)) => {
                    self.wrong(format!("{} was refused: {error}", self.act.name));
                    return Ok(());
                }
                Err(Lost) if step.is_some_and(|step| BEFORE.contains(&step)) => {
                    if self.rows().await? != before {
                        self.wrong("nothing was answered or committed, and something has happened".into());
                    }
                }
                Err(Lost) if self.act.name == "launch" => {}
                Err(Lost) => return Ok(()),
            }
            tokio::time::sleep(LOOK).await;
        }
        self.wrong(format!(
            "{} was not answered in {} s",
            self.act.name,
            PATIENCE.as_secs()
        ));
        Ok(())
    }

    /// Until a role has died.
    pub(super) async fn until_dead(&mut self, doom: &Doom) {
        let until = self.world.clock.elapsed() + PATIENCE.as_secs() * 1000;
        while doom.deaths() == 0 {
            if self.world.clock.elapsed() >= until {
                return self.wrong("nobody came to the point".into());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Asks for the end of all, until that is answered.
    pub(super) async fn terminate(&mut self) -> Result<()> {
        let made = self.rows().await?;
        self.ids = made.iter().map(|row| row.id.0).collect();
        let until = self.world.clock.elapsed() + PATIENCE.as_secs() * 1000;
        while self.world.clock.elapsed() < until {
            match self.power("terminate").await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(Error::Unavailable(_))) | Err(Lost) => tokio::time::sleep(LOOK).await,
                Ok(Err(error)) => {
                    self.wrong(format!("terminate was refused: {error}"));
                    return Ok(());
                }
            }
        }
        self.wrong("terminate was not answered".into());
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

    /// What has become of the volume.
    async fn check_volume(&mut self) -> Result<()> {
        if self.act.name == "launch" {
            return self.check_disks().await;
        }
        if OF_IMAGES.contains(&self.act.name) {
            return self.check_image().await;
        }
        let Some(id) = self.volume else {
            return Ok(());
        };
        let conn = self.cloud.store.read();
        if self.act.name == "create-snapshot" {
            return self.check_snapshots(id).await;
        }
        let row = attachments::find(conn, id.to_db()).await?;
        if self.act.name == "modify-volume" && row.as_ref().map(|row| row.size_gib.0) != Some(LARGER) {
            self.wrong(format!("{id} shall be of {LARGER} GiB: {row:?}"));
        }
        let is = row.map_or("gone", |row| row.state.0.name());
        let wanted = match self.act.name {
            "attach-volume" | "modify-volume" => "in-use",
            "detach-volume" => "available",
            _ => "deleted",
        };
        if is != wanted {
            self.wrong(format!("{id} shall be {wanted} and is {is}"));
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

    /// The instances that the operation is about.
    async fn rows(&self) -> Result<Vec<instance::Model>> {
        let mine = instance::Entity::find().filter(instance::Column::ClientToken.eq(TOKEN));
        mine.all(self.cloud.store.read()).await.map_err(failed)
    }

    /// What has become of them.
    pub(super) async fn check(&mut self, ended: bool) -> Result<()> {
        let rows = self.rows().await?;
        let mut there: Vec<_> = rows.iter().map(|row| row.id.0).collect();
        let mut told = self.ids.clone();
        there.sort_unstable();
        told.sort_unstable();
        if there.len() != COUNT as usize || there != told {
            self.wrong(format!(
                "{COUNT} instances were asked for, {told:?} answered, and there are {there:?}"
            ));
        }
        if !ended {
            self.check_volume().await?;
        }
        let state = if ended { "terminated" } else { self.act.state };
        for row in &rows {
            let id = row.id.0;
            if row.state.0.name() != state {
                self.wrong(format!(
                    "{id} shall be {state} and is {}: {:?}",
                    row.state, row.reason_message
                ));
            }
            let (starts, resets) = self.world.boots(id);
            let least = |wanted: u64| if ended { 0 } else { wanted };
            let (few, many) = self.act.starts;
            if !(least(few)..=many).contains(&starts) {
                self.wrong(format!("{id} has started {starts} times"));
            }
            let (few, many) = self.act.resets;
            if !(least(few)..=many).contains(&resets) {
                self.wrong(format!("{id} was reset {resets} times"));
            }
        }
        Ok(())
    }
}

/// A volume that an instance is launched with.
fn data_disk() -> Mapping {
    Mapping {
        device: "/dev/sdf".into(),
        content: Mapped::Volume(DiskAsked {
            size_gib: Some(1),
            ..DiskAsked::default()
        }),
    }
}

async fn make_image(api: &Api, who: &Principal, instance: Option<InstanceId>) -> Result<()> {
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

async fn make_volume(api: &Api, who: &Principal) -> Result<VolumeId> {
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

async fn on_volume(
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
        "attach-volume" => {
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

/// An answer where nothing can have gone wrong.
pub(super) fn answered<T>(answer: Result<Result<T>, Lost>) -> Result<T> {
    answer.unwrap_or_else(|Lost| Err(Error::Internal("no answer, and nobody was to die".into())))
}
