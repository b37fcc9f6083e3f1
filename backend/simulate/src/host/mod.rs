//! A simulated host: a machine, and the worker on it, which speaks the protocol, decides by the worker's own
//! code and keeps what the worker keeps. Its steps take time and fail; the worker is killed between any two
//! of them, stands still for a while, or loses its machine.

mod driver;
mod machine;
mod obey;
mod queue;
mod reports;
mod steps;
mod volumes;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use cumulet_bus::{Bus, Delivered, Delivery};
use cumulet_domain::{
    id::{HostId, InstanceId},
    message::{Action, Command, HostResources, OffReason},
    time::Clock as _,
};
use tokio::{sync::Notify, time::Instant};

use crate::{clock::VirtualClock, run::Sabotage, world::World};
use driver::Driver;
pub(crate) use machine::Machine;
use queue::{Queued, Queues};

/// How often a worker says that it is there, and what it has (the worker's defaults).
const HEARTBEAT: Duration = Duration::from_secs(5);
const FULL_REPORT: Duration = Duration::from_secs(30);

/// How long a dead worker stays away, in milliseconds.
const AWAY: std::ops::Range<u64> = 500..20_000;

/// A host.
pub(crate) struct Host {
    pub(crate) id: HostId,
    zone: String,
    resources: HostResources,
    clock: VirtualClock,
    world: Arc<World>,
    bus: Arc<dyn Bus>,
    machine: Mutex<Machine>,
    life: Mutex<Arc<Life>>,
    frozen: AtomicBool,
    driver: Driver,
    /// For calls that go on when nobody waits for them any more.
    this: Weak<Host>,
    /// No worker comes up while the machine is off.
    off: AtomicBool,
}

/// One life of a worker.
#[derive(Default)]
pub(crate) struct Life {
    dead: AtomicBool,
    died: Notify,
    queues: Queues,
}

