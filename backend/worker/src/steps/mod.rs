//! The steps of each command. Every step can be done again: a command that was cut off is resumed from its
//! beginning. The worker calls them with what its slots have queued.

mod change;
mod destroy;
mod launch;
mod power;
mod snapshot;
mod still;
mod volume;

use std::sync::Arc;

use cumulet_bus::Delivered;
use cumulet_domain::{
    crash_point,
    host::NotReady,
    id::InstanceId,
    message::{Action, Command, InstanceReport, Power, ReportContent},
    metadata::InstanceMetadata,
    network::VpcPolicy,
    spec::InstanceSpec,
};

use crate::{
    Worker,
    admission::{Verdict, judge},
    failure::Failure,
    record::{CommandHeader, CommandKind, Record},
    retry::{PAUSE, goes_on},
    slots::Queued,
};

/// An attempt to carry a command out, as the steps see it.
pub(crate) struct Attempt<'a> {
    pub(crate) instance: InstanceId,
    pub(crate) generation: u64,
    pub(crate) pending: CommandHeader,
    /// What it is called, as the conductor calls it.
    pub(crate) name: &'static str,
    /// For a launch, and a change of devices: what from, and its VPC.
    pub(crate) launch: Option<(&'a InstanceSpec, &'a Arc<VpcPolicy>)>,
    /// What it came as, unless it is gone on with.
    pub(crate) came: Option<&'a Delivered<Command>>,
}

impl Attempt<'_> {
    /// It is in the worker's own notes, which it is gone on with from: the bus need not bring it again.
    pub(crate) fn noted(&self) {
        if let Some(came) = self.came {
            came.ack();
        }
    }
}

impl Worker {
    /// Does the queued work of an instance.
    pub(crate) async fn work(&self, id: InstanceId, queued: Queued) {
        let done = match queued {
            Queued::Command(command) => {
                if let Some(pending) = CommandHeader::of(&command) {
                    self.obey(id, pending, &command).await;
                }
                command.ack();
                Ok(())
            }
            Queued::Resume(pending, policy) => {
                self.resume(id, pending, policy).await;
                Ok(())
            }
            Queued::Metadata(snapshot, command) => {
                let published = self.publish(id, &snapshot).await;
                // Where it failed, too: it is sent again, perhaps newer, until it is confirmed.
                command.ack();
                published
            }
            Queued::Observe => match self.slots.record(id) {
                Some(record) => self.observe(record).await,
                None => Ok(()),
            },
        };
        if let Err(failure) = done {
            tracing::warn!(instance = %id, failure = failure.reason, detail = failure.detail, "can't keep up with an instance");
        }
    }

    /// Judges a command that came, and carries it out if it is news.
    async fn obey(&self, id: InstanceId, pending: CommandHeader, command: &Delivered<Command>) {
        let action = &command.action;
        let Some((_, generation)) = action.instance() else {
            return;
        };
        if self.deps.clock.now() > pending.deadline {
            self.counters.expired();
            return tracing::info!(instance = %id, generation, "dropped a command after its deadline");
        }
        let record = self.slots.record(id);
        let launch = match action {
            Action::Run { spec, policy } | Action::Change { spec, policy, .. } => {
                Some((self.as_made(spec).await, policy))
            }
            _ => None,
        };
        let attempt = Attempt {
            instance: id,
            generation,
            pending,
            name: name(pending.kind, record.as_ref()),
            launch: launch.as_ref().map(|(spec, policy)| (&**spec, *policy)),
            came: Some(command),
        };
        match judge(
            record.as_ref(),
            self.slots.tombstone(id),
            generation,
            pending.kind,
        ) {
            Verdict::Stale => {
                self.counters.stale();
                tracing::info!(instance = %id, generation, "dropped a command that is out of date");
            }
            // Nobody's operation: the database has ended it, and a guest of it was reported all the same.
            Verdict::Done if pending.kind == CommandKind::Destroy && pending.operation.is_none() => {
                self.carry_out(attempt, record).await;
            }
            Verdict::Done => {
                self.counters.repeated();
                let mut report = record.map_or_else(|| absent(id, generation), |r| r.report());
                report.generation = generation;
                self.tell(&pending, report, None).await;
            }
            Verdict::Do => self.carry_out(attempt, record).await,
        }
    }

