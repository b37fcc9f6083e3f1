//! Reports of the worker: outcomes, changes, heartbeats, and, now and then, all that the host has.

use std::{sync::Arc, time::Duration};

use cumulet_bus::Bus;
use cumulet_domain::{
    host::NotReady,
    id::{HostId, VolumeId},
    message::{Heartbeat, HostResources, InstanceReport, OffReason, Outcome, Power, Report, ReportContent},
    time::{Clock, Timestamp},
};
use cumulet_hypervisor::DomainStatus;

use crate::{
    Worker,
    failure::Failure,
    record::{CommandHeader, Record},
    slots::Queued,
};

/// When a report that the bus did not take is tried again; then it is lost, which the next full one heals.
const RETRIES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(1)];

/// Sends reports.
pub(crate) struct Reporter {
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) host: HostId,
}

impl Reporter {
    pub(crate) async fn send(&self, content: ReportContent) {
        self.send_as_of(self.clock.now(), content).await;
    }

    /// Sends what was so at a time before now.
    async fn send_as_of(&self, at: Timestamp, content: ReportContent) {
        let host = self.host.clone();
        let report = Report { host, at, content };
        for pause in RETRIES {
            match self.bus.report(report.clone()).await {
                Ok(()) => return,
                Err(error) => tracing::debug!(%error, "the bus did not take a report"),
            }
            tokio::time::sleep(pause).await;
        }
        if let Err(error) = self.bus.report(report).await {
            tracing::warn!(%error, "a report is lost");
        }
    }

    /// What became of a command; `root` is what the host keeps of an instance that has gone.
    pub(crate) async fn outcome(
        &self,
        pending: &CommandHeader,
        report: InstanceReport,
        failure: Option<Failure>,
        root: Option<VolumeId>,
    ) {
        let Some(operation) = pending.operation else {
            return self.send(ReportContent::Changed(report)).await;
        };
        let permanent = failure.as_ref().is_some_and(|f| f.permanent);
        let (failure, kept) = failure.map(|f| (f.reason, f.kept)).unzip();
        self.send(ReportContent::Done(Outcome {
            operation,
            report,
            failure,
            permanent,
            kept: kept.unwrap_or_default(),
            root,
        }))
        .await;
    }
}

impl Worker {
    /// Says that the host is there, with what it is, what it has to give and how busy it is; and why it is not
    /// ready, if it is not.
    pub(crate) async fn heartbeat(&self, disk_gib: u64) {
        let hypervisor = &self.deps.hypervisor;
        let (has, profile) = self.readiness.known();
        let unknown = || NotReady {
            reason: format!("{} has not told what the host has", hypervisor.service()),
            cure: None,
        };
        let not_ready = self.readiness.not_ready(hypervisor.service());
        let heartbeat = Heartbeat {
            resources: has.map_or_else(HostResources::default, |has| HostResources {
                vcpus: has.vcpus,
                memory_mib: has.memory_mib,
                disk_gib,
            }),
            hypervisor: hypervisor.name().to_owned(),
            availability_zone: self.config.availability_zone.clone(),
            tunnel_address: self.deps.network.tunnel_address(),
            console_address: self.config.console_address.clone(),
            profile,
            metrics: self.deps.metrics.read().await,
            not_ready: not_ready.or_else(|| has.is_none().then(unknown)),
            disk_key: Some(self.keys.public()),
            problems: self.problems(),
            rbd: self.reaching.known(),
            snapshots: self.takes.progress(),
        };
        self.reporter
            .send(ReportContent::Heartbeat(Box::new(heartbeat)))
            .await;
    }

    /// Reports all that the host has. Where a guest is not as it was last told, it is looked at in its turn.
    pub(crate) async fn report_all(self: &Arc<Self>) {
        // What is launched from here on may be missing, and that must not pass for its end.
        let at = self.deps.clock.now();
        let mut reports = self.slots.reports();
        let listed = match self.deps.hypervisor.list().await {
            Ok(listed) => listed,
            // "I have nothing" would be a lie.
            Err(error) => return tracing::warn!(%error, "no full report: the guests can't be listed"),
        };
        let mut looked_at: std::collections::BTreeSet<_> = reports
            .values()
            .filter(|r| r.power == Power::On)
            .map(|r| r.instance)
            .collect();
        for status in listed {
            let id = status.instance;
            match reports.get(&id) {
                Some(report) if report.power == status.power => drop(looked_at.remove(&id)),
                Some(_) => drop(looked_at.insert(id)),
                // It may have come or gone while the guests were listed.
                None if self.slots.is_busy(id) || self.slots.record(id).is_some() => {}
                None => drop(reports.insert(id, unknown(&status))),
            }
        }
        for id in looked_at {
            self.enqueue(id, Queued::Observe, None);
        }
        let mut reports: Vec<_> = reports.into_values().collect();
        reports.sort_by_key(|r| r.instance);
        self.reporter.send_as_of(at, ReportContent::Full(reports)).await;
    }

    /// Looks at a guest that may have changed by itself, and tells if it has.
    pub(crate) async fn observe(&self, mut record: Record) -> Result<(), Failure> {
        let status = self.deps.hypervisor.status(record.instance).await?;
        // As long as its disk is here, a guest that is gone is one that is off.
        let power = match status.power {
            Power::On => Power::On,
            Power::Off | Power::Absent => Power::Off,
        };
        if power == record.power {
            return Ok(());
        }
        let was = record.power;
        record.power = power;
        record.off_reason = match power {
            Power::On => None,
            _ if !record.wants_power => Some(OffReason::Commanded),
            _ => status
                .off_reason
                .or((was == Power::On).then_some(OffReason::Crashed)),
        };
        let report = record.report();
        tracing::info!(instance = %record.instance, ?power, reason = ?record.off_reason, "a guest changed by itself");
        self.slots.keep(record).await?;
        self.reporter.send(ReportContent::Changed(report)).await;
        Ok(())
    }
}

/// A guest that nothing is remembered of: it is reported and never touched.
fn unknown(status: &DomainStatus) -> InstanceReport {
    InstanceReport {
        instance: status.instance,
        generation: 0,
        power: status.power,
        off_reason: status.off_reason,
    }
}
