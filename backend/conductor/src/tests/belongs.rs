//! A host that speaks of what is not its: every kind of report, and nothing of others changes.

use cumulet_bus::Bus;
use cumulet_compute::instances::{self, MetadataChange};
use cumulet_domain::{
    id::{HostId, InstanceId, OperationId, SnapshotId, VolumeId, VpcId},
    message::{
        Action, Heartbeat, HostResources, InstanceReport, Outcome, Power, Report, ReportContent,
        SnapshotOutcome, VolumeOutcome,
    },
    snapshot::{SnapshotProgress, TakenSnapshot},
};
use cumulet_operator::hosts;
use cumulet_storage::snapshots::{self, NewSnapshot};
use cumulet_store::entity::{
    columns::Amount, host, host_network, instance, metadata_push, operation, snapshot, volume, vpc,
};
use sea_orm::EntityTrait;

use crate::tests::*;

const STRANGER: &str = "host-b";
const ADDRESS: [u8; 4] = [10, 200, 0, 1];

/// All that reports change of others.
#[derive(Debug, PartialEq)]
struct Rows {
    instances: Vec<instance::Model>,
    operations: Vec<(i64, String, String, Option<String>)>,
    networks: Vec<host_network::Model>,
    pushes: Vec<metadata_push::Model>,
    vpcs: Vec<vpc::Model>,
    volumes: Vec<volume::Model>,
    snapshots: Vec<snapshot::Model>,
    host: host::Model,
}

impl Rig {
    async fn rows(&self) -> Rows {
        let conn = self.cloud.store.read();
        let operations = operation::Entity::find().all(conn).await.unwrap();
        Rows {
            instances: instance::Entity::find().all(conn).await.unwrap(),
            operations: operations
                .into_iter()
                .map(|row| (row.id.to_db(), row.status.to_string(), row.step, row.error))
                .collect(),
            networks: host_network::Entity::find().all(conn).await.unwrap(),
            pushes: metadata_push::Entity::find().all(conn).await.unwrap(),
            vpcs: vpc::Entity::find().all(conn).await.unwrap(),
            volumes: volume::Entity::find().all(conn).await.unwrap(),
            snapshots: snapshot::Entity::find().all(conn).await.unwrap(),
            host: self.host().await.unwrap(),
        }
    }

    /// A host says something, and it has been dealt with.
    async fn hear(&self, host: &str, content: ReportContent) {
        let before = self.row(host).await.map_or(0, |row| row.vcpus.0);
        let told = |content| Report {
            host: HostId(host.into()),
            at: self.cloud.now(),
            content,
        };
        self.bus.report(told(content)).await.unwrap();
        // Reports of one host about different things may be taken together: two heartbeats are not.
        for _ in 0..2 {
            let vcpus = self.row(host).await.map_or(before, |row| row.vcpus.0) + 1;
            let alive = alive(u32::try_from(vcpus).unwrap());
            self.bus
                .report(told(ReportContent::Heartbeat(Box::new(alive))))
                .await
                .unwrap();
            until("the heartbeat is applied", async || {
                self.row(host).await.is_some_and(|row| row.vcpus == Amount(vcpus))
            })
            .await;
        }
    }
}

fn alive(vcpus: u32) -> Heartbeat {
    Heartbeat {
        resources: HostResources {
            vcpus,
            memory_mib: 1024,
            disk_gib: 1,
        },
        hypervisor: "fake".into(),
        availability_zone: "us-east-1a".into(),
        ..Heartbeat::default()
    }
}