    /// Goes on with a command that the worker had begun before it ended.
    async fn resume(&self, id: InstanceId, pending: CommandHeader, policy: Option<Arc<VpcPolicy>>) {
        let Some(record) = self.slots.record(id).filter(|r| r.pending == Some(pending)) else {
            return;
        };
        let spec = self.read_spec(id).await;
        let launch = match (&spec, &policy) {
            (Ok(spec), Some(policy)) => Some((spec, policy)),
            _ => None,
        };
        let attempt = Attempt {
            instance: id,
            generation: record.generation,
            pending,
            name: name(pending.kind, Some(&record)),
            launch: launch.filter(|_| pending.kind.has_spec()),
            came: None,
        };
        if let Some((spec, _)) = attempt.launch
            && !(self.keys.has_all(spec) && self.deps.grants.has_all(spec))
        {
            // They went with the process of before. The command comes again, with those for this one.
            tracing::info!(instance = %id, kind = attempt.name, "a command waits for the keys or the grants of its disks");
            self.give_up(&attempt).await;
            return;
        }
        tracing::info!(instance = %id, kind = attempt.name, "goes on with a command");
        let late = self.deps.clock.now() > pending.deadline;
        if late && pending.kind.wants_power() {
            tracing::info!(instance = %id, "its deadline has passed");
            self.give_up(&attempt).await;
            return;
        }
        self.carry_out(attempt, Some(record)).await;
    }

    /// Carries an attempt out and tells its outcome.
    async fn carry_out(&self, attempt: Attempt<'_>, record: Option<Record>) {
        let (report, failure) = match self.persist(&attempt, record).await {
            Ok(report) => (report, None),
            Err(failure) => {
                let Failure { reason, detail, .. } = &failure;
                tracing::warn!(instance = %attempt.instance, kind = attempt.name, reason, detail, "a command failed");
                (self.give_up(&attempt).await, Some(failure))
            }
        };
        self.tell(&attempt.pending, report, failure).await;
        crash_point!(attempt.name, "reported");
    }

    /// Tells what became of a command, and, of an instance that has gone, whether its root is a volume here now.
    async fn tell(&self, pending: &CommandHeader, report: InstanceReport, failure: Option<Failure>) {
        let (root, failure) = match pending.kept.filter(|_| failure.is_none()) {
            None => (None, failure),
            Some(root) => match self.kept_root(root.volume).await {
                Ok(root) => (root, None),
                Err(failure) => (None, Some(failure)),
            },
        };
        self.reporter.outcome(pending, report, failure, root).await;
    }

    /// Goes through an order's steps, and from their beginning again where something has not answered, as long as
    /// there is time and nothing more urgent waits.
    async fn persist(
        &self,
        attempt: &Attempt<'_>,
        record: Option<Record>,
    ) -> Result<InstanceReport, Failure> {
        let mut record = record;
        loop {
            let failure = match self.go_through(attempt, record).await {
                Ok(report) => return Ok(report),
                Err(failure) => failure,
            };
            let (now, id) = (self.deps.clock.now(), attempt.instance);
            if !goes_on(failure.unanswered, now, attempt.pending.deadline) {
                return Err(self.explain(failure));
            }
            let Failure { reason, detail, .. } = failure;
            tracing::warn!(instance = %id, kind = attempt.name, reason, detail, "no answer; it is looked at again");
            tokio::select! {
                biased;
                () = tokio::time::sleep(PAUSE) => {}
                () = self.slots.urgent(id) => return Err(Failure::temporary("something newer is to be done")),
            }
            record = self.slots.record(id);
        }
    }

