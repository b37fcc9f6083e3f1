//! Requests to a cloud in which a role is to die: instances in the state that an operation needs, the
//! operation, and what must have become of them.

use std::{sync::Arc, time::Duration};

use cumulet_backend::{
    api::{
        ClientToken, Cloud as Api,
        instances::{self, LaunchSpec},
    },
    entity::instance,
    store::failed,
};
use cumulet_domain::{
    Error, Result,
    account::Principal,
    crash::{Point, Role},
    id::{InstanceId, VolumeId},
};
use futures::future::BoxFuture;
use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _};

use super::{
    Doom,
    storage::{COPY, MOVE, OF_IMAGES, data_disk, make_image, make_volume, on_volume},
};
use crate::{
    client::kept_root,
    roles::Lost,
    run::{self, setup::Cloud},
    world::World,
};

/// Instances that the operation is about.
const COUNT: u32 = 2;

/// The client token of the launch that the run is about.
const TOKEN: &str = "subject";

/// Nothing is written when the API dies here; from the next step on it is done without being asked again.
const BEFORE: [&str; 2] = ["asked", "written"];

/// How long an answer, or a death, is waited for.
const PATIENCE: Duration = Duration::from_secs(300);
const LOOK: Duration = Duration::from_millis(100);

/// An operation with what it needs before, and what must be after it.
pub(super) struct Act {
    pub(super) name: &'static str,
    /// The operation that it becomes.
    operation: &'static str,
    /// The one that it is to the host, if that is another: that one's points are passed there.
    on_host: Option<&'static str>,
    /// What is done to running instances before, one after the other.
    before: &'static [&'static str],
    /// The state that all of them come to.
    state: &'static str,
    /// How often each has started and was reset: at least, and at the most.
    starts: (u64, u64),
    resets: (u64, u64),
}

/// Every operation of the registry: one without a line here is told as an error. One may have several, by what asks for it.
const ACTS: [Act; 14] = [
    act("launch", &[], "running", (1, 1), (0, 0)),
    act("start", &["stop"], "running", (2, 2), (0, 0)),
    act("stop", &[], "stopped", (1, 1), (0, 0)),
    // Once more where the one that asked was not told that it was done, or the one that did it could not tell.
    act("reboot", &[], "running", (1, 1), (1, 5)),
    act("terminate", &[], "terminated", (1, 1), (0, 0)),
    act("attach-volume", &[], "running", (1, 1), (0, 0)),
    Act {
        operation: "attach-volume",
        ..act(
            MOVE,
            &["attach-volume", "detach-volume"],
            "running",
            (1, 1),
            (0, 0),
        )
    },
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
    Act {
        operation: "create-snapshot",
        ..act(COPY, &["attach-volume"], "running", (1, 1), (0, 0))
    },
    // Of the first instance; the other one goes on.
    Act {
        on_host: Some("stop"),
        ..act("create-image", &[], "running", (1, 2), (0, 0))
    },
    Act {
        on_host: Some("start"),
        ..act("run-again", &[], "running", (1, 2), (0, 0))
    },
];

/// The names of what is done for an operation.
pub(super) fn acts_of(operation: &str) -> impl Iterator<Item = &'static str> {
    let theirs = ACTS.iter().filter(move |act| act.operation == operation);
    theirs.map(|act| act.name)
}

/// The names of what comes to a point.
pub(super) fn acts_at(point: &Point) -> impl Iterator<Item = &'static str> {
    let theirs = ACTS.iter().filter(|act| {
        let on_host = act.on_host.filter(|_| point.role == Role::Host);
        [Some(act.operation), on_host].contains(&Some(point.operation))
    });
    theirs.map(|act| act.name)
}

const fn act(
    name: &'static str,
    before: &'static [&'static str],
    state: &'static str,
    starts: (u64, u64),
    resets: (u64, u64),
) -> Act {
    Act {
        name,
        operation: name,
        on_host: None,
        before,
        state,
        starts,
        resets,
    }
}

/// One user of the cloud, what he does, and what is wrong with what he gets.
pub(super) struct Script<'a> {
    pub(super) act: &'static Act,
    pub(super) world: &'a Arc<World>,
    pub(super) cloud: &'a Cloud,
    who: Principal,
    pub(super) ids: Vec<InstanceId>,
    /// The volume that the operation is about, if it is about one: of the first instance.
    pub(super) volume: Option<VolumeId>,
    pub(super) problems: Vec<String>,
}

impl<'a> Script<'a> {
    pub(super) fn new(name: &str, world: &'a Arc<World>, cloud: &'a Cloud) -> Result<Self> {
        let act = ACTS
            .iter()
            .find(|act| act.name == name)
            .ok_or_else(|| Error::Internal(format!("{name} has no line in kill_each/script.rs")))?;
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
        match self.act.name {
            "launch" => spec.mappings = vec![data_disk()],
            // Their roots outlive them.
            "terminate" => spec.mappings = vec![kept_root()],
            _ => {}
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
                    "attach-volume" | MOVE | "detach-volume" | "modify-volume" | "delete-volume"
                    | "create-snapshot" | COPY => {
                        let missing = || Error::Internal("it has no volume".into());
                        let volume = volume.ok_or_else(missing)?;
                        let which = if name == MOVE { ids.last() } else { ids.first() };
                        let instance = which.copied().ok_or_else(missing)?;
                        on_volume(&api, &who, name, volume, instance).await
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
    /// written, nothing has happened, and it is asked for again; and so is what has a token, in any case.
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
                Err(Lost) if ["launch", COPY].contains(&self.act.name) => {}
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
            self.check_storage().await?;
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

/// An answer where nothing can have gone wrong.
pub(super) fn answered<T>(answer: Result<Result<T>, Lost>) -> Result<T> {
    answer.unwrap_or_else(|Lost| Err(Error::Internal("no answer, and nobody was to die".into())))
}
