//! Quiesced copies: a guest's own agent freezes its file systems just before copies of its disks begin, and thaws them
//! right after. No guest stays frozen: that it may be is marked in the guest's process, as libvirt knows it, before the
//! freeze and until the thaw, so that also what a process of ours that was killed has left is found and thawed
//! (`thaw`). The copies begin in any case; `copies` calls this.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use cumulet_domain::id::InstanceId;
use tokio::sync::Notify;

use crate::{ACTION, Quiesced};

/// How long an agent may take for a sign of life, or to thaw. It is as long as libvirt itself waits for the answer that
/// it asks every agent for before a command.
pub(super) const ANSWER: Duration = Duration::from_secs(5);

/// How long an agent that answers may take to freeze: it writes out what the guest has not written yet, and runs the
/// guest's own hooks, such as a database's. The guest's writes wait all the while; Windows lets nobody hold them up for
/// longer than this either.
pub(super) const FREEZE: Duration = Duration::from_secs(10);

// A sign of life, the freeze and the thaw, each after libvirt's own question, and the copies' beginning between them.
const _: () = assert!(2 * ANSWER.as_secs() + FREEZE.as_secs() + 3 * ANSWER.as_secs() < ACTION.as_secs());

/// A guest's agent and the guest's mark, as seen from the host. Errors are what is logged.
pub(super) trait Agent {
    /// Whether there is an agent that can be asked; an agent that is there and does not answer is an error.
    fn answers(&self) -> Result<bool, String>;
    /// Whether the guest is marked: it may be frozen.
    fn is_marked(&self) -> Result<bool, String>;
    /// Marks the guest, or takes the mark away.
    fn mark(&self, may_be_frozen: bool) -> Result<(), String>;
    /// Freezes all file systems.
    fn freeze(&self) -> Freeze;
    /// Thaws all file systems; none that is frozen is fine.
    fn thaw(&self) -> Result<(), String>;
}

/// What came of a freeze.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Freeze {
    /// So many file systems are frozen.
    Done(u32),
    /// The agent has answered that it did not: nothing is frozen.
    Refused(String),
    /// Nobody knows: what is asked for now may come to pass later.
    Unanswered(String),
}

/// How a guest's file systems were when its copies began.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Moment {
    /// There is no agent that could have been asked.
    NoAgent,
    /// Frozen: so many of them, for so long at the most.
    Frozen(u32, Duration),
    /// Not known to be frozen, though there is an agent.
    Written(String),
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Outcome {
    moment: Moment,
    /// Why the guest could not be thawed, where that is so.
    left: Option<String>,
}

impl Outcome {
    const fn thawed(moment: Moment) -> Self {
        Outcome { moment, left: None }
    }
}

/// Thaws a guest that is marked; whether it had to be.
pub(super) fn thaw_marked(agent: &impl Agent) -> Result<bool, String> {
    if !agent.is_marked()? {
        return Ok(false);
    }
    if !agent.answers()? {
        return Err("its agent is not there".into());
    }
    thaw(agent).map(|()| true)
}

fn thaw(agent: &impl Agent) -> Result<(), String> {
    agent.thaw()?;
    agent.mark(false)
}

/// Whether the guest can be frozen now, and is marked for it.
fn ready(agent: &impl Agent) -> Result<bool, Outcome> {
    let written = |why: String| Outcome::thawed(Moment::Written(why));
    // What an earlier process has left. Frozen twice is refused.
    thaw_marked(agent).map_err(|why| Outcome {
        moment: Moment::Written("it could not be thawed from before".into()),
        left: Some(why),
    })?;
    if !agent.answers().map_err(written)? {
        return Ok(false);
    }
    agent.mark(true).map_err(written)?;
    Ok(true)
}

/// Does `begin` while the guest is frozen, if it can be.
fn while_frozen<T>(agent: &impl Agent, begin: impl FnOnce() -> T) -> (T, Outcome) {
    match ready(agent) {
        Ok(true) => {}
        Ok(false) => return (begin(), Outcome::thawed(Moment::NoAgent)),
        Err(outcome) => return (begin(), outcome),
    }
    let since = Instant::now();
    let freeze = agent.freeze();
    let done = begin();
    let thawed = match &freeze {
        Freeze::Refused(_) => agent.mark(false),
        Freeze::Done(_) | Freeze::Unanswered(_) => thaw(agent),
    };
    let moment = match freeze {
        Freeze::Done(0) => Moment::Written("it has none that can be frozen".into()),
        Freeze::Done(count) => Moment::Frozen(count, since.elapsed()),
        Freeze::Refused(why) | Freeze::Unanswered(why) => Moment::Written(why),
    };
    let left = thawed.err();
    (done, Outcome { moment, left })
}

/// The freezes of a driver's guests, and those that may not be thawed yet.
#[derive(Debug, Default)]
pub(super) struct Freezes {
    /// One freezes or thaws a guest at a time: no thaw comes between a freeze and the moment that it is for.
    turns: Mutex<HashMap<InstanceId, Arc<Mutex<()>>>>,
    left: Mutex<BTreeSet<InstanceId>>,
    /// Told when there is one more of those.
    pub(super) more: Notify,
    frozen: AtomicU64,
    failed: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Freezes {
    /// What one does alone for a guest. Blocks.
    pub(super) fn alone<T>(&self, instance: InstanceId, work: impl FnOnce() -> T) -> T {
        let turn = {
            let mut turns = lock(&self.turns);
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            turns.entry(instance).or_default().clone()
        };
        let _alone = lock(&turn);
        work()
    }

    /// Does `begin` while the guest is frozen, if it can be, and has it thawed. Blocks.
    pub(super) fn around<T>(&self, instance: InstanceId, agent: &impl Agent, begin: impl FnOnce() -> T) -> T {
        let (done, outcome) = self.alone(instance, || while_frozen(agent, begin));
        match outcome.moment {
            Moment::NoAgent => {}
            Moment::Frozen(count, time) => {
                self.frozen.fetch_add(1, Ordering::Relaxed);
                let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
                tracing::info!(%instance, file_systems = count, ms, "frozen while copies of the guest's disks began");
            }
            Moment::Written(why) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(%instance, why, "copies of the guest's disks began without its file systems being frozen");
            }
        }
        if let Some(why) = outcome.left {
            tracing::error!(%instance, why, "the guest's file systems may be frozen still: it is tried again");
            self.add(instance);
        }
        done
    }

    /// One more guest that may be frozen.
    pub(super) fn add(&self, instance: InstanceId) {
        lock(&self.left).insert(instance);
        self.more.notify_one();
    }

    /// A guest that is not frozen any more.
    pub(super) fn remove(&self, instance: InstanceId) {
        lock(&self.left).remove(&instance);
    }

    /// Guests that may be frozen.
    pub(super) fn left(&self) -> Vec<InstanceId> {
        lock(&self.left).iter().copied().collect()
    }

    /// What came of it so far.
    pub(super) fn counts(&self) -> Quiesced {
        Quiesced {
            frozen: self.frozen.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            left: lock(&self.left).len(),
        }
    }
}

#[cfg(test)]
mod tests;
