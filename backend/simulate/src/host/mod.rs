//! A simulated host: the worker as it is, over a hypervisor, a network and files that are simulated and outlive it. Its
//! calls take time and fail; it is killed at its crash points and at any time, stands still for a while, or loses its
//! machine. Faults and whoever dies at a crash point go through here.

mod life;
mod machine;
mod network;
pub(crate) mod pool;
mod served;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use cumulet_bus::Bus;
use cumulet_domain::{
    Error, Result,
    id::HostId,
    message::{HostResources, OffReason, Power},
    rng::SharedRng,
};
use cumulet_hypervisor::{
    Devices, DomainStatus,
    fake::{FakeConfig, FakeHypervisor, FaultPlan, Seen, Witness},
};
use cumulet_worker::{
    FixedMetrics, MemoryDisks, MemoryFiles, Tasks as _, Worker, WorkerConfig, WorkerDeps, remote::Grants,
};
use tokio::sync::watch;

use crate::{clock::VirtualClock, options::Sabotage, outcome::Invariant, world::World};
pub(crate) use life::current;
use life::{Life, Within};
pub(crate) use machine::Machine;
use network::{Network, STEP};
use pool::{HostDisks, Pool};
use served::Served;

/// How long a dead worker stays away, in milliseconds.
const AWAY: std::ops::Range<u64> = 500..20_000;

/// How long a call takes while the hypervisor is slow, in milliseconds.
const SLOW: std::ops::Range<u64> = 500..60_000;

/// How long a look at a guest or the host takes in a slow spell: in half of them at most this, so that calls come to be
/// made, and in the others mostly longer than anybody waits for it.
const SLOW_LOOK: [std::ops::Range<u64>; 2] = [0..3_000, 0..45_000];

/// Events of the hypervisor that a worker may be behind: its guests are few.
const EVENTS: usize = 64;

/// A host.
pub(crate) struct Host {
    pub(crate) id: HostId,
    config: WorkerConfig,
    clock: VirtualClock,
    world: Arc<World>,
    bus: Arc<dyn Bus>,
    files: MemoryFiles,
    disks: Arc<HostDisks>,
    /// Images and snapshots' data, which are files.
    data: Arc<MemoryDisks>,
    hypervisor: Arc<FakeHypervisor>,
    network: Arc<Network>,
    now: Mutex<Now>,
    /// For tasks that know their host.
    this: Weak<Host>,
    still: AtomicBool,
    slow: AtomicBool,
    /// How long a look takes in this slow spell, in milliseconds.
    look: AtomicU64,
    /// No worker comes up while the machine is off.
    off: AtomicBool,
}

/// What there is of the worker now.
struct Now {
    life: Arc<Life>,
    /// None while none lives: what it had not done yet goes back to the bus with it.
    worker: Option<Arc<Worker>>,
    served: Arc<Served>,
    /// The dropped commands of this life that have been counted.
    dropped: u64,
    /// How many lives there have been.
    lives: u32,
}

