//! Unsolicited reports of a simulated worker: heartbeats, changes, full reports (as in the worker's
//! `report`).

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use cumulet_domain::{
    id::InstanceId,
    message::{Heartbeat, InstanceReport, OffReason, Power, Report, ReportContent},
    time::Timestamp,
};

use super::{Host, Life, Queued, Stop};
use crate::bus::Said;

/// When a report that the bus did not take is tried again; then it is lost.
const RETRIES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(1)];

impl Host {
    pub(super) async fn send(&self, content: ReportContent) {
        self.send_as_of(self.now(), content).await;
    }

    async fn send_as_of(&self, at: Timestamp, content: ReportContent) {
        if !matches!(content, ReportContent::Heartbeat { .. }) {
            self.world
                .note(format_args!("{} says: {}", self.id, Said(&content)));
        }
        let host = self.id.clone();
        let report = Report { host, at, content };
        for pause in RETRIES {
            if self.bus.report(report.clone()).await.is_ok() {
                return;
            }
            tokio::time::sleep(pause).await;
        }
        drop(self.bus.report(report).await);
    }

    pub(super) async fn heartbeat(&self) {
        self.send(ReportContent::Heartbeat(Box::new(Heartbeat {
            resources: self.resources,
            hypervisor: "fake".into(),
            availability_zone: self.zone.clone(),
            not_ready: self.not_ready(),
            problems: Vec::new(),
            ..Heartbeat::default()
        })))
        .await;
    }

    /// Reports all that the host has. Where a guest is not as it was last told, it is looked at in its turn.
    pub(super) async fn report_all(self: &Arc<Self>, life: &Arc<Life>) {
        let at = self.now();
        let (reports, looked_at) = self.all(life);
        for id in looked_at {
            self.enqueue(life, id, Queued::Observe);
        }
        self.send_as_of(at, ReportContent::Full(reports)).await;
    }

    fn all(&self, life: &Life) -> (Vec<InstanceReport>, BTreeSet<InstanceId>) {
        let machine = self.machine();
        let mut reports: Vec<_> = machine.kept.values().map(|kept| kept.record.report()).collect();
        let differs = |report: &&InstanceReport| {
            (report.power == Power::On) != (machine.power(report.instance) == Power::On)
        };
        let looked_at = reports
            .iter()
            .filter(differs)
            .map(|report| report.instance)
            .collect();
        for (id, guest) in &machine.guests {
            if machine.record(*id).is_none() && !life.queues.is_busy(*id) {
                reports.push(InstanceReport {
                    instance: *id,
                    generation: 0,
                    power: machine.power(*id),
                    off_reason: guest.off_reason,
                });
            }
        }
        reports.sort_by_key(|report| report.instance);
        (reports, looked_at)
    }

    /// Looks at a guest that may have changed by itself, and tells if it has.
    pub(super) async fn observe(&self, id: InstanceId) -> Result<(), Stop> {
        let report = {
            let mut machine = self.machine();
            // As long as its disk is here, a guest that is gone is one that is off.
            let power = match machine.power(id) {
                Power::On => Power::On,
                Power::Off | Power::Absent => Power::Off,
            };
            let seen = machine.guests.get(&id).and_then(|guest| guest.off_reason);
            let Some(record) = machine.kept.get_mut(&id).map(|kept| &mut kept.record) else {
                return Ok(());
            };
            if record.power == power {
                return Ok(());
            }
            let was = record.power;
            record.power = power;
            record.off_reason = match power {
                Power::On => None,
                _ if !record.wants_power => Some(OffReason::Commanded),
                _ => seen.or((was == Power::On).then_some(OffReason::Crashed)),
            };
            record.report()
        };
        self.send(ReportContent::Changed(report)).await;
        Ok(())
    }
}
