//! The simulated network between control plane and hosts: on top of a real bus, messages are lost, repeated,
//! delayed and reordered, and hosts are cut off.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use cumulet_bus::{Bus, BusError, Counters, HostMailbox, ReportMailbox, Wakeup, WakeupMailbox};
use cumulet_domain::{
    id::{HostId, InstanceId},
    message::{Action, Command, Query, Report, ReportContent},
};

use crate::{options::Sabotage, world::World};

/// How late a message can be at the most.
const HOUR: u64 = 3_600_000;

/// A bus over another one.
pub(crate) struct ChaosBus {
    inner: Arc<dyn Bus>,
    world: Arc<World>,
    cut_off: Mutex<BTreeSet<HostId>>,
    newest: Arc<Newest>,
}

/// The newest generation of each instance that has come to a host, where commands are broken on purpose.
#[derive(Default)]
struct Newest(Mutex<BTreeMap<(HostId, InstanceId), u64>>);

impl Newest {
    /// The command as if nothing newer had been there before it.
    fn made_new(&self, host: &HostId, command: Command) -> Command {
        let Some((id, generation)) = command.action.instance() else {
            return command;
        };
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = all.entry((host.clone(), id)).or_default();
        let made = match generation < *newest {
            true => *newest + 1,
            false => generation,
        };
        *newest = made;
        Command {
            action: at(command.action, made),
            ..command
        }
    }
}

/// The action at another generation.
fn at(mut action: Action, made: u64) -> Action {
    match &mut action {
        Action::Run { spec, .. } | Action::Change { spec, .. } => spec.generation = made,
        Action::Stop { generation, .. }
        | Action::Reboot { generation, .. }
        | Action::Destroy { generation, .. } => *generation = made,
        _ => {}
    }
    action
}

/// What becomes of a message: how late each of its copies is.
type Fate = Vec<Duration>;

impl ChaosBus {
    pub(crate) fn new(inner: Arc<dyn Bus>, world: Arc<World>) -> Arc<Self> {
        Arc::new(ChaosBus {
            inner,
            world,
            cut_off: Mutex::default(),
            newest: Arc::default(),
        })
    }

    /// Hands a command over, after a while.
    async fn hand_over(
        inner: Arc<dyn Bus>,
        newest: Option<Arc<Newest>>,
        late: Duration,
        host: HostId,
        command: Command,
    ) -> Result<(), BusError> {
        if !late.is_zero() {
            tokio::time::sleep(late).await;
        }
        let command = match newest {
            Some(newest) => newest.made_new(&host, command),
            None => command,
        };
        inner.send(&host, command).await
    }

    /// Cuts a host off, or lets it be reached again.
    pub(crate) fn cut(&self, host: &HostId, off: bool) {
        let mut cut = self.cut_off.lock().unwrap_or_else(PoisonError::into_inner);
        if off {
            cut.insert(host.clone());
        } else {
            cut.remove(host);
        }
    }

    fn reaches(&self, host: &HostId) -> bool {
        let cut = self.cut_off.lock().unwrap_or_else(PoisonError::into_inner);
        !cut.contains(host)
    }

    fn fate(&self, host: &HostId) -> Fate {
        if !self.world.rages() {
            return vec![Duration::ZERO];
        }
        let (faults, dice) = (self.world.faults(), &self.world.dice);
        if !self.reaches(host) || dice.chance(faults.loss) {
            self.world.count(|counts| counts.lost += 1);
            return Vec::new();
        }
        let copies = if dice.chance(faults.repeat) {
            self.world.count(|counts| counts.repeated += 1);
            dice.number(2..11)
        } else {
            1
        };
        let late = |_| {
            if dice.chance(faults.delay) {
                self.world.count(|counts| counts.delayed += 1);
                let most = *dice.pick(&[60_000, 600_000, HOUR]).unwrap_or(&HOUR);
                dice.millis(1000..most)
            } else if dice.chance(faults.reorder) {
                dice.millis(1..5000)
            } else {
                dice.millis(0..4)
            }
        };
        (0..copies).map(late).collect()
    }
}

#[async_trait]
impl Bus for ChaosBus {
    async fn send(&self, host: &HostId, command: Command) -> Result<(), BusError> {
        self.world.count(|counts| counts.commands += 1);
        self.world.note(format_args!("to {host}: {}", Told(&command)));
        for late in self.fate(host) {
            let lies = self.world.sabotage == Some(Sabotage::IgnoreGenerations);
            let newest = lies.then(|| self.newest.clone());
            let comes = Self::hand_over(self.inner.clone(), newest, late, host.clone(), command.clone());
            if late.is_zero() {
                comes.await?;
            } else {
                tokio::spawn(comes);
            }
        }
        Ok(())
    }

