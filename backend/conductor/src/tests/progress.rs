//! How far hosts have come with snapshots: each tells of those that it was told to take, and of no others.

use cumulet_domain::{
    id::{HostId, SnapshotId},
    message::{Heartbeat, HostResources, Report, ReportContent, SnapshotOutcome},
    snapshot::{SnapshotProgress, TakenSnapshot},
};
use cumulet_storage::snapshots::{self, NewSnapshot};
use cumulet_store::entity::snapshot;
use sea_orm::EntityTrait;

use crate::tests::*;

impl Rig {
    /// A host's heartbeat, applied, with how far it has come.
    async fn tells(&self, host: &str, id: SnapshotId, percent: u8) {
        let vcpus = 16 + u32::from(percent);
        let heartbeat = Heartbeat {
            resources: HostResources {
                vcpus,
                memory_mib: 65_536,
                disk_gib: 100,
            },
            hypervisor: "fake".into(),
            availability_zone: "us-east-1a".into(),
            snapshots: vec![SnapshotProgress { id, percent }],
            ..Heartbeat::default()
        };
        let report = Report {
            host: HostId(host.into()),
            at: self.cloud.now(),
            content: ReportContent::Heartbeat(Box::new(heartbeat)),
        };
        crate::reports::apply(&self.conductor, report).await.unwrap();
    }

    async fn snapshot(&self, id: SnapshotId) -> snapshot::Model {
        let found = snapshot::Entity::find_by_id(id);
        found.one(self.cloud.store.read()).await.unwrap().unwrap()
    }

    async fn progress(&self, id: SnapshotId) -> Option<u8> {
        self.snapshot(id).await.progress.map(|told| told.0)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_tells_how_far_it_has_come_with_what_it_takes() {
    let mut rig = Rig::start().await;
    let instance = rig.running(|_| ()).await;
    let new = NewSnapshot {
        volume: rig.view(instance).await.root_disk().unwrap().volume,
        description: String::new(),
        tags: Vec::new(),
    };
    let id = snapshots::create(&rig.cloud, &rig.who, new).await.unwrap().id();
    let command = rig
        .command(|action| matches!(action, Action::TakeSnapshots(_)))
        .await;
    assert_eq!(rig.progress(id).await, None);
    for (host, percent, then) in [
        ("host-a", 10, 10),
        ("host-b", 20, 10),
        ("host-a", 30, 30),
        // One that begins anew takes nothing back, and nothing is whole before it is.
        ("host-a", 5, 30),
        ("host-a", 200, 99),
    ] {
        rig.tells(host, id, percent).await;
        assert_eq!(rig.progress(id).await, Some(then), "{host}: {percent}");
    }
    rig.say(ReportContent::SnapshotDone(SnapshotOutcome {
        operation: command.operation.unwrap(),
        taken: vec![TakenSnapshot {
            id,
            manifest: "a".repeat(64),
            fresh_bytes: 1,
            bytes: 1,
        }],
        failure: None,
        permanent: false,
    }))
    .await;
    until("the snapshot is whole", async || {
        rig.snapshot(id).await.completed_at.is_some()
    })
    .await;
    let whole = rig.snapshot(id).await;
    assert_eq!(whole.state.0.progress(Some(7)), "100%");
    rig.tells("host-a", id, 50).await;
    assert_eq!(rig.snapshot(id).await, whole);
}
