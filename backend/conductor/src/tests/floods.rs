//! A host that floods the conductor with reports that are valid: it costs that host alone.

use std::sync::Arc;

use cumulet_bus::{Bus, LocalBus};
use cumulet_domain::{
    id::{HostId, InstanceId, OperationId, SnapshotId, VolumeId, VpcId},
    instance::State,
    message::{
        Heartbeat, HostResources, InstanceReport, Outcome, Power, Report, ReportContent, SnapshotOutcome,
        VolumeOutcome,
    },
    snapshot::{SnapshotProgress, TakenSnapshot},
    time::Timestamp,
};

use crate::tests::*;

const HOSTILE: &str = "host-b";

/// What it says, again and again: every kind of report.
fn all(instance: InstanceId, operation: OperationId, vpc: VpcId) -> Vec<ReportContent> {
    let seen = InstanceReport {
        instance,
        generation: 1,
        power: Power::Off,
        off_reason: None,
    };
    let outcome = Outcome {
        operation,
        report: seen.clone(),
        failure: None,
        permanent: false,
        kept: Vec::new(),
        root: None,
    };
    let snapshot = SnapshotId::new(1);
    let all = vec![
        ReportContent::Heartbeat(Box::new(Heartbeat {
            snapshots: vec![
                SnapshotProgress {
                    id: snapshot,
                    percent: 1
                };
                10
            ],
            ..alive()
        })),
        ReportContent::Full(vec![seen.clone(); 1000]),
        ReportContent::Changed(seen),
        ReportContent::Done(outcome),
        ReportContent::VolumeDone(VolumeOutcome {
            operation,
            volume: VolumeId::from_db(instance.to_db()),
            failure: None,
            permanent: false,
        }),
        ReportContent::SnapshotDone(SnapshotOutcome {
            operation,
            taken: vec![TakenSnapshot {
                id: snapshot,
                manifest: "a".repeat(64),
                fresh_bytes: 1,
                bytes: 1,
            }],
            failure: None,
            permanent: false,
        }),
        ReportContent::NetworkApplied { vpc, generation: 1 },
        ReportContent::MetadataApplied {
            instance,
            revision: 1,
        },
    ];
    says_every_kind(&all);
    all
}

fn alive() -> Heartbeat {
    Heartbeat {
        resources: HostResources {
            vcpus: 1,
            memory_mib: 1024,
            disk_gib: 1,
        },
        hypervisor: "fake".into(),
        availability_zone: "us-east-1b".into(),
        ..Heartbeat::default()
    }
}

/// Sends until it is stopped.
async fn flood(bus: Arc<LocalBus>, at: Timestamp, all: Vec<ReportContent>) {
    loop {
        for content in &all {
            let report = Report {
                host: HostId(HOSTILE.into()),
                at,
                content: content.clone(),
            };
            drop(bus.report(report).await);
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_valid_reports_costs_its_host_alone() {
    let mut rig = Rig::start().await;
    let id = rig.launch(|_| ()).await;
    let run = rig.command(is_run).await;
    let vpc = rig.view(id).await.row.vpc.0;
    let lies = all(id, run.operation.unwrap(), vpc);
    let hostile = tokio::spawn(flood(rig.bus.clone(), rig.cloud.now(), lies));
    until("the flood is over its budget", async || {
        rig.conductor.dropped_reports() > 10_000
    })
    .await;
    // Another host's launches go on while it lasts, from door to guest.
    rig.answer(&run, Power::On, None).await;
    rig.until_state(id, State::Running).await;
    let before = rig.conductor.dropped_reports();
    let second = rig.running(|_| ()).await;
    assert_eq!(rig.view(second).await.row.host.as_deref(), Some("host-a"));
    until("it went on all the time", async || {
        rig.conductor.dropped_reports() > before
    })
    .await;
    hostile.abort();
    // What was dropped of it comes again, and counts when its budget has filled up a little.
    let told = Heartbeat {
        availability_zone: "us-east-1c".into(),
        ..alive()
    };
    until("it is heard again", async || {
        let report = Report {
            host: HostId(HOSTILE.into()),
            at: rig.cloud.now(),
            content: ReportContent::Heartbeat(Box::new(told.clone())),
        };
        drop(rig.bus.report(report).await);
        let row = rig.row(HOSTILE).await;
        row.is_some_and(|row| row.availability_zone == "us-east-1c")
    })
    .await;
}
