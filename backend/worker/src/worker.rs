//! The worker's main loop: it takes messages, gives each instance its turn, and reports by the clock.

use std::{path::PathBuf, pin::pin, sync::Arc, time::Duration};

use cumulet_bus::HostMailbox;
use cumulet_domain::{account::AccountId, crash, id::InstanceId};
use cumulet_hypervisor::{Event, Quiesced};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, broadcast, watch},
    task::JoinSet,
    time::Instant,
};

use crate::{
    WorkerConfig, WorkerDeps, WorkerError, boxed,
    counters::Counters,
    disks::limit_consoles,
    image_cache::ImageCache,
    intake::{InHand, READS, WAITING},
    keys::Keys,
    layout::{Layout, failed},
    places::Places,
    reaching::Reaching,
    readiness::Readiness,
    report::Reporter,
    slots::{Pushed, Queued, Slots},
    snapshots::Takes,
    tasks::Task,
    uids::Uids,
    volumes::Volumes,
    vpcs::Vpcs,
};

/// A console's file is cut at this size, where nothing else keeps it short.
const CONSOLE_FILE: u64 = 8 << 20;

/// How often it is looked for images that nobody uses.
const PRUNE: Duration = Duration::from_secs(600);

/// How long unfinished work is waited for at the end; what is not done then is gone on with next time.
const FAREWELL: Duration = Duration::from_secs(5);

/// How soon a closed mailbox is opened again.
const REOPEN: Duration = Duration::from_secs(1);

/// The agent of one host.
pub struct Worker {
    pub(crate) config: WorkerConfig,
    pub(crate) deps: WorkerDeps,
    pub(crate) layout: Layout,
    pub(crate) slots: Slots,
    pub(crate) uids: Uids,
    pub(crate) vpcs: Vpcs,
    pub(crate) volumes: Volumes,
    pub(crate) keys: Keys,
    pub(crate) takes: Arc<Takes>,
    pub(crate) cache: ImageCache,
    pub(crate) reporter: Reporter,
    pub(crate) readiness: Readiness,
    pub(crate) reaching: Reaching,
    pub(crate) launches: Semaphore,
    /// For what copies whole disks, by the account that it is for: volumes that are made of snapshots leave the last one.
    pub(crate) copies: Places<AccountId>,
    /// For roots that outlive their instances, so that no end waits for what is made.
    pub(crate) flattening: Places<AccountId>,
    pub(crate) counters: Counters,
    pub(crate) waiting: Arc<Semaphore>,
    pub(crate) deletions: Arc<InHand>,
    pub(crate) reads: Semaphore,
}

impl Worker {
    /// A worker, with what it remembers from before. No guest is touched.
    ///
    /// # Errors
    /// When its files can't be made or read.
    pub fn new(config: WorkerConfig, deps: WorkerDeps) -> Result<Arc<Worker>, WorkerError> {
        let layout = Layout::make(
            deps.files.clone(),
            &config.state_dir,
            &config.host,
            config.guest_group,
        )?;
        if let Some(ceph) = &config.ceph {
            layout
                .keep_ceph(ceph)
                .map_err(|error| failed(layout.root(), error))?;
        }
        let slots = Slots::open(layout.clone(), deps.clock.now())?;
        let uids = Uids::new(config.guest_uids.clone(), &slots.records());
        Ok(Arc::new(Worker {
            slots,
            uids,
            volumes: Volumes::open(layout.clone(), deps.clock.now())?,
            keys: Keys::new(&deps.rng),
            takes: Arc::default(),
            vpcs: Vpcs::new(layout.clone(), deps.network.clone(), deps.metadata.clone()),
            cache: ImageCache::new(layout.clone()),
            reporter: Reporter {
                bus: deps.bus.clone(),
                clock: deps.clock.clone(),
                host: config.host.clone(),
            },
            readiness: Readiness::new(config.slow_call),
            reaching: Reaching::default(),
            launches: Semaphore::new(config.concurrency.max(1)),
            copies: Places::new(config.copies, config.copies / 2),
            flattening: Places::new(config.copies / 2, 1),
            counters: Counters::default(),
            waiting: Arc::new(Semaphore::new(WAITING)),
            deletions: Arc::default(),
            reads: Semaphore::new(READS),
            layout,
            config,
            deps,
        }))
    }

    /// What was dropped or repeated since the start.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// What came of guests' agents that were asked to freeze file systems for snapshots.
    pub fn quiesced(&self) -> Quiesced {
        self.deps.hypervisor.quiesced()
    }

