//! The per-instance slots of a worker: the record of each instance, and the queue of its commands. What is
//! queued for one instance is done in the order in which it came; for different instances at the same time.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use cumulet_bus::Delivered;
use cumulet_domain::{
    id::{InstanceId, NetworkInterfaceId, VpcId},
    message::{Command, InstanceReport},
    metadata::InstanceMetadata,
    network::VpcPolicy,
    time::Timestamp,
};
use tokio::sync::{OwnedSemaphorePermit, watch};

use crate::{
    WorkerError,
    layout::{Layout, failed},
    record::{CommandHeader, CommandKind, Record},
    tombstones::{Tombstone, Tombstones},
};

/// Work that is queued for one instance.
pub(crate) enum Queued {
    /// A command came. It comes again if it is dropped before it is acknowledged.
    Command(Delivered<Command>),
    /// A command was begun before the worker ended.
    Resume(CommandHeader, Option<Arc<VpcPolicy>>),
    /// Its metadata changed.
    Metadata(Arc<InstanceMetadata>, Delivered<Command>),
    /// Its guest may have changed by itself.
    Observe,
}

impl Queued {
    /// Whether both are the same command, sent twice.
    fn is_same(&self, other: &Queued) -> bool {
        match (self, other) {
            (Queued::Command(one), Queued::Command(other)) => {
                one.operation.is_some()
                    && one.operation == other.operation
                    && one.action.instance() == other.action.instance()
                    && CommandKind::of(&one.action) == CommandKind::of(&other.action)
            }
            // One of them says all that there is to say.
            (Queued::Metadata(..), Queued::Metadata(..)) | (Queued::Observe, Queued::Observe) => true,
            _ => false,
        }
    }

    /// Whether it says less than another that is the same.
    fn is_older(&self, than: &Queued) -> bool {
        match (self, than) {
            (Queued::Metadata(one, _), Queued::Metadata(other, _)) => one.revision < other.revision,
            _ => false,
        }
    }

    /// The bus need not bring it again.
    fn ack(&self) {
        if let Queued::Command(command) | Queued::Metadata(_, command) = self {
            command.ack();
        }
    }

    fn is_urgent(&self) -> bool {
        let kind = match self {
            Queued::Command(command) => CommandKind::of(&command.action),
            Queued::Resume(..) | Queued::Metadata(..) | Queued::Observe => None,
        };
        kind.is_some_and(CommandKind::is_urgent)
    }
}

/// What became of work that was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// No task works on the instance: the caller shall.
    First,
    /// Others are done before it.
    Behind,
    /// It is in the place of the same, which had not been begun.
    Again,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<(Queued, Option<OwnedSemaphorePermit>)>,
    /// How much of it is urgent: a command that waits for a guest to comply looks at it.
    urgent: watch::Sender<usize>,
}

#[derive(Default)]
struct State {
    /// In the order of their numbers, so that whatever goes through all does the same each time.
    records: BTreeMap<InstanceId, Record>,
    /// The interfaces of the guests that shall run.
    needed: HashSet<NetworkInterfaceId>,
    /// An entry while work for the instance waits or is done. In order too: what was not done goes back to the bus.
    queues: BTreeMap<InstanceId, Queue>,
}

impl State {
    /// Replaces or drops a record.
    fn put(&mut self, id: InstanceId, record: Option<Record>) {
        if let Some(old) = self.records.remove(&id) {
            for interface in &old.interfaces {
                self.needed.remove(interface);
            }
        }
        if let Some(record) = record {
            if record.wants_power {
                self.needed.extend(&record.interfaces);
            }
            self.records.insert(id, record);
        }
    }
}

/// The instances of a host.
pub(crate) struct Slots {
    layout: Layout,
    state: Mutex<State>,
    tombstones: Mutex<Tombstones>,
}

impl Slots {
    /// Reads what was kept.
    pub(crate) fn open(layout: Layout, now: Timestamp) -> Result<Slots, WorkerError> {
        let path = layout.tombstones();
        let tombstones = Tombstones::open(layout.files.clone(), &path, now).map_err(|e| failed(&path, e))?;
        let dir = layout.instances();
        let mut records = BTreeMap::new();
        for name in layout.files.names(&dir).map_err(|e| failed(&dir, e))? {
            let Ok(id) = name.parse::<InstanceId>() else {
                continue;
            };
            let text = layout.files.read(&layout.record(id));
            match text.map(|text| serde_json::from_slice::<Record>(&text)) {
                Ok(Ok(record)) if record.instance == id => {
                    records.insert(id, record);
                }
                _ => tracing::warn!(instance = %id, "the instance's record can't be read"),
            }
        }
        Ok(Slots {
            layout,
            state: Mutex::new(State {
                needed: records
                    .values()
                    .filter(|r| r.wants_power)
                    .flat_map(|r| r.interfaces.iter().copied())
                    .collect(),
                records,
                queues: BTreeMap::new(),
            }),
            tombstones: Mutex::new(tombstones),
        })
    }

    /// Finishes what the last worker may have died in the middle of: the removal of an instance whose
    /// tombstone stands and whose record is gone already, so that nothing else would ask for it.
    pub(crate) async fn sweep(&self) -> io::Result<()> {
        let layout = self.layout.clone();
        self.tombstones().compact()?;
        for name in layout.files.names(&layout.instances())? {
            let Ok(id) = name.parse::<InstanceId>() else {
                continue;
            };
            let destroyed = self.tombstone(id).is_some_and(|stone| stone.destroyed);
            if self.record(id).is_none() && destroyed {
                let dir = layout.instance(id);
                layout.blocking(move |files| files.remove_dir(&dir)).await?;
            }
        }
        Ok(())
    }

