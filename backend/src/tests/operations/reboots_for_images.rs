//! The operations on an instance that an image is made of, with hosts that the test plays.

use cumulet_domain::{
    id::{InstanceId, SnapshotId, marker},
    message::{Action, InstanceReport, OffReason, Power, ReportContent},
    snapshot::SnapshotState,
};
use cumulet_journal::{Operation as _, active};
use cumulet_operations::{RunAgain, image as of_image, instance as subject_of};
use cumulet_store::{
    attachments,
    entity::{
        columns::{Flag, Key, Named},
        operation, snapshot,
    },
    failed,
};
use futures::FutureExt as _;
use sea_orm::EntityTrait as _;

use super::Instances;
use crate::api::instances;

impl Instances {
    /// An image is to be made of an instance that runs.
    pub(super) async fn image_of(&self, id: InstanceId) -> SnapshotId {
        let (row, now) = (self.row(id.to_db()).await, self.rig.cloud.now());
        let disks = attachments::of_instance(self.conductor.store.read(), id.to_db()).await;
        let root = snapshot::Model {
            id: Key(self.rig.cloud.rng.id::<marker::Snapshot>()),
            account: row.account,
            volume: disks.unwrap()[0].volume,
            size_gib: row.disk_gib,
            state: Named(SnapshotState::Pending),
            state_message: None,
            description: String::new(),
            encrypted: Flag(false),
            public: Flag(false),
            manifest: None,
            base: None,
            bytes: None,
            host: None,
            created_at: now.0,
            completed_at: None,
            deleted_at: None,
            data_key: None,
            progress: None,
        };
        let (made, next) = (root.id.0, self.rig.cloud.rng.id::<marker::Operation>());
        let write = self.conductor.store.write(move |txn| {
            Box::pin(async move {
                cumulet_store::instances::lock(txn, &[row.id.to_db()]).await?;
                let insert = snapshot::Entity::insert(snapshot::ActiveModel::from(root.clone()));
                insert.exec_without_returning(txn).await.map_err(failed)?;
                of_image::ask(txn, &row, &[root], next, now).await
            })
        });
        write.await.unwrap();
        made
    }

    /// An instance whose guest is off and whose snapshots are taken.
    pub(super) async fn off_for_an_image(&self) -> InstanceId {
        let id = self.running().await;
        let snapshot = self.image_of(id).await;
        self.round().await;
        self.end(id, Ok(())).await;
        self.round().await;
        let open = self.taking(snapshot).await.unwrap();
        self.round().await;
        self.report(&open, None).await;
        assert_eq!(self.kept(snapshot).await.state.0, SnapshotState::Completed);
        id
    }

    /// What hosts were told.
    async fn words(&mut self) -> Vec<&'static str> {
        let mut all = Vec::new();
        for mailbox in &mut self.mailboxes {
            while let Some(Some(delivery)) = mailbox.next().now_or_never() {
                let cumulet_bus::Delivery::Command(command) = delivery else {
                    continue;
                };
                match &command.action {
                    Action::Run { .. } => all.push("run"),
                    Action::Stop { force: false, .. } => all.push("stop"),
                    Action::Stop { .. } => all.push("cut"),
                    Action::TakeSnapshots(_) => all.push("take"),
                    _ => {}
                }
                command.ack();
            }
        }
        all
    }

    async fn state(&self, id: InstanceId) -> String {
        self.row(id.to_db()).await.state.to_string()
    }

    /// Nothing waits a second.
    async fn due(&self) {
        let now = self.rig.cloud.now().0;
        let write = self.conductor.store.write(move |txn| {
            Box::pin(async move {
                use sea_orm::sea_query::Expr;
                let update = operation::Entity::update_many()
                    .col_expr(operation::Column::NextAt, Expr::value(now))
                    .exec(txn);
                update.await.map(drop).map_err(failed)
            })
        });
        write.await.unwrap();
    }
}

