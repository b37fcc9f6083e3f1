//! Fault injection for the bus: a bus that loses, repeats and delays messages by a plan. The plan can be
//! changed while it runs, and chance is handed in. Simulations, tests and `CUMULET_FAULTS_ALLOWED=1` put it
//! in front of a real bus.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use cumulet_domain::{
    id::HostId,
    message::{Command, Query, Report},
};

use crate::{Bus, BusError, Counters, HostMailbox, ReportMailbox, Wakeup, WakeupMailbox};

/// Where chance comes from: any number, each as likely.
pub type Chance = Box<dyn FnMut() -> u64 + Send>;

/// What is done to messages. The default does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChaosPlan {
    /// Every k-th is lost; 0 loses none.
    pub lose_every: u64,
    /// How often each of the others is sent.
    pub copies: u32,
    /// How long each copy waits at least.
    pub delay: Duration,
    /// How much longer it may wait: by chance, so that messages overtake each other.
    pub jitter: Duration,
}

impl Default for ChaosPlan {
    fn default() -> Self {
        ChaosPlan {
            lose_every: 0,
            copies: 1,
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
        }
    }
}

/// Wraps a bus. What is lost or delayed is `Ok` for its sender; reads are lost and delayed, not repeated.
pub struct Chaos {
    bus: Arc<dyn Bus>,
    plan: Mutex<ChaosPlan>,
    chance: Mutex<Chance>,
    count: AtomicU64,
    lost: AtomicU64,
}

impl fmt::Debug for Chaos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chaos")
            .field("plan", &self.plan())
            .finish_non_exhaustive()
    }
}

/// What becomes of one message: how long each copy of it waits.
type Fate = Vec<Duration>;

impl Chaos {
    /// A bus by a plan. The same chance and the same calls give the same.
    pub fn new(bus: Arc<dyn Bus>, plan: ChaosPlan, chance: Chance) -> Chaos {
        Chaos {
            bus,
            plan: Mutex::new(plan),
            chance: Mutex::new(chance),
            count: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        }
    }

    /// Goes on by another plan.
    pub fn change(&self, plan: ChaosPlan) {
        *self.plan.lock().unwrap_or_else(PoisonError::into_inner) = plan;
    }

    /// How many messages were lost.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    fn plan(&self) -> ChaosPlan {
        *self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fate(&self) -> Fate {
        let plan = self.plan();
        let number = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        if plan.lose_every > 0 && number.is_multiple_of(plan.lose_every) {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return Vec::new();
        }
        let span = u64::try_from(plan.jitter.as_micros()).unwrap_or(u64::MAX);
        let mut chance = self.chance.lock().unwrap_or_else(PoisonError::into_inner);
        let mut wait = || match span {
            0 => plan.delay,
            span => plan.delay + Duration::from_micros(chance() % span),
        };
        (0..plan.copies).map(|_| wait()).collect()
    }

    /// Sends each copy when its time has come. An error is heard of where it comes at once.
    async fn let_go<F, S>(&self, send: S) -> Result<(), BusError>
    where
        F: Future<Output = Result<(), BusError>> + Send + 'static,
        S: Fn(Arc<dyn Bus>) -> F,
    {
        let mut result = Ok(());
        for wait in self.fate() {
            let sending = send(self.bus.clone());
            if wait.is_zero() {
                result = sending.await;
                continue;
            }
            tokio::spawn(async move {
                tokio::time::sleep(wait).await;
                if let Err(error) = sending.await {
                    tracing::debug!(%error, "a delayed message was not taken");
                }
            });
        }
        result
    }
}

#[async_trait]
impl Bus for Chaos {
    async fn send(&self, host: &HostId, command: Command) -> Result<(), BusError> {
        let send = |bus: Arc<dyn Bus>| {
            let (host, command) = (host.clone(), command.clone());
            async move { bus.send(&host, command).await }
        };
        self.let_go(send).await
    }

    async fn report(&self, report: Report) -> Result<(), BusError> {
        let send = |bus: Arc<dyn Bus>| {
            let report = report.clone();
            async move { bus.report(report).await }
        };
        self.let_go(send).await
    }

    async fn query(&self, host: &HostId, query: Query) -> Result<Vec<u8>, BusError> {
        match self.fate().first() {
            Some(wait) => {
                tokio::time::sleep(*wait).await;
                self.bus.query(host, query).await
            }
            None => {
                tokio::time::sleep(crate::DEADLINE).await;
                Err(BusError::Unavailable(format!("host {host} did not answer")))
            }
        }
    }

    async fn wake(&self, wakeup: Wakeup) -> Result<(), BusError> {
        self.let_go(|bus| async move { bus.wake(wakeup).await }).await
    }

    async fn host_mailbox(&self, host: &HostId) -> Result<HostMailbox, BusError> {
        self.bus.host_mailbox(host).await
    }

    async fn report_mailbox(&self) -> Result<ReportMailbox, BusError> {
        self.bus.report_mailbox().await
    }

    async fn wakeups(&self) -> Result<WakeupMailbox, BusError> {
        self.bus.wakeups().await
    }

    fn counters(&self) -> Counters {
        self.bus.counters()
    }
}

#[cfg(test)]
mod tests {
    use cumulet_domain::message::Action;
    use cumulet_domain::time::Timestamp;

    use super::*;
    use crate::{Delivery, LocalBus};

    /// Marsaglia's, from a seed.
    fn chance(mut seed: u64) -> Chance {
        Box::new(move || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed
        })
    }

    fn host() -> HostId {
        HostId("a".into())
    }

    async fn run(plan: ChaosPlan, seed: u64) -> Vec<i64> {
        let chaos = Chaos::new(Arc::new(LocalBus::new()), plan, chance(seed));
        let mut mailbox = chaos.host_mailbox(&host()).await.unwrap();
        for n in 1..=20 {
            let command = Command {
                operation: None,
                deadline: Timestamp(n),
                action: Action::ReportAll,
                keys: Vec::new(),
                storage: None,
            };
            chaos.send(&host(), command).await.unwrap();
        }
        let mut came = Vec::new();
        let second = Duration::from_secs(3600);
        while let Ok(Some(Delivery::Command(command))) = tokio::time::timeout(second, mailbox.next()).await {
            came.push(command.accept().deadline.0);
        }
        came
    }

    #[tokio::test(start_paused = true)]
    async fn messages_are_lost_repeated_delayed_and_reordered_by_plan() {
        let all: Vec<i64> = (1..=20).collect();
        assert_eq!(run(ChaosPlan::default(), 1).await, all);
        let lossy = ChaosPlan {
            lose_every: 5,
            ..ChaosPlan::default()
        };
        let kept: Vec<i64> = all.iter().copied().filter(|n| n % 5 != 0).collect();
        assert_eq!(run(lossy, 1).await, kept);
        let wild = ChaosPlan {
            copies: 3,
            delay: Duration::from_secs(600),
            jitter: Duration::from_secs(60),
            ..ChaosPlan::default()
        };
        let came = run(wild, 7).await;
        assert_eq!(came.len(), 60);
        assert!(!came.is_sorted(), "{came:?}");
        let mut each = came.clone();
        each.sort_unstable();
        each.dedup();
        assert_eq!(each, all);
        assert_eq!(run(wild, 7).await, came, "the same seed gives the same");
        assert_ne!(run(wild, 8).await, came);
    }
}
