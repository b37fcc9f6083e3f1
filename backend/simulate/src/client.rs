//! Simulated API clients: they launch, stop, start, reboot and terminate, repeat a call that had no answer,
//! and remember what they were told.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use cumulet_backend::api::{
    ClientToken,
    instances::{self, LaunchSpec, ReservationView},
};
use cumulet_domain::{
    Error,
    account::{AccountId, Principal},
    id::{ImageId, InstanceId, SnapshotId, VolumeId},
    instance::ShutdownBehavior,
    volume::{DiskAsked, Mapped, Mapping, ROOT_DEVICE},
};

use crate::{
    outcome::Invariant,
    roles::{Api, Lost},
    world::World,
};

/// The volumes of new instances that outlive them.
fn outliving(made: &ReservationView) -> Vec<VolumeId> {
    let disks = made.instances.iter().flat_map(|view| &view.disks);
    let outliving = disks.filter(|disk| !disk.delete_on_termination);
    outliving.map(|disk| disk.volume).collect()
}

/// The root of an instance, which outlives it.
pub(crate) fn kept_root() -> Mapping {
    Mapping {
        device: ROOT_DEVICE.to_owned(),
        content: Mapped::Volume(DiskAsked {
            delete_on_termination: Some(false),
            ..DiskAsked::default()
        }),
    }
}

/// How often a call is made at the most.
const TRIES: usize = 8;

/// What all clients were told.
#[derive(Default)]
pub(crate) struct Ledger(Mutex<Told>);

#[derive(Default)]
pub(crate) struct Told {
    /// What each token made, by its answers.
    pub(crate) tokens: BTreeMap<(AccountId, String), Vec<InstanceId>>,
    /// Instances that a launch has answered with.
    pub(crate) launched: BTreeSet<InstanceId>,
    /// Instances whose end was answered for.
    pub(crate) ended: BTreeSet<InstanceId>,
}

impl Ledger {
    pub(crate) fn told(&self) -> MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One user of the API.
pub(crate) struct Client {
    pub(crate) world: Arc<World>,
    pub(crate) api: Arc<Api>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) who: Principal,
    pub(crate) image: ImageId,
    pub(crate) number: usize,
    pub(crate) public: bool,
    pub(crate) mine: Vec<InstanceId>,
    /// Volumes that it has made and not deleted.
    pub(crate) volumes: Vec<VolumeId>,
    /// Snapshots that it has asked for and not deleted.
    pub(crate) snapshots: Vec<SnapshotId>,
    /// Images that it has made and not deregistered.
    pub(crate) images: Vec<ImageId>,
    pub(crate) made: u64,
    launches: u64,
}

impl Client {
    pub(crate) fn new(
        world: Arc<World>,
        api: Arc<Api>,
        ledger: Arc<Ledger>,
        (who, image): (Principal, ImageId),
        number: usize,
        public: bool,
    ) -> Self {
        Client {
            world,
            api,
            ledger,
            who,
            image,
            number,
            public,
            mine: Vec::new(),
            volumes: Vec::new(),
            snapshots: Vec::new(),
            images: Vec::new(),
            made: 0,
            launches: 0,
        }
    }

    /// Launches so many instances, a hundred with each call, and nothing else.
    pub(crate) async fn load(mut self, wanted: usize) {
        while self.mine.len() < wanted {
            let count = (wanted - self.mine.len()).min(100);
            let before = self.mine.len();
            self.launch(u32::try_from(count).unwrap_or(1), false).await;
            if self.mine.len() == before {
                self.world
                    .violate(Invariant::Errors, format_args!("a launch of {count} was refused"));
                return;
            }
        }
    }

    /// Does this and that with about so many instances, for a while.
    pub(crate) async fn churn(mut self, wanted: usize, until: u64) {
        while self.world.clock.elapsed() < until {
            if self.mine.len() < wanted {
                let count = self.world.dice.number(1..4);
                self.launch(u32::try_from(count).unwrap_or(1), true).await;
                self.world.pause(0..500).await;
                continue;
            }
            self.world.pause(0..4000).await;
            match self.world.dice.number(0..14) {
                10.. => self.some_volume().await,
                0..3 => self.terminate().await,
                3..5 => self.power(Power::Stop).await,
                5..8 => self.power(Power::Start).await,
                8 => self.power(Power::Reboot).await,
                _ => self.some_image().await,
            }
        }
    }

    async fn launch(&mut self, count: u32, varied: bool) {
        self.launches += 1;
        let mut spec = LaunchSpec::new(self.image, "t3.nano");
        (spec.min, spec.max) = (count, count);
        spec.associate_public_ip = Some(self.public);
        let dice = &self.world.dice;
        if let Some(own) = dice.pick(&self.images)
            && varied
            && dice.chance(0.2)
        {
            spec.image = *own;
        }
        if varied && dice.chance(0.3) {
            spec.min = 1;
        }
        if varied && dice.chance(0.3) {
            spec.shutdown_behavior = ShutdownBehavior::Terminate;
        }
        let token = (!varied || dice.chance(0.7)).then(|| format!("c{}-{}", self.number, self.launches));
        spec.client_token = token.clone().map(|token| ClientToken {
            token,
            request_hash: format!("{count} {}", spec.min),
        });
        if varied && dice.chance(0.3) {
            spec.mappings = self.some_disks();
        }
        let (made, disks) = self.ask_launch(&spec).await;
        let again = varied && token.is_some() && self.world.dice.chance(0.3);
        if again {
            self.world.pause(0..30_000).await;
            self.ask_launch(&spec).await;
        }
        self.mine.extend(made);
        self.volumes.extend(disks);
    }