#[tokio::test]
async fn an_instance_is_off_while_the_snapshots_of_its_image_are_taken() {
    let mut hosts = Instances::new().await;
    let id = hosts.running().await;
    hosts.words().await;
    let snapshot = hosts.image_of(id).await;
    hosts.round().await;
    assert_eq!(hosts.words().await, ["stop"]);
    // Another reboot is none: this one is.
    let (cloud, who) = (hosts.rig.cloud.clone(), hosts.rig.who.clone());
    instances::reboot(&cloud, &who, &[id]).await.unwrap();
    hosts.end(id, Ok(())).await;
    assert_eq!(
        (hosts.state(id).await.as_str(), hosts.open(id).await.kind.as_str()),
        ("running", "run-again")
    );
    hosts.round().await;
    hosts.round().await;
    assert_eq!(hosts.words().await, ["take"]);
    hosts.due().await;
    hosts.round().await;
    assert_eq!(
        hosts.words().await.iter().filter(|told| **told == "run").count(),
        0
    );
    let open = hosts.taking(snapshot).await.unwrap();
    hosts.report(&open, None).await;
    hosts.due().await;
    hosts.round().await;
    assert_eq!(hosts.words().await, ["run"]);
    instances::reboot(&cloud, &who, &[id]).await.unwrap();
    hosts.end(id, Ok(())).await;
    assert_eq!(hosts.state(id).await, "running");
    assert_eq!(hosts.kept(snapshot).await.state.0, SnapshotState::Completed);
    let open = active(hosts.conductor.store.read(), subject_of::subject(id.to_db())).await;
    assert!(open.unwrap().is_none());
}

#[tokio::test]
async fn a_guest_that_can_not_be_shut_down_goes_on_and_there_is_no_image() {
    let hosts = Instances::new().await;
    let id = hosts.running().await;
    let snapshot = hosts.image_of(id).await;
    hosts.round().await;
    hosts.end(id, Err("the hypervisor is ill")).await;
    let kept = hosts.kept(snapshot).await;
    assert_eq!(
        (hosts.state(id).await.as_str(), kept.state.0),
        ("running", SnapshotState::Error)
    );
    assert!(kept.state_message.unwrap().contains("the hypervisor is ill"));
}

#[tokio::test]
async fn an_instance_that_is_stopped_meanwhile_stays_so_and_there_is_no_image() {
    for is_off in [false, true] {
        let hosts = Instances::new().await;
        let id = hosts.running().await;
        let snapshot = hosts.image_of(id).await;
        hosts.round().await;
        if is_off {
            hosts.end(id, Ok(())).await;
        }
        instances::stop(&hosts.rig.cloud, &hosts.rig.who, &[id], false)
            .await
            .unwrap();
        assert_eq!(hosts.kept(snapshot).await.state.0, SnapshotState::Error);
        hosts.round().await;
        hosts.end(id, Ok(())).await;
        assert_eq!(hosts.state(id).await, "stopped");
    }
}

#[tokio::test]
async fn snapshots_that_fail_keep_no_guest_from_running_again() {
    let mut hosts = Instances::new().await;
    let id = hosts.running().await;
    let snapshot = hosts.image_of(id).await;
    hosts.round().await;
    hosts.end(id, Ok(())).await;
    hosts.round().await;
    let open = hosts.taking(snapshot).await.unwrap();
    hosts.round().await;
    hosts.words().await;
    hosts.report(&open, Some("the disk is full")).await;
    assert_eq!(hosts.kept(snapshot).await.state.0, SnapshotState::Error);
    hosts.due().await;
    hosts.round().await;
    assert_eq!(hosts.words().await, ["run"]);
}

#[tokio::test]
async fn a_guest_that_does_not_come_back_is_stopped_with_the_reason() {
    let mut hosts = Instances::new().await;
    let id = hosts.off_for_an_image().await;
    hosts.due().await;
    hosts.round().await;
    hosts.words().await;
    assert_eq!(hosts.open(id).await.kind, RunAgain::NAME);
    hosts.end(id, Err("there is no memory")).await;
    let row = hosts.row(id.to_db()).await;
    assert_eq!(row.state.to_string(), "stopping");
    assert!(row.reason_message.unwrap().contains("there is no memory"));
    hosts.round().await;
    assert_eq!(hosts.words().await, ["cut"]);
}

/// A report that has been on its way for long.
#[tokio::test]
async fn that_the_guest_was_off_for_its_image_stops_nothing_afterwards() {
    let hosts = Instances::new().await;
    let id = hosts.off_for_an_image().await;
    let off = hosts.row(id.to_db()).await.generation.0 - 1;
    hosts.due().await;
    hosts.round().await;
    hosts.end(id, Ok(())).await;
    let host = hosts.row(id.to_db()).await.host.unwrap();
    let seen = |generation| {
        ReportContent::Changed(InstanceReport {
            instance: id,
            generation,
            power: Power::Off,
            off_reason: Some(OffReason::Commanded),
        })
    };
    hosts.say(&host, seen(off)).await;
    assert_eq!(hosts.state(id).await, "running");
    // What it does of itself since then is told as ever.
    hosts.say(&host, seen(off + 1)).await;
    assert_eq!(hosts.state(id).await, "stopping");
}