impl Host {
    pub(crate) fn new(
        world: &Arc<World>,
        bus: Arc<dyn Bus>,
        id: HostId,
        zone: String,
        resources: HostResources,
        pool: Option<Pool>,
    ) -> Result<Arc<Self>> {
        let skew = world.faults().clock_skew;
        let skew =
            i64::try_from(world.dice.number(0..2 * skew + 1)).unwrap_or(0) - i64::try_from(skew).unwrap_or(0);
        let config = FakeConfig {
            seed: world.dice.number(0..u64::MAX),
            vcpus: resources.vcpus,
            memory_mib: resources.memory_mib,
            events: EVENTS,
            ..FakeConfig::default()
        };
        let hypervisor = FakeHypervisor::new(config).map_err(|error| Error::internal(&error))?;
        let files = MemoryFiles::new();
        let data = MemoryDisks::new(files.clone(), resources.disk_gib);
        let disks = HostDisks {
            files: data.clone(),
            pool,
            host: id.clone(),
        };
        let host = Arc::new_cyclic(|this: &Weak<Host>| {
            hypervisor.watched_by(Arc::new(Watch(this.clone())));
            let life = Life::new(this, false);
            life.end();
            Host {
                config: WorkerConfig::new(id.clone(), "/", zone),
                id,
                clock: world.clock.skewed(skew),
                world: world.clone(),
                bus,
                disks: Arc::new(disks),
                data: Arc::new(data),
                files,
                hypervisor,
                network: Network::new(world.clone()),
                now: Mutex::new(Now {
                    life,
                    worker: None,
                    served: Arc::default(),
                    dropped: 0,
                    lives: 0,
                }),
                this: this.clone(),
                still: AtomicBool::new(false),
                slow: AtomicBool::new(false),
                look: AtomicU64::new(0),
                off: AtomicBool::new(false),
            }
        });
        host.replan();
        Ok(host)
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pool that it reaches, if it reaches one.
    pub(crate) fn pool(&self) -> Option<&Pool> {
        self.disks.pool.as_ref()
    }

    /// The guests that it has, and their devices.
    pub(crate) fn guests(&self) -> Vec<(DomainStatus, Devices)> {
        self.hypervisor.guests()
    }

    /// The worker, again and again, for ever.
    pub(crate) async fn run(self: Arc<Self>) {
        loop {
            self.live().await;
            self.world.pause(AWAY).await;
            while self.off.load(Ordering::Relaxed) {
                self.world.pause(AWAY).await;
            }
        }
    }

    /// One life of the worker.
    async fn live(&self) {
        let life = Life::new(&self.this, self.still.load(Ordering::Relaxed));
        let tasks = Within(life.clone());
        let served = Arc::new(self.served());
        let deps = WorkerDeps {
            bus: self.bus.clone(),
            clock: Arc::new(self.clock.clone()),
            hypervisor: self.hypervisor.clone(),
            files: Arc::new(self.files.clone()),
            tasks: Arc::new(Within(life.clone())),
            network: self.network.clone(),
            disks: self.disks.clone(),
            images: self.data.clone(),
            snapshots: self.data.clone(),
            grants: Grants::unneeded(),
            rng: SharedRng::seeded(self.world.dice.number(0..u64::MAX)),
            metadata: served.clone(),
            metrics: Arc::new(FixedMetrics::default()),
        };
        let worker = match Worker::new(self.config.clone(), deps) {
            Ok(worker) => worker,
            Err(error) => return self.wrong(&error),
        };
        {
            let mut now = self.now();
            *now = Now {
                life: life.clone(),
                worker: Some(worker.clone()),
                served,
                dropped: 0,
                lives: now.lives + 1,
            };
        }
        let (world, id) = (self.world.clone(), self.id.clone());
        let all = tasks.within(Box::pin(async move {
            let (_stop, stopped) = watch::channel(false);
            if let Err(error) = worker.run(stopped).await {
                world.note(format_args!("{id}: the worker ended: {error}"));
            }
        }));
        // Killed, or by itself: its other tasks end with it.
        drop(tokio::spawn(all).await);
        life.end();
        self.count_dropped();
        let gone = self.now().worker.take();
        drop(gone);
    }

    fn wrong(&self, error: &dyn std::fmt::Display) {
        let id = &self.id;
        self.world
            .violate(Invariant::Errors, format_args!("{id}: no worker: {error}"));
    }

    /// What is served to guests in the next life.
    fn served(&self) -> Served {
        let is_first = self.now().lives == 0;
        if is_first || self.world.sabotage != Some(Sabotage::NoRecovery) {
            return Served::default();
        }
        let guests = self.hypervisor.guests().into_iter();
        let on = guests.filter(|(guest, _)| guest.power == Power::On);
        Served::but(on.map(|(guest, _)| guest.instance).collect())
    }

    /// Counts the commands that the worker has dropped.
    pub(crate) fn count_dropped(&self) {
        let mut now = self.now();
        let Some(worker) = &now.worker else { return };
        let (stale, expired, _) = worker.counters().read();
        let (all, counted) = (stale + expired, now.dropped);
        now.dropped = all;
        drop(now);
        self.world
            .count(|counts| counts.dropped_commands += all - counted);
    }

    /// Kills the worker; another one comes up after a while.
    pub(crate) fn kill(&self) {
        let life = self.now().life.clone();
        if life.end() {
            self.world.count(|counts| counts.worker_kills += 1);
            self.world.note(format_args!("{}: killed", self.id));
        }
    }

    /// The worker stands still from now on, or goes on.
    pub(crate) fn freeze(&self, still: bool) {
        self.world.note(format_args!("{}: still {still}", self.id));
        self.still.store(still, Ordering::Relaxed);
        let life = self.now().life.clone();
        life.hold(still);
    }

    /// The machine loses power, or has it again.
    pub(crate) fn power(&self, on: bool) {
        self.world.note(format_args!("{}: power {on}", self.id));
        self.off.store(!on, Ordering::Relaxed);
        if !on {
            self.kill();
            self.hypervisor.lose_power();
            self.network.lose_power();
        }
    }

    /// The hypervisor is slow from now on, or quick again.
    pub(crate) fn slow(&self, slow: bool) {
        if self.slow.swap(slow, Ordering::Relaxed) == slow {
            return;
        }
        self.world.count(|counts| counts.slow_spells += u64::from(slow));
        self.world.note(format_args!("{}: slow {slow}", self.id));
        if slow {
            let dice = &self.world.dice;
            let look = dice.pick(&SLOW_LOOK).cloned().map(|range| dice.number(range));
            self.look.store(look.unwrap_or_default(), Ordering::Relaxed);
        }
        self.replan();
    }

    /// Brings the hypervisor's plan to what goes wrong now.
    pub(crate) fn replan(&self) {
        let faults = self.world.faults();
        let slow = self.slow.load(Ordering::Relaxed);
        let look = if slow {
            self.look.load(Ordering::Relaxed)
        } else {
            0
        };
        let calls = if slow { SLOW } else { STEP };
        self.hypervisor.set_plan(FaultPlan {
            latency_min: Duration::from_millis(calls.start),
            latency_max: Duration::from_millis(calls.end),
            look_latency: Duration::from_millis(look),
            failures_per_mille: per_mille(faults.step_fails),
            refusals_per_mille: per_mille(faults.step_refused),
            deaf_per_mille: per_mille(faults.deaf_guests),
            leaves_guests: self.world.sabotage == Some(Sabotage::KeepGuests),
            refuses_what_is_late: self.world.sabotage == Some(Sabotage::GiveUpWhatIsLate),
            ..FaultPlan::default()
        });
    }

    /// One of the guests that run goes off by itself.
    pub(crate) fn guest_goes_off(&self, reason: OffReason) {
        let guests = self.hypervisor.guests().into_iter();
        let running = guests.filter(|(guest, _)| guest.power == Power::On && !guest.paused);
        let running: Vec<_> = running.map(|(guest, _)| guest.instance).collect();
        let Some(id) = self.world.dice.pick(&running).copied() else {
            return;
        };
        self.world.count(|counts| counts.guest_crashes += 1);
        self.world
            .note(format_args!("{}: {id} goes off: {reason:?}", self.id));
        self.hypervisor.power_off(id, reason);
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a share
fn per_mille(share: f64) -> u16 {
    (share * 1000.0).round() as u16
}

/// Tells the world what comes to pass on the host.
struct Watch(Weak<Host>);

impl Witness for Watch {
    fn saw(&self, what: Seen) {
        let Some(host) = self.0.upgrade() else { return };
        let (world, at) = (&host.world, &host.id);
        match what {
            Seen::On(id) => world.guest_on(id, at),
            Seen::Runs(id) => {
                world.note(format_args!("{at}: {id} runs"));
                world.started(id);
            }
            Seen::StartsOver(id) => world.reset(id),
            Seen::Off(id) => world.guest_off(id, at),
            Seen::Late(id) => {
                world.count(|counts| counts.late_calls += 1);
                world.note(format_args!("{at}: a call for {id} is late"));
            }
            Seen::Failed(_) => world.count(|counts| counts.step_failures += 1),
        }
    }
}
