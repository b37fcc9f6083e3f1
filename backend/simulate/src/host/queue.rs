//! The queue of each instance: commands and other work, one after the other (as in the worker's `slots`).

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use cumulet_bus::Delivered;
use cumulet_domain::{id::InstanceId, message::Command};
use cumulet_worker::decisions::{CommandHeader, CommandKind};

/// Something to do for one instance.
pub(crate) enum Queued {
    /// A command came. It comes again if it is dropped before it is acknowledged.
    Command(Delivered<Command>),
    /// A command was begun before the worker ended.
    Resume(CommandHeader),
    /// Its metadata changed, to this revision.
    Metadata(u64, Delivered<Command>),
    /// Its guest may have changed by itself.
    Observe,
}

impl Queued {
    fn kind(&self) -> Option<CommandKind> {
        match self {
            Queued::Command(command) => CommandKind::of(&command.action),
            _ => None,
        }
    }

    /// Whether both are the same command, sent twice.
    fn is_same(&self, other: &Queued) -> bool {
        match (self, other) {
            (Queued::Command(one), Queued::Command(other)) => {
                one.operation.is_some()
                    && one.operation == other.operation
                    && one.action.instance() == other.action.instance()
                    && CommandKind::of(&one.action) == CommandKind::of(&other.action)
            }
            (Queued::Observe, Queued::Observe) => true,
            _ => false,
        }
    }
}

/// All of a host.
#[derive(Default)]
pub(crate) struct Queues(Mutex<BTreeMap<InstanceId, VecDeque<Queued>>>);

impl Queues {
    fn all(&self) -> MutexGuard<'_, BTreeMap<InstanceId, VecDeque<Queued>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds work; true if no task works on the instance, and the caller shall.
    pub(crate) fn push(&self, id: InstanceId, queued: Queued) -> bool {
        let mut all = self.all();
        let idle = !all.contains_key(&id);
        let queue = all.entry(id).or_default();
        match queue.iter_mut().find(|waiting| waiting.is_same(&queued)) {
            Some(same) => {
                if let Queued::Command(first) = same {
                    first.ack();
                }
                *same = queued;
            }
            None => queue.push_back(queued),
        }
        idle
    }

    /// The next work of an instance; `None` ends the work on it.
    pub(crate) fn pop(&self, id: InstanceId) -> Option<Queued> {
        let mut all = self.all();
        let next = all.get_mut(&id)?.pop_front();
        if next.is_none() {
            all.remove(&id);
        }
        next
    }

    pub(crate) fn is_busy(&self, id: InstanceId) -> bool {
        self.all().contains_key(&id)
    }

    /// Whether something waits that ends the patience with a guest.
    pub(crate) fn is_urgent(&self, id: InstanceId) -> bool {
        let urgent = |queued: &Queued| queued.kind().is_some_and(CommandKind::is_urgent);
        self.all().get(&id).is_some_and(|queue| queue.iter().any(urgent))
    }
}