    async fn go_through(
        &self,
        attempt: &Attempt<'_>,
        record: Option<Record>,
    ) -> Result<InstanceReport, Failure> {
        match attempt.pending.kind {
            CommandKind::Run => self.launch(attempt, record).await,
            CommandKind::Change(_) => self.change(attempt, record).await,
            CommandKind::Stop { force } => self.stop(attempt, record, force).await,
            CommandKind::Reboot => self.reboot(attempt, record).await,
            CommandKind::Destroy => self.destroy(attempt, record).await,
        }
    }

    /// What did not answer is put down to a hypervisor that is too slow, if it is.
    fn explain(&self, failure: Failure) -> Failure {
        let not_ready = match failure.unanswered {
            true => self.readiness.not_ready(self.deps.hypervisor.service()),
            false => None,
        };
        Failure {
            reason: match not_ready {
                Some(NotReady { reason, .. }) => format!("{reason}; {}", failure.reason),
                None => failure.reason,
            },
            ..failure
        }
    }

    /// After a failure: the command is over, and the conductor decides. How the instance is now.
    async fn give_up(&self, attempt: &Attempt<'_>) -> InstanceReport {
        let status = self.deps.hypervisor.status(attempt.instance).await;
        let mut report = absent(attempt.instance, attempt.generation);
        if let Some(mut record) = self.slots.record(attempt.instance) {
            record.pending = None;
            if let Ok(status) = status {
                record.power = status.power;
                record.off_reason = status.off_reason;
            }
            report = record.report();
            report.generation = attempt.generation;
            if let Err(error) = self.slots.keep(record).await {
                tracing::warn!(instance = %attempt.instance, %error, "the instance's record can't be kept");
            }
        } else if let Ok(status) = status {
            report.power = status.power;
            report.off_reason = status.off_reason;
        }
        report
    }

    /// Remembers that an attempt has been begun.
    async fn begin(&self, record: &mut Record, attempt: &Attempt<'_>) -> Result<(), Failure> {
        record.begin(attempt.generation, attempt.pending);
        self.slots.keep(record.clone()).await?;
        attempt.noted();
        Ok(())
    }

    /// Remembers that an attempt has been carried out; the report of it.
    async fn finish(&self, mut record: Record, attempt: &Attempt<'_>) -> Result<InstanceReport, Failure> {
        record.applied = attempt.generation;
        record.pending = None;
        let report = record.report();
        self.slots.keep(record).await?;
        crash_point!(attempt.name, "done");
        Ok(report)
    }

    /// The instance reads this from now on, also after a restart of the worker.
    async fn publish(&self, id: InstanceId, snapshot: &Arc<InstanceMetadata>) -> Result<(), Failure> {
        let Some(record) = self.slots.record(id) else {
            return Ok(());
        };
        let mut spec = self.read_spec(id).await?;
        if spec.metadata.revision < snapshot.revision {
            spec.metadata = snapshot.clone();
            self.write_spec(&spec).await?;
        }
        if record.wants_power {
            self.deps.metadata.put(&spec.metadata);
        }
        self.reporter
            .send(ReportContent::MetadataApplied {
                instance: id,
                revision: spec.metadata.revision,
            })
            .await;
        Ok(())
    }
}

/// What the conductor calls a command: a run of what has run before is a start.
fn name(kind: CommandKind, record: Option<&Record>) -> &'static str {
    match kind {
        CommandKind::Run if record.is_some_and(|record| record.applied > 0) => "start",
        CommandKind::Run => "launch",
        CommandKind::Change(what) => what.name(),
        CommandKind::Stop { .. } => "stop",
        CommandKind::Reboot => "reboot",
        CommandKind::Destroy => "terminate",
    }
}

/// The report of an instance that is not here.
fn absent(instance: InstanceId, generation: u64) -> InstanceReport {
    InstanceReport {
        instance,
        generation,
        power: Power::Absent,
        off_reason: None,
    }
}