/// What a host may say of others: of an instance and of what is done with it, and of a snapshot that is being taken.
fn lies(
    (instance, generation): (InstanceId, u64),
    operation: OperationId,
    vpc: VpcId,
    (snapshot, taking): (SnapshotId, OperationId),
) -> Vec<ReportContent> {
    let of = |power| InstanceReport {
        instance,
        generation,
        power,
        off_reason: None,
    };
    let done = |failure: Option<&str>, power| {
        ReportContent::Done(Outcome {
            operation,
            report: of(power),
            failure: failure.map(str::to_owned),
            permanent: true,
            kept: Vec::new(),
            root: None,
        })
    };
    let snapshots_done = |operation, failure: Option<&str>| {
        let taken = TakenSnapshot {
            id: snapshot,
            manifest: "a".repeat(64),
            fresh_bytes: 1,
            bytes: 1,
        };
        ReportContent::SnapshotDone(SnapshotOutcome {
            operation,
            taken: failure.is_none().then_some(taken).into_iter().collect(),
            failure: failure.map(str::to_owned),
            permanent: true,
        })
    };
    let lies = vec![
        ReportContent::Heartbeat(Box::new(Heartbeat {
            tunnel_address: Some(ADDRESS.into()),
            console_address: Some("10.200.0.1:6081".into()),
            snapshots: vec![SnapshotProgress {
                id: snapshot,
                percent: 50,
            }],
            ..alive(1)
        })),
        ReportContent::Changed(of(Power::Off)),
        ReportContent::Changed(of(Power::Absent)),
        done(None, Power::On),
        done(None, Power::Absent),
        done(Some("no"), Power::Absent),
        ReportContent::VolumeDone(VolumeOutcome {
            operation,
            volume: VolumeId::from_db(instance.to_db()),
            failure: None,
            permanent: false,
        }),
        snapshots_done(taking, None),
        snapshots_done(taking, Some("no")),
        // A command that is not about it.
        snapshots_done(operation, None),
        snapshots_done(operation, Some("no")),
        ReportContent::NetworkApplied { vpc, generation: 1 },
        ReportContent::NetworkApplied {
            vpc,
            generation: i64::MAX.unsigned_abs() - 1,
        },
        ReportContent::MetadataApplied {
            instance,
            revision: 1,
        },
        ReportContent::MetadataApplied {
            instance,
            revision: i64::MAX.unsigned_abs() - 1,
        },
        ReportContent::Full(vec![of(Power::Off)]),
        ReportContent::Full(Vec::new()),
    ];
    says_every_kind(&lies);
    lies
}

#[tokio::test]
async fn no_kind_of_report_changes_what_is_another_hosts() {
    let mut rig = Rig::start().await;
    let parts = rig.cloud.parts();
    // The host has an address that is confirmed.
    let own = Heartbeat {
        tunnel_address: Some(ADDRESS.into()),
        resources: HostResources {
            vcpus: 16,
            memory_mib: 65_536,
            disk_gib: 100,
        },
        ..alive(16)
    };
    rig.say(ReportContent::Heartbeat(Box::new(own))).await;
    until("it is told", async || {
        rig.host().await.unwrap().tunnel_address.is_some()
    })
    .await;
    hosts::confirm(&parts, &this_host(), hosts::Given::default())
        .await
        .unwrap();
    // One instance runs, whose metadata its host has not confirmed and of whose root it takes a snapshot, and another
    // one is being launched.
    let id = rig.running(|_| ()).await;
    let new = NewSnapshot {
        volume: rig.view(id).await.root_disk().unwrap().volume,
        description: String::new(),
        tags: Vec::new(),
    };
    let snapshot = snapshots::create(&rig.cloud, &rig.who, new).await.unwrap().id();
    let take = rig
        .command(|action| matches!(action, Action::TakeSnapshots(_)))
        .await;
    let change = MetadataChange {
        tokens_required: Some(true),
        ..MetadataChange::default()
    };
    instances::modify_metadata_options(&rig.cloud, &rig.who, id, change)
        .await
        .unwrap();
    rig.launch(|_| ()).await;
    let run = rig.command(|action| matches!(action, Action::Run { .. })).await;
    let vpc = rig.view(id).await.row.vpc.0;
    rig.hear(STRANGER, ReportContent::Heartbeat(Box::new(alive(1))))
        .await;
    let before = rig.rows().await;
    assert!(!before.pushes.is_empty() && !before.networks.is_empty());
    assert_eq!(before.snapshots[0].host.as_deref(), Some("host-a"));
    let taking = (snapshot, take.operation.unwrap());
    for instance in [(id, 1), run.action.instance().unwrap()] {
        for lie in lies(instance, run.operation.unwrap(), vpc, taking) {
            let told = format!("{lie:?}");
            rig.hear(STRANGER, lie).await;
            assert_eq!(rig.rows().await, before, "{told}");
        }
    }
    // It has said that its tunnels end where another's do: nobody goes by that, and nobody can confirm it.
    let lie = Heartbeat {
        tunnel_address: Some(ADDRESS.into()),
        ..alive(1)
    };
    rig.bus
        .report(Report {
            host: HostId(STRANGER.into()),
            at: rig.cloud.now(),
            content: ReportContent::Heartbeat(Box::new(lie)),
        })
        .await
        .unwrap();
    until("it is told", async || {
        rig.row(STRANGER).await.unwrap().tunnel_address.is_some()
    })
    .await;
    let error = hosts::confirm(&parts, &HostId(STRANGER.into()), hosts::Given::default()).await;
    assert!(error.unwrap_err().to_string().contains("host-a"));
    let row = rig.row(STRANGER).await.unwrap();
    assert_eq!((row.confirmed_tunnel, row.confirmed_console), (None, None));
    assert!(row.not_ready_reason.is_some(), "it takes no launches");
}