    /// What is not as it should be on the host, a sentence each.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems = self.vpcs.problems();
        problems.extend(self.reaching.problem(self.deps.disks.pool()));
        problems
    }

    /// Policies that could not be enforced since the start, VPCs whose policy is not enforced now, and other hosts
    /// that are left out of policies.
    pub fn alarms(&self) -> (u64, usize, usize) {
        let (failures, failing) = self.vpcs.alarms().read();
        (failures, failing, self.deps.network.problems().len())
    }

    /// Works until `shutdown` is true. Guests run on.
    ///
    /// # Errors
    /// When it can't begin: the guests can't be listed, or the bus is away.
    #[boxed]
    pub async fn run(self: Arc<Self>, mut shutdown: watch::Receiver<bool>) -> Result<(), WorkerError> {
        if self.deps.disks.uses_images() {
            self.close().await?;
        }
        // Listened to before the guests are listed: what happens in between is not missed.
        let events = self.deps.hypervisor.events();
        let mut tasks = JoinSet::new();
        let mut start = |task: Task| drop(tasks.spawn(self.deps.tasks.within(task)));
        // Before all that a slow hypervisor may keep: the host is there, and says why it is not ready.
        start(Box::pin(self.clone().keep_measuring()));
        start(Box::pin(self.clone().heartbeats()));
        start(Box::pin(self.clone().keep_reaching()));
        // The guests don't wait for a bus that is away.
        let begin = async { tokio::join!(self.mailbox(), self.restore()) };
        let (mut mailbox, restored) = tokio::select! {
            biased;
            begun = begin => begun,
            _ = shutdown.wait_for(|stop| *stop) => return Ok(()),
        };
        restored?;
        crash::up("restored");
        start(Box::pin(self.clone().watch(events)));
        start(Box::pin(self.clone().keep_reporting()));
        start(Box::pin(self.clone().supervise()));
        if self.deps.disks.uses_images() {
            start(Box::pin(self.clone().prune()));
        }
        let work = async {
            loop {
                let delivery = match &mut mailbox {
                    Some(opened) => opened.next().await,
                    None => None,
                };
                match delivery {
                    Some(delivery) => self.deliver(delivery).await,
                    None => {
                        tracing::warn!("the mailbox is closed");
                        tokio::time::sleep(REOPEN).await;
                        mailbox = self.mailbox().await;
                    }
                }
            }
        };
        tokio::select! {
            biased;
            // An error is a sender that has gone, and with it the process that wanted the worker.
            _ = shutdown.wait_for(|stop| *stop) => {}
            () = work => {}
        }
        tasks.shutdown().await;
        let all = u32::try_from(WAITING).unwrap_or(u32::MAX);
        if tokio::time::timeout(FAREWELL, self.waiting.acquire_many(all))
            .await
            .is_err()
        {
            tracing::info!("leaves work unfinished; it is gone on with next time");
        }
        Ok(())
    }

    /// Closes what earlier versions left open.
    async fn close(&self) -> Result<(), WorkerError> {
        let layout = self.layout.clone();
        let closed = self.layout.blocking(move |files| {
            files.mend();
            layout.close()
        });
        closed
            .await
            .map_err(|error| failed(&self.layout.instances(), error))
    }

    /// What is sent to this host; nothing while the bus is away.
    async fn mailbox(&self) -> Option<HostMailbox> {
        let opened = self.deps.bus.host_mailbox(&self.config.host).await;
        opened
            .inspect_err(|error| tracing::warn!(%error, "the mailbox can't be opened"))
            .ok()
    }

    /// Queues work for an instance, and sees to it that a task works on the instance.
    pub(crate) fn enqueue(
        self: &Arc<Self>,
        id: InstanceId,
        queued: Queued,
        permit: Option<OwnedSemaphorePermit>,
    ) {
        let is_command = matches!(queued, Queued::Command(_));
        match self.slots.push(id, queued, permit) {
            Pushed::First => drop(self.deps.tasks.spawn(self.clone().work_off(id))),
            Pushed::Again if is_command => self.counters.repeated(),
            Pushed::Again | Pushed::Behind => {}
        }
    }

    /// Does an instance's queued work, one after the other, until none is left.
    async fn work_off(self: Arc<Self>, id: InstanceId) {
        while let Some((queued, permit)) = self.slots.pop(id) {
            let worker = self.clone();
            // In a task of its own: a panic ends one command, and not all that is queued for the instance.
            if let Err(error) = self
                .deps
                .tasks
                .spawn(async move { worker.work(id, queued).await })
                .await
            {
                tracing::error!(instance = %id, %error, "what was queued for an instance did not end");
            }
            drop(permit);
        }
    }

    /// Looks at guests that the hypervisor says have changed.
    async fn watch(self: Arc<Self>, mut events: broadcast::Receiver<Event>) {
        loop {
            match events.recv().await {
                Ok(Event::Changed(status)) => {
                    let told = self.slots.record(status.instance);
                    if told.is_some_and(|r| r.power != status.power) || self.slots.is_busy(status.instance) {
                        self.enqueue(status.instance, Queued::Observe, None);
                    }
                }
                Ok(Event::Resync) | Err(broadcast::error::RecvError::Lagged(_)) => self.report_all().await,
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    }

    /// Heartbeats: by the clock, and whenever the host comes to be ready or not, or to reach its pool of volumes or not.
    async fn heartbeats(self: Arc<Self>) {
        let (mut is_ready, mut reach) = (self.readiness.subscribe(), self.reaching.changes());
        self.readiness.settle().await;
        is_ready.mark_unchanged();
        let mut heartbeat = tokio::time::interval(self.config.heartbeat);
        let full = self.config.full_report;
        let mut look = tokio::time::interval_at(Instant::now() + full, full);
        for timer in [&mut heartbeat, &mut look] {
            timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        }
        // A heartbeat that says less than there is would keep launches away until the next one: the first waits for
        // what the disk has. Later ones say what it had, for as long as it does not answer.
        let (mut disk_gib, mut is_owed) = (None, false);
        let (mut looking, mut is_looking) = (pin!(self.disk_gib()), true);
        loop {
            let is_due = tokio::select! {
                biased;
                found = &mut looking, if is_looking => {
                    is_looking = false;
                    disk_gib = found.or(disk_gib);
                    is_owed && disk_gib.is_some()
                }
                _ = look.tick(), if !is_looking => {
                    looking.set(self.disk_gib());
                    is_looking = true;
                    false
                }
                _ = heartbeat.tick() => true,
                // An error would mean that the sender is gone, and the worker holds it.
                _changed = is_ready.changed() => true,
                () = reach.next() => true,
            };
            match disk_gib {
                Some(disk_gib) if is_due => {
                    is_owed = false;
                    self.heartbeat(disk_gib).await;
                }
                None if is_due => {
                    is_owed = true;
                    if !is_looking {
                        looking.set(self.disk_gib());
                        is_looking = true;
                    }
                }
                _ => {}
            }
        }
    }

    /// Full reports, and the networks that nobody needs any more.
    async fn keep_reporting(self: Arc<Self>) {
        let mut full = tokio::time::interval(self.config.full_report);
        full.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            full.tick().await;
            self.report_all().await;
            if let Err(error) = self.vpcs.forget_unused(|vpc| self.slots.uses(vpc)).await {
                tracing::error!(%error, "a network that nobody needs can't be taken away");
            }
        }
    }

    async fn disk_gib(&self) -> Option<u64> {
        // In this order: a root that becomes a volume meanwhile is left out, and not counted twice.
        let dirs = [self.layout.volumes(), self.layout.instances()];
        let gib = self.deps.disks.capacity_gib(&dirs).await;
        gib.inspect_err(|error| tracing::warn!(%error, "can't tell how much disk there is"))
            .ok()
    }

    /// Keeps the image cache short.
    async fn prune(self: Arc<Self>) {
        let mut timer = tokio::time::interval(PRUNE);
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            timer.tick().await;
            let (limits, now) = (self.config.unused_images, self.deps.clock.now());
            match self.cache.prune(&self.layout, limits, now).await {
                Ok(removed) if removed.is_empty() => {}
                Ok(removed) => tracing::info!(images = ?removed, "removed images that no instance uses"),
                Err(error) => tracing::warn!(%error, "can't tell which images are used; all are kept"),
            }
        }
    }

    /// Repairs the network and keeps consoles short.
    async fn supervise(self: Arc<Self>) {
        let mut timer = tokio::time::interval(self.config.heartbeat);
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            timer.tick().await;
            if let Err(error) = self.vpcs.ensure().await {
                tracing::error!(%error, "the host's network can't be repaired");
            }
            if !self.deps.disks.uses_images() {
                continue;
            }
            let records = self.slots.records();
            let consoles: Vec<PathBuf> = records.iter().map(|r| self.layout.console(r.instance)).collect();
            let cut = self.layout.blocking(move |files| {
                files.mend();
                Ok(limit_consoles(files, &consoles, CONSOLE_FILE))
            });
            if let Ok(cut) = cut.await
                && !cut.is_empty()
            {
                tracing::warn!(?cut, "cut consoles that were too long");
            }
        }
    }
}