    async fn report(&self, report: Report) -> Result<(), BusError> {
        self.world.count(|counts| counts.reports += 1);
        if !matches!(report.content, ReportContent::Heartbeat(_)) {
            self.world
                .note(format_args!("{} says: {}", report.host, Said(&report.content)));
        }
        if self.world.sabotage == Some(Sabotage::Mute) && matches!(report.content, ReportContent::Done(_)) {
            return Ok(());
        }
        for late in self.fate(&report.host) {
            let (inner, report) = (self.inner.clone(), report.clone());
            if late.is_zero() {
                inner.report(report).await?;
                continue;
            }
            tokio::spawn(async move {
                tokio::time::sleep(late).await;
                drop(inner.report(report).await);
            });
        }
        Ok(())
    }

    async fn query(&self, host: &HostId, query: Query) -> Result<Vec<u8>, BusError> {
        self.inner.query(host, query).await
    }

    async fn wake(&self, wakeup: Wakeup) -> Result<(), BusError> {
        if self.world.rages() && self.world.dice.chance(self.world.faults().loss) {
            return Ok(());
        }
        self.inner.wake(wakeup).await
    }

    async fn host_mailbox(&self, host: &HostId) -> Result<HostMailbox, BusError> {
        self.inner.host_mailbox(host).await
    }

    async fn report_mailbox(&self) -> Result<ReportMailbox, BusError> {
        self.inner.report_mailbox().await
    }

    async fn wakeups(&self) -> Result<WakeupMailbox, BusError> {
        self.inner.wakeups().await
    }

    fn counters(&self) -> Counters {
        self.inner.counters()
    }
}

/// A command in short.
struct Told<'a>(&'a Command);

impl std::fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0.action {
            Action::Run { spec, policy } => {
                write!(
                    f,
                    "run {} at {} with {}",
                    spec.id, spec.generation, policy.generation
                )
            }
            Action::Change { spec, what, .. } => {
                write!(f, "{} of {} at {}", what.name(), spec.id, spec.generation)
            }
            Action::DeleteVolume {
                volume, generation, ..
            } => {
                write!(f, "delete {volume} at {generation}")
            }
            Action::TakeSnapshots(sources) => {
                let first = sources.first().map(|source| source.snapshot);
                write!(f, "take {} snapshots, {first:?} the first", sources.len())
            }
            Action::Stop {
                instance,
                generation,
                force,
            } => write!(f, "stop {instance} at {generation} {force}"),
            Action::Reboot { instance, generation } => write!(f, "reboot {instance} at {generation}"),
            Action::Destroy {
                instance,
                generation,
                kept,
            } => {
                write!(f, "destroy {instance} at {generation}")?;
                kept.map_or(Ok(()), |root| write!(f, " and keep {}", root.volume))
            }
            Action::Network(policy) => write!(f, "network {} at {}", policy.vpc, policy.generation),
            Action::Metadata(snapshot) => {
                write!(f, "metadata {} at {}", snapshot.instance, snapshot.revision)
            }
            _ => f.write_str("report all"),
        }
    }
}

/// A report in short.
struct Said<'a>(&'a ReportContent);

impl std::fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            ReportContent::Heartbeat { .. } => f.write_str("heartbeat"),
            ReportContent::Changed(seen) => {
                write!(f, "{} is {:?} at {}", seen.instance, seen.power, seen.generation)
            }
            ReportContent::Done(outcome) => write!(
                f,
                "{} done: {:?} at {}, failure {:?}",
                outcome.report.instance, outcome.report.power, outcome.report.generation, outcome.failure
            ),
            ReportContent::VolumeDone(outcome) => {
                write!(f, "{} deleted, failure {:?}", outcome.volume, outcome.failure)
            }
            ReportContent::SnapshotDone(outcome) => {
                write!(
                    f,
                    "{} snapshots taken, failure {:?}",
                    outcome.taken.len(),
                    outcome.failure
                )
            }
            ReportContent::NetworkApplied { vpc, generation } => {
                write!(f, "network {vpc} applied at {generation}")
            }
            ReportContent::MetadataApplied { instance, revision } => {
                write!(f, "metadata {instance} applied at {revision}")
            }
            ReportContent::Full(seen) => write!(f, "has {}", seen.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use cumulet_domain::time::Timestamp;

    use super::*;

    #[test]
    fn what_is_broken_on_purpose_makes_old_commands_new_and_leaves_others() {
        let (host, newest) = (HostId("one".into()), Newest::default());
        let came = |instance: u64, generation: u64| {
            let command = Command {
                operation: None,
                deadline: Timestamp(0),
                action: Action::Destroy {
                    instance: InstanceId::new(instance),
                    generation,
                    kept: None,
                },
                keys: Vec::new(),
                storage: None,
            };
            newest
                .made_new(&host, command)
                .action
                .instance()
                .map(|(_, at)| at)
        };
        let made = [(1, 1), (1, 3), (1, 3), (1, 2), (1, 4), (1, 3), (2, 1)].map(|(id, at)| came(id, at));
        assert_eq!(made, [1, 3, 3, 4, 4, 5, 1].map(Some));
    }
}