    fn tombstones(&self) -> MutexGuard<'_, Tombstones> {
        self.tombstones.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds work.
    pub(crate) fn push(
        &self,
        id: InstanceId,
        queued: Queued,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Pushed {
        let mut state = self.state();
        let idle = !state.queues.contains_key(&id);
        let queue = state.queues.entry(id).or_default();
        // A command that is sent again while the first still waits takes its place, and so does newer metadata: an
        // instance that waits for a guest that hangs, or for hours, must not collect all that is sent meanwhile.
        if let Some(same) = queue
            .waiting
            .iter_mut()
            .find(|(waiting, _)| waiting.is_same(&queued))
        {
            if queued.is_older(&same.0) {
                queued.ack();
                return Pushed::Again;
            }
            same.0.ack();
            *same = (queued, permit);
            return Pushed::Again;
        }
        if queued.is_urgent() {
            queue.urgent.send_modify(|n| *n += 1);
        }
        queue.waiting.push_back((queued, permit));
        if idle { Pushed::First } else { Pushed::Behind }
    }

    /// The next work of an instance; `None` ends the work on it.
    pub(crate) fn pop(&self, id: InstanceId) -> Option<(Queued, Option<OwnedSemaphorePermit>)> {
        let mut state = self.state();
        let queue = state.queues.get_mut(&id)?;
        let Some((queued, permit)) = queue.waiting.pop_front() else {
            state.queues.remove(&id);
            return None;
        };
        if queued.is_urgent() {
            queue.urgent.send_modify(|n| *n = n.saturating_sub(1));
        }
        Some((queued, permit))
    }

    /// Returns when urgent work waits for the instance; never if no task works on it.
    pub(crate) async fn urgent(&self, id: InstanceId) {
        let receiver = self.state().queues.get(&id).map(|q| q.urgent.subscribe());
        if let Some(mut receiver) = receiver
            && receiver.wait_for(|n| *n > 0).await.is_ok()
        {
            return;
        }
        std::future::pending().await
    }

    pub(crate) fn is_busy(&self, id: InstanceId) -> bool {
        self.state().queues.contains_key(&id)
    }

    pub(crate) fn record(&self, id: InstanceId) -> Option<Record> {
        self.state().records.get(&id).cloned()
    }

    pub(crate) fn records(&self) -> Vec<Record> {
        self.state().records.values().cloned().collect()
    }

    pub(crate) fn reports(&self) -> BTreeMap<InstanceId, InstanceReport> {
        let state = self.state();
        state.records.iter().map(|(id, r)| (*id, r.report())).collect()
    }

    /// Whether a guest that shall run has the interface.
    pub(crate) fn needs(&self, interface: NetworkInterfaceId) -> bool {
        self.state().needed.contains(&interface)
    }

    /// Whether an instance in the VPC runs here, or something is being done to one.
    pub(crate) fn uses(&self, vpc: VpcId) -> bool {
        let busy = |record: &Record| record.wants_power || record.pending.is_some();
        let state = self.state();
        state
            .records
            .values()
            .any(|record| record.vpc == vpc && busy(record))
    }

    /// Keeps a record, first in its file.
    pub(crate) async fn keep(&self, record: Record) -> io::Result<()> {
        let (layout, id) = (self.layout.clone(), record.instance);
        let path = self.layout.record(record.instance);
        let text = serde_json::to_vec(&record)?;
        let written = self
            .layout
            .blocking(move |files| match files.write_small(&path, &text) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    layout.make_instance(id)?;
                    files.write_small(&path, &text)
                }
                other => other,
            });
        written.await?;
        self.state().put(record.instance, Some(record));
        Ok(())
    }

    /// Keeps a record, first in its file, and before that the text of the specification that the instance
    /// is run from. Without a record nobody reads the specification, so that a first one need not be
    /// whole at every moment.
    pub(crate) async fn keep_with(&self, record: Record, spec: Vec<u8>) -> io::Result<()> {
        let id = record.instance;
        let is_new = self.record(id).is_none();
        let (layout, spec_path, path) = (self.layout.clone(), self.layout.spec(id), self.layout.record(id));
        let text = serde_json::to_vec(&record)?;
        let written = self.layout.blocking(move |files| {
            layout.make_instance(id)?;
            if is_new {
                files.write_fresh(&spec_path, &spec)?;
                files.write_fresh(&path, &text)
            } else {
                files.write(&spec_path, &spec)?;
                files.write_small(&path, &text)
            }
        });
        written.await?;
        self.state().put(id, Some(record));
        Ok(())
    }

    pub(crate) fn tombstone(&self, id: InstanceId) -> Option<Tombstone> {
        self.tombstones().get(id)
    }

    /// From now on an instance without a record is not run by an older command.
    pub(crate) fn bar(&self, id: InstanceId, generation: u64, now: Timestamp) -> io::Result<()> {
        let stone = Tombstone {
            generation,
            destroyed: false,
        };
        self.tombstones().put(id, stone, now)
    }

    /// Forgets an instance: its directory is removed and its tombstone put up before that.
    pub(crate) async fn forget(&self, id: InstanceId, generation: u64, now: Timestamp) -> io::Result<()> {
        let stone = Tombstone {
            generation,
            destroyed: true,
        };
        self.tombstones().put(id, stone, now)?;
        cumulet_domain::crash_point!("terminate", "tombstone");
        let dir = self.layout.instance(id);
        let removed = self.layout.blocking(move |files| files.remove_dir(&dir));
        removed.await?;
        self.state().put(id, None);
        Ok(())
    }
}