#[tokio::test]
async fn a_host_confirms_nothing_that_it_was_not_sent() {
    let mut rig = Rig::start().await;
    let id = rig.running(|_| ()).await;
    let vpc = rig.view(id).await.row.vpc.0;
    let before = rig.rows().await;
    for generation in [
        before.vpcs[0].policy_generation.next().0,
        i64::MAX.unsigned_abs() - 1,
    ] {
        rig.hear("host-a", ReportContent::NetworkApplied { vpc, generation })
            .await;
        assert_eq!(rig.rows().await.networks, before.networks);
    }
    let change = MetadataChange {
        tokens_required: Some(true),
        ..MetadataChange::default()
    };
    instances::modify_metadata_options(&rig.cloud, &rig.who, id, change)
        .await
        .unwrap();
    let revision = rig.rows().await.instances[0].metadata_revision.0;
    for revision in [0, revision - 1, revision + 1, i64::MAX.unsigned_abs() - 1] {
        rig.hear(
            "host-a",
            ReportContent::MetadataApplied {
                instance: id,
                revision,
            },
        )
        .await;
        assert_eq!(rig.rows().await.pushes.len(), 1, "{revision}");
    }
    rig.hear(
        "host-a",
        ReportContent::MetadataApplied {
            instance: id,
            revision,
        },
    )
    .await;
    assert_eq!(rig.rows().await.pushes, []);
}

/// A report that no database could take is dropped, and holds up nothing that comes after it.
#[tokio::test]
async fn what_a_host_makes_up_costs_it_alone() {
    let mut rig = Rig::start().await;
    let id = rig.running(|_| ()).await;
    let made_up = |n: u64| InstanceReport {
        instance: InstanceId::new((1 << 50) + n),
        generation: 1,
        power: Power::On,
        off_reason: None,
    };
    let before = rig.rows().await;
    rig.hear(STRANGER, ReportContent::Full((0..20_000).map(made_up).collect()))
        .await;
    rig.hear(
        STRANGER,
        ReportContent::Full((0..=100_000).map(made_up).collect()),
    )
    .await;
    let there = InstanceReport {
        generation: u64::MAX,
        ..made_up(0)
    };
    rig.hear(STRANGER, ReportContent::Changed(there)).await;
    let after = rig.rows().await;
    assert_eq!(
        (after.instances, after.operations),
        (before.instances, before.operations)
    );
    // What an instance's own host says of a failure is cut, and the instance ends all the same.
    instances::reboot(&rig.cloud, &rig.who, &[id]).await.unwrap();
    let reboot = rig
        .command(|action| matches!(action, Action::Reboot { .. }))
        .await;
    rig.answer(&reboot, Power::On, Some(&"ä\n".repeat(1 << 20))).await;
    until("it has failed", async || {
        let rows = rig.rows().await.operations;
        rows.iter().all(|(_, status, ..)| status != "active")
    })
    .await;
    let rows = rig.rows().await.operations;
    assert!(
        rows.iter()
            .all(|(.., error)| error.as_ref().is_none_or(|text| text.len() < 10_000))
    );
}
