//! The control plane's roles as killable processes: killed at any time and at their crash points, and
//! restarted after a while with nothing of their memory.

use std::sync::{Arc, Mutex, PoisonError};

use cumulet_backend::{
    api::Cloud,
    conductor::{Conductor, Duties},
};
use cumulet_domain::{Error, Result, crash::Killed};
use futures::future::BoxFuture;
use tokio::{
    sync::{Notify, watch},
    task::AbortHandle,
};

use crate::{host, outcome::Invariant, world::World};

/// How long a role that was killed is away, in milliseconds.
const AWAY: std::ops::Range<u64> = 100..8000;

/// Why a call was not answered.
#[derive(Debug)]
pub(crate) struct Lost;

/// The API's process.
pub(crate) struct Api {
    world: Arc<World>,
    make: Box<dyn Fn() -> Cloud + Send + Sync>,
    /// None while it is away.
    process: Mutex<Option<Process>>,
}

struct Process {
    cloud: Cloud,
    calls: Vec<AbortHandle>,
}

impl Api {
    pub(crate) fn new(world: Arc<World>, make: impl Fn() -> Cloud + Send + Sync + 'static) -> Arc<Self> {
        let process = Some(Process {
            cloud: make(),
            calls: Vec::new(),
        });
        Arc::new(Api {
            world,
            make: Box::new(make),
            process: Mutex::new(process),
        })
    }

    fn process(&self) -> std::sync::MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request and its answer, over a network that may lose either.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        ask: impl FnOnce(Cloud) -> BoxFuture<'static, Result<T>>,
    ) -> Result<Result<T>, Lost> {
        let began = std::time::Instant::now();
        self.travel().await?;
        let task = {
            let mut process = self.process();
            let Process { cloud, calls } = process.as_mut().ok_or(Lost)?;
            let task = tokio::spawn(ask(cloud.clone()));
            calls.retain(|call| !call.is_finished());
            calls.push(task.abort_handle());
            task
        };
        let answer = task.await.map_err(|error| {
            if let Ok(panic) = error.try_into_panic()
                && !panic.is::<Killed>()
            {
                self.world
                    .violate(Invariant::Errors, format_args!("a call panicked"));
            }
            Lost
        })?;
        self.travel().await?;
        let mut seen = self.world.seen();
        seen.counts.calls += 1;
        seen.watches.wall_call.push(began.elapsed());
        drop(seen);
        match &answer {
            Ok(_) => {}
            Err(Error::Internal(text)) => {
                self.world.violate(Invariant::Errors, format_args!("{text}"));
            }
            Err(error) => {
                self.world.count(|counts| counts.refused += 1);
                self.world.note(format_args!("refused: {error}"));
            }
        }
        Ok(answer)
    }

    async fn travel(&self) -> Result<(), Lost> {
        if !self.world.rages() {
            return Ok(());
        }
        self.world.pause(0..20).await;
        if self.world.dice.chance(self.world.faults().loss / 4.0) {
            return Err(Lost);
        }
        Ok(())
    }

    /// Ends the process; another one comes up after a while.
    pub(crate) fn kill(self: &Arc<Self>) {
        let Some(process) = self.process().take() else {
            return;
        };
        self.world.count(|counts| counts.role_kills += 1);
        self.world.note(format_args!("the API is killed"));
        for call in process.calls {
            call.abort();
        }
        let this = self.clone();
        tokio::spawn(async move {
            this.world.pause(AWAY).await;
            *this.process() = Some(Process {
                cloud: (this.make)(),
                calls: Vec::new(),
            });
        });
    }
}

/// A conductor's process.
pub(crate) struct ConductorRole {
    world: Arc<World>,
    make: Box<dyn Fn() -> Conductor + Send + Sync>,
    duties: Duties,
    killed: Notify,
}

impl ConductorRole {
    pub(crate) fn new(
        world: Arc<World>,
        duties: Duties,
        make: impl Fn() -> Conductor + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(ConductorRole {
            world,
            make: Box::new(make),
            duties,
            killed: Notify::new(),
        })
    }

    /// The process, again and again, for ever.
    pub(crate) async fn run(self: Arc<Self>) {
        loop {
            let (stop, stopped) = watch::channel(false);
            let mut task = tokio::spawn((self.make)().run(self.duties, stopped));
            tokio::select! {
                biased;
                () = self.killed.notified() => {}
                // By itself, for instance since the database would not have it.
                _ = &mut task => self.world.note(format_args!("the conductor ended")),
            }
            task.abort();
            if !task.is_finished() {
                drop(task.await);
            }
            drop(stop);
            self.world.pause(AWAY).await;
        }
    }

    /// Ends the process.
    pub(crate) fn kill(&self) {
        self.world.count(|counts| counts.role_kills += 1);
        self.world.note(format_args!("the conductor is killed"));
        self.killed.notify_one();
    }
}

/// Kills roles, workers too, where they pass a crash point, as often as the run's faults say.
pub(crate) fn kill_at_points(world: &Arc<World>, api: &Arc<Api>, conductors: &[Arc<ConductorRole>]) {
    let (world, api, conductors) = (world.clone(), api.clone(), conductors.to_vec());
    cumulet_domain::crash::hook(Some(Box::new(move |name| {
        if !world.rages() {
            return false;
        }
        let (faults, worker) = (world.faults(), host::current());
        let share = if worker.is_some() {
            faults.worker_kill_at
        } else {
            faults.kill_at
        };
        if !world.dice.chance(share) {
            return false;
        }
        world.note(format_args!("at {name}"));
        world.seen().killed_at.insert(name.to_owned());
        if let Some(worker) = worker {
            worker.kill();
            return true;
        }
        match name.rsplit('.').next() {
            Some("asked" | "written" | "committed") => api.kill(),
            // Which one's task it is can't be told: all of them, as if they shared a machine.
            _ => conductors.iter().for_each(|conductor| conductor.kill()),
        }
        true
    })));
}

/// No more kills at crash points in this thread.
pub(crate) fn no_more_points() {
    cumulet_domain::crash::hook(None);
}
