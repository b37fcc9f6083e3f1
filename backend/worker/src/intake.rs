//! The intake of a worker: what the bus brings goes to whom it is for. So many deliveries wait or are worked on at a time,
//! and for more than that the bus is not asked. So nothing counts among them that may wait for hours (snapshots have their
//! own bounds, `snapshots.rs`), nor what is sent again while the first of its kind waits. The main loop calls it.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use cumulet_bus::{Delivered, Delivery, Reply};
use cumulet_domain::{
    id::OperationId,
    message::{Action, Command, Query, ReportContent, SnapshotSource},
    network::VpcPolicy,
};
use tokio::sync::OwnedSemaphorePermit;

use crate::{Worker, slots::Queued, snapshots::Begun};

/// Deliveries that are worked on or wait for their turn; beyond, they stay with the bus.
pub(crate) const WAITING: usize = 4096;

/// Reads that are answered at once.
pub(crate) const READS: usize = 16;

/// How long a read may take: less than the asker waits.
const READ_DEADLINE: Duration = Duration::from_secs(4);

/// What is read of a console at the most.
const CONSOLE: usize = 64 * 1024;

/// Operations whose commands are in hand. Each is sent again for as long as nobody has answered.
#[derive(Debug, Default)]
pub(crate) struct InHand(Mutex<BTreeSet<OperationId>>);

/// One of them, until it is dropped.
pub(crate) struct Hand {
    of: Arc<InHand>,
    operation: Option<OperationId>,
}

impl InHand {
    fn all(&self) -> MutexGuard<'_, BTreeSet<OperationId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an operation in hand; `None` where it is. What is no operation's is nobody's to send again.
    fn take(self: &Arc<Self>, operation: Option<OperationId>) -> Option<Hand> {
        if let Some(operation) = operation
            && !self.all().insert(operation)
        {
            return None;
        }
        Some(Hand {
            of: self.clone(),
            operation,
        })
    }

    /// Whether none is.
    #[cfg(test)]
    pub(crate) fn is_idle(&self) -> bool {
        self.all().is_empty()
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        if let Some(operation) = self.operation {
            self.of.all().remove(&operation);
        }
    }
}

impl Worker {
    /// Gives a delivery to whom it is for; waits while too many wait.
    pub(crate) async fn deliver(self: &Arc<Self>, delivery: Delivery) {
        let Ok(permit) = self.waiting.clone().acquire_owned().await else {
            return;
        };
        match delivery {
            Delivery::Query(query, reply) => {
                let this = self.clone();
                self.deps.tasks.spawn(async move {
                    this.answer(query, reply).await;
                    drop(permit);
                });
            }
            Delivery::Command(command) => self.take(command, permit),
        }
    }

    fn take(self: &Arc<Self>, command: Delivered<Command>, permit: OwnedSemaphorePermit) {
        if let Action::TakeSnapshots(sources) = &command.action {
            let sources = sources.clone();
            return self.take_in_hand(sources, &command);
        }
        self.keys.take(&command.keys);
        self.deps.grants.take(&command);
        if let Some((id, _)) = command.action.instance() {
            return self.enqueue(id, Queued::Command(command), Some(permit));
        }
        match &command.action {
            Action::Metadata(snapshot) => {
                let snapshot = snapshot.clone();
                self.enqueue(
                    snapshot.instance,
                    Queued::Metadata(snapshot, command),
                    Some(permit),
                )
            }
            Action::Network(policy) => {
                let (this, policy) = (self.clone(), policy.clone());
                self.deps.tasks.spawn(async move {
                    this.enforce(policy).await;
                    // Where it failed, too: it is sent again, perhaps newer, until it is confirmed.
                    command.ack();
                    drop(permit);
                });
            }
            Action::DeleteVolume {
                volume,
                generation,
                store,
            } => {
                let (this, volume, generation, store) = (self.clone(), *volume, *generation, *store);
                let Some(hand) = self.deletions.take(command.operation) else {
                    self.counters.repeated();
                    return command.ack();
                };
                self.deps.tasks.spawn(async move {
                    this.delete_volume((volume, store), generation, &command).await;
                    command.ack();
                    drop((hand, permit));
                });
            }
            Action::ReportAll => {
                let this = self.clone();
                self.deps.tasks.spawn(async move {
                    this.report_all().await;
                    command.ack();
                    drop(permit);
                });
            }
            Action::Run { .. }
            | Action::Change { .. }
            | Action::Stop { .. }
            | Action::Reboot { .. }
            | Action::Destroy { .. }
            | Action::TakeSnapshots(_) => {}
        }
    }

    /// Snapshots are taken in hand, where they may wait for hours: they are none of the deliveries that wait. What is in
    /// hand already is known, and what there is no room for comes again.
    fn take_in_hand(self: &Arc<Self>, sources: Vec<SnapshotSource>, command: &Delivered<Command>) {
        // It may take longer than any bus waits. If this process ends before it, the command is given again.
        command.ack();
        let Some(operation) = command.operation else {
            return;
        };
        let begun = self.takes.begin(operation, &sources);
        if let Begun::TooMany = begun {
            return tracing::warn!(%operation, "more snapshots wait than there is room for: this is to come again");
        }
        // Also those of a repeated one: they may be good for longer.
        self.keys.take(&command.keys);
        self.deps.grants.take(command);
        let Begun::Now(take) = begun else {
            return self.counters.repeated();
        };
        let (this, deadline) = (self.clone(), command.deadline);
        self.deps
            .tasks
            .spawn(async move { this.take_snapshots(take, &sources, deadline).await });
    }

    async fn enforce(&self, policy: Arc<VpcPolicy>) {
        match self.vpcs.apply(&policy, |id| self.slots.needs(id)).await {
            Ok(generation) => {
                let vpc = policy.vpc;
                self.reporter
                    .send(ReportContent::NetworkApplied { vpc, generation })
                    .await;
            }
            // Nobody is told: it will be commanded again.
            Err(error) => tracing::error!(vpc = %policy.vpc, %error, "a policy can't be enforced"),
        }
    }

    async fn answer(&self, query: Query, reply: Reply) {
        let asked = async {
            let _read = self.reads.acquire().await;
            match query {
                // An instance that is about to have a guest has nothing to say yet.
                Query::ConsoleOutput(id) => match self.deps.hypervisor.console_tail(id, CONSOLE).await {
                    Err(cumulet_hypervisor::Error::NotFound(_)) => Ok(Vec::new()),
                    other => other,
                },
                Query::Screenshot(id) => self.deps.hypervisor.screenshot(id).await,
            }
        };
        let result = match tokio::time::timeout(READ_DEADLINE, asked).await {
            Ok(result) => result.map_err(|e| e.to_string()),
            Err(_) => Err("the hypervisor did not answer in time".to_owned()),
        };
        reply.answer(result);
    }
}