/// Why queued work went no further.
pub(crate) enum Stop {
    /// The worker is dead.
    Dead,
    /// A step failed, perhaps for good.
    Failed(&'static str, bool),
    /// A call did not come back in time.
    Unanswered(&'static str),
}

impl Host {
    pub(crate) fn new(
        world: &Arc<World>,
        bus: Arc<dyn Bus>,
        id: HostId,
        zone: String,
        resources: HostResources,
    ) -> Arc<Self> {
        let skew = world.faults().clock_skew;
        let skew =
            i64::try_from(world.dice.number(0..2 * skew + 1)).unwrap_or(0) - i64::try_from(skew).unwrap_or(0);
        Arc::new_cyclic(|this| Host {
            driver: Driver::default(),
            this: this.clone(),
            id,
            zone,
            resources,
            clock: world.clock.skewed(skew),
            world: world.clone(),
            bus,
            machine: Mutex::default(),
            life: Mutex::default(),
            frozen: AtomicBool::new(false),
            off: AtomicBool::new(false),
        })
    }

    pub(crate) fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn life(&self) -> Arc<Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The worker, again and again, for ever.
    pub(crate) async fn run(self: Arc<Self>) {
        loop {
            let life = Arc::new(Life::default());
            *self.life.lock().unwrap_or_else(PoisonError::into_inner) = life.clone();
            self.live(&life).await;
            self.world.pause(AWAY).await;
            while self.off.load(Ordering::Relaxed) {
                self.world.pause(AWAY).await;
            }
        }
    }

    /// One life of the worker.
    async fn live(self: &Arc<Self>, life: &Arc<Life>) {
        let Ok(mut mailbox) = self.bus.host_mailbox(&self.id).await else {
            return;
        };
        self.restore(life);
        let (mut heartbeat, mut full) = (Instant::now(), Instant::now());
        while !life.dead.load(Ordering::Relaxed) {
            tokio::select! {
                biased;
                () = life.died.notified() => return,
                () = tokio::time::sleep_until(full) => {
                    full += FULL_REPORT;
                    self.report_all(life).await;
                    self.machine().forget_unused();
                }
                () = tokio::time::sleep_until(heartbeat) => {
                    heartbeat += HEARTBEAT;
                    self.heartbeat().await;
                }
                delivery = mailbox.next() => match delivery {
                    Some(Delivery::Command(command)) => self.take(life, command),
                    Some(Delivery::Query(_, reply)) => reply.answer(Ok(Vec::new())),
                    None => return,
                },
            }
            self.thaw().await;
        }
    }

    /// Waits while the worker stands still.
    async fn thaw(&self) {
        while self.frozen.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }

    fn restore(self: &Arc<Self>, life: &Arc<Life>) {
        let records: Vec<_> = {
            let mut machine = self.machine();
            machine.restore();
            if self.world.sabotage == Some(Sabotage::NoRecovery) {
                machine.served.clear();
            }
            machine.kept.values().map(|kept| kept.record.clone()).collect()
        };
        for record in records {
            let queued = match record.pending {
                Some(pending) => Queued::Resume(pending),
                None => Queued::Observe,
            };
            self.enqueue(life, record.instance, queued);
        }
    }

    fn take(self: &Arc<Self>, life: &Arc<Life>, command: Delivered<Command>) {
        if let Some((id, _)) = command.action.instance() {
            return self.enqueue(life, id, Queued::Command(command));
        }
        let (this, of) = (self.clone(), life.clone());
        match &command.action {
            Action::Metadata(snapshot) => {
                let (id, revision) = (snapshot.instance, snapshot.revision);
                self.enqueue(life, id, Queued::Metadata(revision, command));
            }
            Action::Network(policy) => {
                let policy = policy.clone();
                tokio::spawn(async move {
                    this.apply(&of, &policy).await;
                    command.ack();
                });
            }
            Action::DeleteVolume { volume, .. } => {
                let volume = *volume;
                tokio::spawn(async move { this.delete_volume(of, volume, command).await });
            }
            _ => drop(tokio::spawn(async move {
                this.report_all(&of).await;
                command.ack();
            })),
        }
    }

    /// Queues work for an instance, and sees to it that a task works on the instance.
    fn enqueue(self: &Arc<Self>, life: &Arc<Life>, id: InstanceId, queued: Queued) {
        if life.queues.push(id, queued) {
            let (this, life) = (self.clone(), life.clone());
            tokio::spawn(async move {
                while let Some(queued) = life.queues.pop(id) {
                    if let Err(Stop::Dead) = this.work(&life, id, queued).await {
                        return;
                    }
                }
            });
        }
    }

    /// Kills the worker; another one comes up after a while.
    pub(crate) fn kill(&self) {
        let life = self.life();
        if !life.dead.swap(true, Ordering::Relaxed) {
            self.world.count(|counts| counts.worker_kills += 1);
            self.world.note(format_args!("{}: killed", self.id));
            life.died.notify_one();
        }
    }

    /// The worker stands still from now on, or goes on.
    pub(crate) fn freeze(&self, still: bool) {
        self.world.note(format_args!("{}: still {still}", self.id));
        self.frozen.store(still, Ordering::Relaxed);
    }

    /// The machine loses power, or has it again.
    pub(crate) fn power(&self, on: bool) {
        self.world.note(format_args!("{}: power {on}", self.id));
        self.off.store(!on, Ordering::Relaxed);
        if !on {
            self.kill();
            self.driver.lose_power();
            let ran = self.machine().lose_power();
            for id in ran {
                self.world.guest_off(id, &self.id);
            }
        }
    }

    /// One of the guests that run goes off by itself.
    pub(crate) fn guest_goes_off(self: &Arc<Self>, reason: OffReason) {
        let id = {
            let mut machine = self.machine();
            let running = machine
                .guests
                .iter()
                .filter(|(_, guest)| guest.on && !guest.paused);
            let running: Vec<_> = running.map(|(id, _)| *id).collect();
            let Some(id) = self.world.dice.pick(&running).copied() else {
                return;
            };
            if let Some(guest) = machine.guests.get_mut(&id) {
                (guest.on, guest.off_reason) = (false, Some(reason));
            }
            id
        };
        self.world.count(|counts| counts.guest_crashes += 1);
        self.world
            .note(format_args!("{}: {id} goes off: {reason:?}", self.id));
        self.world.guest_off(id, &self.id);
        let life = self.life();
        if !life.dead.load(Ordering::Relaxed) {
            self.enqueue(&life, id, Queued::Observe);
        }
    }

    fn now(&self) -> cumulet_domain::time::Timestamp {
        self.clock.now()
    }
}
