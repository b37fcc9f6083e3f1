//! Command handling of a simulated worker: judged by the worker's own code, carried out step by step, and
//! reported (as in the worker's `steps`).

use std::{
    ops::Range,
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use cumulet_bus::Delivered;
use cumulet_domain::{
    id::{InstanceId, VolumeId},
    message::{Action, Command, InstanceReport, Outcome, Power, ReportContent},
    network::VpcPolicy,
    spec::InstanceSpec,
};
use cumulet_worker::decisions::{
    CommandHeader, CommandKind, DomainNic, DomainSpec, PAUSE, Record, Verdict, domain_disks, goes_on, judge,
};

use super::{Host, Life, Queued, Stop, volumes};
use crate::run::Sabotage;

/// How long a step takes, in milliseconds.
pub(super) const STEP: Range<u64> = 1..20;

/// A command about an instance, as the steps see it.
pub(super) struct Attempt {
    pub(super) id: InstanceId,
    pub(super) generation: u64,
    pub(super) pending: CommandHeader,
    pub(super) name: &'static str,
    /// For a launch: what from, and its VPC.
    pub(super) launch: Option<Launch>,
}

/// What a launch needs to know.
pub(super) struct Launch {
    pub(super) record: Record,
    pub(super) revision: u64,
    pub(super) policy: Arc<VpcPolicy>,
    /// What the guest is to have.
    pub(super) domain: DomainSpec,
    pub(super) volumes: Vec<(VolumeId, bool)>,
}

impl Launch {
    fn of(spec: &InstanceSpec, policy: &Arc<VpcPolicy>) -> Self {
        Launch {
            record: Record::new(spec),
            revision: spec.metadata.revision,
            policy: policy.clone(),
            domain: domain(spec),
            volumes: volumes::of(spec),
        }
    }
}

/// A guest as its host's hypervisor would be told it; its files are nowhere.
fn domain(spec: &InstanceSpec) -> DomainSpec {
    let disk = |volume: &dyn std::fmt::Display| PathBuf::from(format!("/volumes/{volume}"));
    let nics = spec.nics.iter().map(|nic| DomainNic {
        mac: nic.interface.mac,
        tap: nic.interface.id.to_string(),
    });
    DomainSpec {
        instance: spec.id,
        generation: spec.generation,
        instance_type: spec.instance_type.clone(),
        vcpus: spec.vcpus,
        memory_mib: spec.memory_mib,
        disks: domain_disks(spec, |of| disk(&of.volume), |image| disk(&image.id)),
        nics: nics.collect(),
        console_log: PathBuf::new(),
        uid: None,
    }
}

impl Host {
    pub(super) async fn work(&self, life: &Life, id: InstanceId, queued: Queued) -> Result<(), Stop> {
        self.alive(life, 0..3).await?;
        match queued {
            Queued::Command(command) => {
                let done = self.obey(life, id, &command).await;
                if done.is_ok() {
                    command.ack();
                }
                done
            }
            Queued::Resume(pending) => self.resume(life, id, pending).await,
            Queued::Metadata(revision, command) => {
                let done = self.publish(id, revision).await;
                command.ack();
                done
            }
            Queued::Observe => self.observe(id).await,
        }
    }

    /// Lets time pass. An error if the worker died meanwhile.
    pub(super) async fn alive(&self, life: &Life, millis: Range<u64>) -> Result<(), Stop> {
        self.world.pause(millis).await;
        self.thaw().await;
        if life.dead.load(Ordering::Relaxed) {
            return Err(Stop::Dead);
        }
        Ok(())
    }

    /// A step has been made. Here the worker may be killed.
    pub(super) async fn at(&self, life: &Life, operation: &str, step: &str) -> Result<(), Stop> {
        self.alive(life, STEP).await?;
        let by_chance = self.world.rages() && self.world.dice.chance(self.world.faults().worker_kill_at);
        if self.world.strikes(operation, step) || by_chance {
            self.world
                .note(format_args!("{}: at {operation}.{step}", self.id));
            self.kill();
            return Err(Stop::Dead);
        }
        Ok(())
    }

    async fn obey(&self, life: &Life, id: InstanceId, command: &Delivered<Command>) -> Result<(), Stop> {
        let (Some(kind), Some((_, generation))) =
            (CommandKind::of(&command.action), command.action.instance())
        else {
            return Ok(());
        };
        let now = self.now();
        if now > command.deadline {
            self.world.count(|counts| counts.dropped_commands += 1);
            return Ok(());
        }
        let (record, tombstone) = {
            let mut machine = self.machine();
            (machine.record(id).cloned(), machine.tombstone(id, now))
        };
        let pending = CommandHeader {
            operation: command.operation,
            deadline: command.deadline,
            kind,
        };
        let attempt = Attempt {
            id,
            generation,
            pending,
            name: name(kind, record.as_ref()),
            launch: match &command.action {
                Action::Run { spec, policy } | Action::Change { spec, policy, .. } => {
                    Some(Launch::of(spec, policy))
                }
                _ => None,
            },
        };
        let verdict = match self.world.sabotage {
            Some(Sabotage::IgnoreGenerations) => Verdict::Do,
            _ => judge(record.as_ref(), tombstone, generation, kind),
        };
        match verdict {
            Verdict::Stale => self.world.count(|counts| counts.dropped_commands += 1),
            Verdict::Done if kind == CommandKind::Destroy && pending.operation.is_none() => {
                self.carry_out(life, attempt, record).await?;
            }
            Verdict::Done => {
                let mut report = record.map_or_else(|| absent(id, generation), |r| r.report());
                report.generation = generation;
                self.outcome(&pending, report, None).await;
            }
            Verdict::Do => self.carry_out(life, attempt, record).await?,
        }
        Ok(())
    }

    /// Goes on with a command that the worker had begun before it ended.
    async fn resume(&self, life: &Life, id: InstanceId, pending: CommandHeader) -> Result<(), Stop> {
        let kept = self.machine().kept.get(&id).cloned();
        let Some(kept) = kept.filter(|kept| kept.record.pending == Some(pending)) else {
            return Ok(());
        };
        let record = kept.record;
        let policy = self
            .machine()
            .nets
            .get(&record.vpc)
            .and_then(|net| net.policy.clone());
        let launch = policy.filter(|_| pending.kind.has_spec()).map(|policy| Launch {
            record: record.clone(),
            revision: kept.revision,
            policy,
            domain: kept.domain,
            volumes: kept.volumes,
        });
        let attempt = Attempt {
            id,
            generation: record.generation,
            pending,
            name: name(pending.kind, Some(&record)),
            launch,
        };
        if self.now() > pending.deadline && pending.kind.wants_power() {
            self.give_up(&attempt);
            return Ok(());
        }
        self.carry_out(life, attempt, Some(record)).await
    }

    /// Carries an attempt out and tells its outcome.
    async fn carry_out(&self, life: &Life, attempt: Attempt, record: Option<Record>) -> Result<(), Stop> {
        let (report, failure) = match self.persist(life, &attempt, record).await {
            Ok(report) => (report, None),
            Err(Stop::Dead) => return Err(Stop::Dead),
            Err(Stop::Failed(reason, permanent)) => (self.give_up(&attempt), Some((reason, permanent))),
            Err(Stop::Unanswered(reason)) => (self.give_up(&attempt), Some((reason, false))),
        };
        self.outcome(&attempt.pending, report, failure).await;
        self.at(life, attempt.name, "reported").await
    }

    /// Goes through an order's steps, and from their beginning again where something has not answered.
    async fn persist(
        &self,
        life: &Life,
        attempt: &Attempt,
        record: Option<Record>,
    ) -> Result<InstanceReport, Stop> {
        let mut record = record;
        loop {
            let reason = match self.go_through(life, attempt, record).await {
                Err(Stop::Unanswered(reason)) => reason,
                done => return done,
            };
            if self.world.sabotage == Some(Sabotage::GiveUpWhatIsLate) {
                return Err(Stop::Failed(reason, true));
            }
            if !goes_on(true, self.now(), attempt.pending.deadline) {
                return Err(Stop::Unanswered(reason));
            }
            if life.queues.is_urgent(attempt.id) {
                return Err(Stop::Failed("something newer is to be done", false));
            }
            tokio::time::sleep(PAUSE).await;
            self.alive(life, 0..1).await?;
            record = self.machine().record(attempt.id).cloned();
        }
    }

    async fn go_through(
        &self,
        life: &Life,
        attempt: &Attempt,
        record: Option<Record>,
    ) -> Result<InstanceReport, Stop> {
        match attempt.pending.kind {
            CommandKind::Run | CommandKind::Change(_) => self.launch(life, attempt).await,
            CommandKind::Stop { force } => self.stop(life, attempt, record, force).await,
            CommandKind::Reboot => self.reboot(life, attempt, record).await,
            CommandKind::Destroy => self.destroy(life, attempt, record).await,
        }
    }

    /// After a failure: the command is over, and the conductor decides. How the instance is now.
    fn give_up(&self, attempt: &Attempt) -> InstanceReport {
        let mut machine = self.machine();
        let power = machine.power(attempt.id);
        let off_reason = machine.guests.get(&attempt.id).and_then(|guest| guest.off_reason);
        let mut report = absent(attempt.id, attempt.generation);
        if let Some(kept) = machine.kept.get_mut(&attempt.id) {
            kept.record.pending = None;
            kept.record.power = power;
            kept.record.off_reason = off_reason;
            report = kept.record.report();
            report.generation = attempt.generation;
        } else {
            (report.power, report.off_reason) = (power, off_reason);
        }
        report
    }

    async fn outcome(&self, pending: &CommandHeader, report: InstanceReport, failure: Option<(&str, bool)>) {
        if self.world.sabotage == Some(Sabotage::Mute) {
            return;
        }
        let Some(operation) = pending.operation else {
            return self.send(ReportContent::Changed(report)).await;
        };
        self.send(ReportContent::Done(Outcome {
            operation,
            report,
            failure: failure.map(|(reason, _)| reason.to_owned()),
            permanent: failure.is_some_and(|(_, permanent)| permanent),
            kept: Vec::new(),
        }))
        .await;
    }

    /// The instance reads this from now on.
    async fn publish(&self, id: InstanceId, revision: u64) -> Result<(), Stop> {
        let newest = {
            let mut machine = self.machine();
            let Some(kept) = machine.kept.get_mut(&id) else {
                return Ok(());
            };
            kept.revision = kept.revision.max(revision);
            let (newest, serves) = (kept.revision, kept.record.wants_power);
            if serves {
                machine.served.insert(id, newest);
            }
            newest
        };
        self.send(ReportContent::MetadataApplied {
            instance: id,
            revision: newest,
        })
        .await;
        Ok(())
    }

    /// Brings a VPC's network to a policy, and tells so.
    pub(super) async fn apply(&self, life: &Life, policy: &Arc<VpcPolicy>) {
        if self.step(life).await.is_err() {
            return; // it is told again
        }
        let generation = {
            let mut machine = self.machine();
            let newest = machine.remember(policy, &[]);
            machine.enforce(&newest)
        };
        let vpc = policy.vpc;
        self.send(ReportContent::NetworkApplied { vpc, generation }).await;
    }

    /// How long a guest that is asked has, so that something is left of the command's time.
    pub(super) fn grace(&self, attempt: &Attempt) -> Duration {
        Duration::from_secs(30).min(attempt.pending.deadline.since(self.now()) / 2)
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
pub(super) fn absent(instance: InstanceId, generation: u64) -> InstanceReport {
    InstanceReport {
        instance,
        generation,
        power: Power::Absent,
        off_reason: None,
    }
}
