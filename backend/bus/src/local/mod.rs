//! The in-process bus: bounded queues in memory. Nothing is serialised and nothing survives the process,
//! which the conductor heals as it heals any lost message. A process with all roles uses it.

mod queue;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use cumulet_domain::{
    id::HostId,
    message::{Command, Query, Report},
};
use tokio::{
    sync::{broadcast, oneshot},
    time::timeout,
};

use crate::{
    Bus, BusError, Counters, DEADLINE, Delivered, Delivery, HostMailbox, Reply, ReportMailbox, Wakeup,
    WakeupMailbox, counters::Tally, delivered::Origin, mailbox::Source,
};
use queue::{Full, Queue, Reader};

/// Messages that wait in one queue at the most. Who reports waits for room; who commands tries again later.
const QUEUE: usize = 65_536;

/// Taps that wait at the most; more say no more.
const WAKEUPS: usize = 16;

/// A bus inside one process.
#[derive(Clone, Debug)]
pub struct LocalBus(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    hosts: Mutex<HashMap<HostId, Arc<Queue<Letter>>>>,
    reports: Arc<Queue<Report>>,
    wakeups: broadcast::Sender<Wakeup>,
    tally: Arc<Tally>,
}

/// What waits for a host.
#[derive(Debug)]
enum Letter {
    Command(Command),
    Query(Query, Reply),
}

impl Default for LocalBus {
    fn default() -> Self {
        let tally = Arc::new(Tally::default());
        LocalBus(Arc::new(Inner {
            hosts: Mutex::default(),
            reports: Arc::new(Queue::new(QUEUE, tally.clone())),
            wakeups: broadcast::Sender::new(WAKEUPS),
            tally,
        }))
    }
}

impl LocalBus {
    /// A bus that nobody listens on yet.
    pub fn new() -> Self {
        Self::default()
    }

    fn hosts(&self) -> MutexGuard<'_, HashMap<HostId, Arc<Queue<Letter>>>> {
        self.0.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A host that takes nothing must not hold up a sender that also talks to others: a full queue is an error.
    fn deliver(&self, host: &HostId, letter: Letter) -> Result<(), BusError> {
        let queue = self.hosts().get(host).cloned();
        let pushed = queue.map_or(Err(Full::Nobody), |queue| queue.push(letter));
        self.counted(pushed).map_err(|full| match full {
            Full::Full(_) => BusError::Unavailable(format!("the queue of host {host} is full")),
            Full::Nobody => BusError::NoSuchHost(host.clone()),
        })
    }

    fn counted<T>(&self, pushed: Result<(), Full<T>>) -> Result<(), Full<T>> {
        let tally = &self.0.tally;
        Tally::one(&tally.sent);
        match &pushed {
            Ok(()) => Tally::one(&tally.confirmed),
            Err(Full::Nobody) => Tally::one(&tally.returned),
            Err(Full::Full(_)) => {}
        }
        pushed
    }
}

#[async_trait]
impl Bus for LocalBus {
    async fn send(&self, host: &HostId, command: Command) -> Result<(), BusError> {
        self.deliver(host, Letter::Command(command))
    }

    async fn report(&self, report: Report) -> Result<(), BusError> {
        let full = |_| BusError::Unavailable("the queue of reports is full".into());
        let pushed = match self.0.reports.push(report) {
            Err(Full::Full(report)) => timeout(DEADLINE, self.0.reports.push_patiently(report))
                .await
                .map_err(full)?,
            done => done,
        };
        let gone = |_| BusError::Unavailable("no conductor listens".into());
        self.counted(pushed).map_err(gone)
    }

    async fn query(&self, host: &HostId, query: Query) -> Result<Vec<u8>, BusError> {
        let (reply, answer) = oneshot::channel();
        let asked = async {
            self.deliver(host, Letter::Query(query, Reply(reply)))?;
            answer
                .await
                .map_err(|_| BusError::Unavailable(format!("host {host} dropped the question")))?
        };
        let late = |_| BusError::Unavailable(format!("host {host} did not answer in {DEADLINE:?}"));
        timeout(DEADLINE, asked).await.map_err(late)?
    }

    async fn wake(&self, wakeup: Wakeup) -> Result<(), BusError> {
        // Where nobody listens the wake-up is lost, as it may be.
        let pushed = self.0.wakeups.send(wakeup).map(drop);
        drop(self.counted(pushed.map_err(|_| Full::<()>::Nobody)));
        Ok(())
    }

    async fn host_mailbox(&self, host: &HostId) -> Result<HostMailbox, BusError> {
        let mut hosts = self.hosts();
        let queue = hosts
            .entry(host.clone())
            .or_insert_with(|| Arc::new(Queue::new(QUEUE, self.0.tally.clone())));
        Ok(HostMailbox::new(queue.take_over()))
    }

    async fn report_mailbox(&self) -> Result<ReportMailbox, BusError> {
        Ok(ReportMailbox::new(self.0.reports.join()))
    }

    async fn wakeups(&self) -> Result<WakeupMailbox, BusError> {
        Ok(WakeupMailbox::new(self.0.wakeups.subscribe()))
    }

    fn counters(&self) -> Counters {
        self.0.tally.read()
    }
}

#[async_trait]
impl Source<Delivery> for Reader<Letter> {
    async fn take(&mut self, limit: usize, into: &mut Vec<Delivery>) {
        let queue = self.queue().clone();
        let each = |letter, times| {
            into.push(match letter {
                Letter::Command(command) => {
                    Delivery::Command(Delivered::new(command, 0, times, queue.clone()))
                }
                Letter::Query(query, reply) => Delivery::Query(query, reply),
            });
        };
        self.read(limit, each).await;
    }
}

#[async_trait]
impl Source<Delivered<Report>> for Reader<Report> {
    async fn take(&mut self, limit: usize, into: &mut Vec<Delivered<Report>>) {
        let queue = self.queue().clone();
        let each = |report, times| into.push(Delivered::new(report, 0, times, queue.clone()));
        self.read(limit, each).await;
    }
}

#[async_trait]
impl Source<Wakeup> for broadcast::Receiver<Wakeup> {
    async fn take(&mut self, _: usize, into: &mut Vec<Wakeup>) {
        use broadcast::error::RecvError;
        match self.recv().await {
            Ok(wakeup) => into.push(wakeup),
            // Some of them said so.
            Err(RecvError::Lagged(_)) => into.push(Wakeup::Work),
            Err(RecvError::Closed) => {}
        }
    }
}

impl Origin<Command> for Queue<Letter> {
    fn acked(&self, _: u64) {}

    fn back(&self, _: u64, body: Command, times: u32) {
        Queue::back(self, Letter::Command(body), times);
    }
}

impl Origin<Report> for Queue<Report> {
    fn acked(&self, _: u64) {}

    fn back(&self, _: u64, body: Report, times: u32) {
        Queue::back(self, body, times);
    }
}

#[cfg(test)]
mod tests;