    /// Asks until an answer comes, if the launch has a token: without one it is never sent twice.
    async fn ask_launch(&self, spec: &LaunchSpec) -> (Vec<InstanceId>, Vec<VolumeId>) {
        let tries = if spec.client_token.is_some() { TRIES } else { 1 };
        for _ in 0..tries {
            let (who, asked, began) = (self.who.clone(), spec.clone(), Instant::now());
            let called = self.world.clock.elapsed();
            let answer = self
                .api
                .call(|cloud| Box::pin(async move { instances::launch(&cloud, &who, asked).await }));
            match answer.await {
                Ok(Ok(view)) => {
                    let ids: Vec<_> = view.instances.iter().map(|instance| instance.id()).collect();
                    self.acknowledged(spec, &ids, called, began);
                    return (ids, outliving(&view));
                }
                Ok(Err(Error::Unavailable(_))) | Err(Lost) => self.wait().await,
                Ok(Err(_)) => return Default::default(),
            }
        }
        Default::default()
    }

    /// One or two volumes beside the root, some of which outlive their instances, as some roots do.
    fn some_disks(&self) -> Vec<Mapping> {
        let dice = &self.world.dice;
        let devices = ["/dev/sdf", "/dev/sdg"];
        let disk = |device: &&str| Mapping {
            device: (*device).to_owned(),
            content: Mapped::Volume(DiskAsked {
                size_gib: Some(1),
                snapshot: dice
                    .chance(0.3)
                    .then(|| dice.pick(&self.snapshots).copied())
                    .flatten(),
                delete_on_termination: Some(dice.chance(0.6)),
                ..DiskAsked::default()
            }),
        };
        let count = usize::try_from(dice.number(1..3)).unwrap_or(1);
        let mut disks: Vec<Mapping> = devices.iter().take(count).map(disk).collect();
        if dice.chance(0.5) {
            disks.push(kept_root());
        }
        disks
    }

    fn acknowledged(&self, spec: &LaunchSpec, ids: &[InstanceId], called: u64, began: Instant) {
        self.world
            .note(format_args!("client {} has {ids:?}", self.number));
        {
            let mut seen = self.world.seen();
            for id in ids {
                seen.watches.launched(*id, called, began);
            }
        }
        let mut told = self.ledger.told();
        told.launched.extend(ids);
        let Some(token) = &spec.client_token else {
            return;
        };
        let key = (self.who.account, token.token.clone());
        let before = told.tokens.entry(key).or_insert_with(|| ids.to_vec()).clone();
        drop(told);
        if before != ids {
            self.world.violate(
                Invariant::I4,
                format_args!("token {} made {before:?}, and then {ids:?}", token.token),
            );
        }
    }

    pub(crate) async fn wait(&self) {
        self.world.count(|counts| counts.retried += 1);
        if self.world.dice.chance(0.05) {
            self.world.pause(0..120_000).await;
        }
        tokio::time::sleep(self.world.dice.millis(200..2000)).await;
    }

    async fn terminate(&mut self) {
        let Some(id) = self.world.dice.pick(&self.mine).copied() else {
            return;
        };
        for _ in 0..TRIES {
            let who = self.who.clone();
            let answer = self
                .api
                .call(move |cloud| Box::pin(async move { instances::terminate(&cloud, &who, &[id]).await }));
            match answer.await {
                Ok(Ok(_)) => {
                    self.ledger.told().ended.insert(id);
                    self.mine.retain(|other| *other != id);
                    return;
                }
                Ok(Err(Error::Unavailable(_))) | Err(Lost) => self.wait().await,
                Ok(Err(Error::NotFound { .. })) => {
                    // It may have terminated by itself, and be out of sight after that.
                    self.mine.retain(|other| *other != id);
                    return;
                }
                Ok(Err(_)) => return,
            }
        }
    }

    /// Some operation on some instance; it need not be in the state for it.
    async fn power(&self, power: Power) {
        let Some(id) = self.world.dice.pick(&self.mine).copied() else {
            return;
        };
        let (who, force) = (self.who.clone(), self.world.dice.chance(0.3));
        let answer = self.api.call(move |cloud| {
            Box::pin(async move {
                match power {
                    Power::Stop => instances::stop(&cloud, &who, &[id], force).await.map(drop),
                    Power::Start => instances::start(&cloud, &who, &[id]).await.map(drop),
                    Power::Reboot => instances::reboot(&cloud, &who, &[id]).await,
                }
            })
        });
        let done = matches!(answer.await, Ok(Ok(())));
        self.world
            .note(format_args!("client {}: {power:?} {id}: {done}", self.number));
    }
}

#[derive(Clone, Copy, Debug)]
enum Power {
    Stop,
    Start,
    Reboot,
}

/// So long between two looks.
pub(crate) const LOOK: Duration = Duration::from_secs(1);
