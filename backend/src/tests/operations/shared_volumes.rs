//! Volumes in a store that hosts share, with hosts that the test plays: they come to an instance of any of them, take
//! nothing of a host's disk, and are kept by another where the one that had them last is not to be had.

use std::{sync::Arc, time::Duration};

use cumulet_core::CloudConfig;
use cumulet_domain::{
    Error,
    id::{InstanceId, VolumeId},
    message::{Action, Command},
    spec::DiskSource,
    volume::{AttachmentState, VolumeState, VolumeStore},
};
use cumulet_store::{
    consistency::Hanging,
    entity::{
        columns::{Flag, Named},
        host, instance, interface,
    },
    failed,
};
use futures::FutureExt as _;
use sea_orm::{
    ColumnTrait as _, EntityTrait as _, QueryFilter as _,
    sea_query::{Expr, SimpleExpr},
};

use super::{
    Instances,
    snapshots::{manifest, taken},
    volumes::{DONE, data},
};
use crate::api::{instances, volumes as api};

const HOSTS: [&str; 2] = ["host-1", "host-2"];
const POOL: &str = "8a3c1f0e-1111-4222-8333-0123456789ab/cumulet";

impl Instances {
    /// A cloud whose volumes are in the pool, which both hosts reach.
    async fn sharing() -> Self {
        let mut on = Instances::new().await;
        on.rig.cloud.compute.cx.config = Arc::new(CloudConfig {
            volume_store: VolumeStore::Rbd,
            ..CloudConfig::clone(&on.rig.cloud.config)
        });
        for host in HOSTS {
            on.set(host, host::Column::Rbd, Expr::value(POOL)).await;
        }
        on
    }

    async fn set(&self, host: &'static str, column: host::Column, value: SimpleExpr) {
        let write = self.conductor.store.write(move |txn| {
            Box::pin(async move {
                let update = host::Entity::update_many()
                    .col_expr(column, value)
                    .filter(host::Column::Id.eq(host));
                update.exec(txn).await.map(drop).map_err(failed)
            })
        });
        write.await.unwrap();
    }

    /// So much time goes by, in which nothing but this host is heard of.
    async fn only_heard_of(&self, host: &'static str) {
        self.rig.pass(Duration::from_secs(40));
        let now = Expr::value(self.rig.cloud.now().0);
        self.set(host, host::Column::LastSeen, now).await;
    }

    /// An instance that runs on this host.
    async fn running_on(&self, wanted: &'static str) -> InstanceId {
        let enable = async |only: Option<&str>| {
            for host in HOSTS {
                let is_enabled = only.is_none_or(|only| only == host);
                self.set(host, host::Column::Enabled, Expr::value(Flag(is_enabled)))
                    .await;
            }
        };
        enable(Some(wanted)).await;
        let id = self.running().await;
        enable(None).await;
        assert_eq!(self.row(id.to_db()).await.host.as_deref(), Some(wanted));
        id
    }

    async fn attached_at(&mut self, volume: VolumeId, instance: InstanceId) {
        let open = self.attach(volume, instance, "/dev/sdf").await;
        self.round().await;
        self.answer_of(&open, instance, DONE).await;
        self.told().await;
    }

    async fn detached_from(&mut self, volume: VolumeId, instance: InstanceId) {
        let open = self.detach(volume).await;
        self.round().await;
        self.answer_of(&open, instance, DONE).await;
        self.told().await;
        assert_eq!(self.states(volume).await, (VolumeState::Available, None));
    }

    /// A volume that was made on host-1, and that nothing has.
    async fn kept_by_the_first(&mut self) -> VolumeId {
        let (volume, instance) = (self.made().await, self.running_on("host-1").await);
        self.attached_at(volume, instance).await;
        self.detached_from(volume, instance).await;
        assert_eq!(self.keeper(volume).await.as_deref(), Some("host-1"));
        volume
    }

    async fn keeper(&self, volume: VolumeId) -> Option<String> {
        self.disk(volume).await.host
    }

    /// What is claimed of the hosts' disks.
    async fn claims(&self) -> [i64; 2] {
        [self.disk_used("host-1").await, self.disk_used("host-2").await]
    }

    /// The last command to delete a volume: which, and where it is.
    async fn told_to_delete(&mut self) -> Option<(Command, (VolumeId, VolumeStore))> {
        let mut last = None;
        for mailbox in &mut self.mailboxes {
            while let Some(Some(delivery)) = mailbox.next().now_or_never() {
                if let cumulet_bus::Delivery::Command(command) = delivery {
                    if let Action::DeleteVolume { volume, store, .. } = command.action {
                        last = Some((Command::clone(&command), (volume, store)));
                    }
                    command.ack();
                }
            }
        }
        last
    }

    /// What the audit finds in the rows.
    async fn disagreements(&self) -> Vec<String> {
        let conn = self.conductor.store.read();
        let instances = instance::Entity::find().all(conn).await.unwrap();
        let interfaces = interface::Entity::find().all(conn).await.unwrap();
        let hanging = Hanging::load(conn).await.unwrap();
        hanging.findings(&instances, &interfaces)
    }
}

#[tokio::test]
async fn a_volume_comes_to_an_instance_of_another_host() {
    let mut on = Instances::sharing().await;
    let (here, there) = (on.running_on("host-1").await, on.running_on("host-2").await);
    let (volume, claims) = (on.made().await, on.claims().await);
    assert_eq!(on.disk(volume).await.store, Some(Named(VolumeStore::Rbd)));
    for (instance, host, is_new) in [
        (here, "host-1", true),
        (there, "host-2", false),
        (here, "host-1", false),
    ] {
        let open = on.attach(volume, instance, "/dev/sdf").await;
        on.round().await;
        let (command, spec, _) = on.told().await.unwrap();
        assert_eq!((command.version(), spec.id), (6, instance));
        assert_eq!(data(&spec), [(volume, is_new)]);
        let source = &spec.disks[1].source;
        assert!(
            matches!(
                source,
                DiskSource::Volume {
                    store: VolumeStore::Rbd,
                    ..
                }
            ),
            "{source:?}"
        );
        assert_eq!(on.keeper(volume).await.as_deref(), Some(host));
        on.answer_of(&open, instance, DONE).await;
        let attached = (VolumeState::InUse, Some(AttachmentState::Attached));
        assert_eq!(on.states(volume).await, attached);
        assert_eq!(on.disagreements().await, [""; 0]);
        on.detached_from(volume, instance).await;
    }
    assert_eq!(on.claims().await, claims);
}

/// Until its turn comes the other host keeps it, and what this one is told meanwhile of its instance has nothing of it.
#[tokio::test]
async fn a_start_says_nothing_of_a_volume_that_another_host_keeps() {
    let mut on = Instances::sharing().await;
    let volume = on.kept_by_the_first().await;
    let there = on.running_on("host-2").await;
    let (cloud, who) = (on.rig.cloud.clone(), on.rig.who.clone());
    instances::stop(&cloud, &who, &[there], true).await.unwrap();
    on.end(there, Ok(())).await;
    on.attach(volume, there, "/dev/sdf").await;
    instances::start(&cloud, &who, &[there]).await.unwrap();
    on.round().await;
    assert!(data(&on.started().await.unwrap()).is_empty());
    assert_eq!(on.keeper(volume).await.as_deref(), Some("host-1"));
    on.end(there, Ok(())).await;
    on.later().await;
    assert_eq!(data(&on.told().await.unwrap().1), [(volume, false)]);
    assert_eq!(on.keeper(volume).await.as_deref(), Some("host-2"));
}

#[tokio::test]
async fn one_that_is_attached_elsewhere_is_told_by_the_audit() {
    let mut on = Instances::sharing().await;
    let (volume, instance) = (on.made().await, on.running_on("host-1").await);
    on.attached_at(volume, instance).await;
    assert_eq!(on.disagreements().await, [""; 0]);
    let write = on.conductor.store.write(move |txn| {
        Box::pin(async move {
            use cumulet_store::entity::volume::{Column, Entity};
            let update = Entity::update_many()
                .col_expr(Column::Host, Expr::value("host-2"))
                .filter(Column::Id.eq(volume.to_db()));
            update.exec(txn).await.map(drop).map_err(failed)
        })
    });
    write.await.unwrap();
    let told = on.disagreements().await;
    assert!(told.len() == 1 && told[0].contains("is kept by"), "{told:?}");
}

#[tokio::test]
async fn a_host_that_does_not_reach_the_store_gets_none_of_it() {
    let mut on = Instances::sharing().await;
    let kept = on.kept_by_the_first().await;
    let (new, there) = (on.made().await, on.running_on("host-2").await);
    let nothing = || Expr::value(Option::<String>::None);
    on.set("host-2", host::Column::Rbd, nothing()).await;
    for volume in [kept, new] {
        let refused = api::attach(&on.rig.cloud, &on.rig.who, volume, there, "/dev/sdf").await;
        let expected = Error::OutOfReach {
            volume: volume.to_string(),
            instance: there.to_string(),
        };
        assert_eq!(refused.unwrap_err(), expected);
        assert_eq!(on.states(volume).await, (VolumeState::Available, None));
    }
    on.set("host-1", host::Column::Rbd, nothing()).await;
    on.rig.pass(Duration::from_secs(2));
    let spec = on.with_volumes();
    let refused = instances::launch(&on.rig.cloud, &on.rig.who, spec).await;
    let Err(Error::InsufficientCapacity { reason }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(reason, "no host reaches the store of its volumes");
}

#[tokio::test]
async fn a_launch_goes_where_its_volumes_are_reached_and_takes_only_its_root_of_the_disk() {
    for reaches in HOSTS {
        let mut on = Instances::sharing().await;
        let other = HOSTS.into_iter().find(|host| *host != reaches).unwrap();
        let nothing = Expr::value(Option::<String>::None);
        on.set(other, host::Column::Rbd, nothing).await;
        let (id, volumes) = on.launched_with_volumes().await;
        on.round().await;
        let row = on.row(id.to_db()).await;
        assert_eq!(row.host.as_deref(), Some(reaches));
        assert_eq!(on.disk_used(reaches).await, i64::from(row.disk_gib.0));
        let spec = on.started().await.unwrap();
        assert_eq!(spec.version(), 6);
        assert_eq!(data(&spec), volumes.map(|volume| (volume, true)));
        on.end(id, Ok(())).await;
        for volume in volumes {
            let disk = on.disk(volume).await;
            let seen = (disk.host.as_deref(), disk.made_at.is_some());
            assert_eq!(seen, (Some(reaches), true));
        }
        assert_eq!(on.disagreements().await, [""; 0]);
    }
}

/// What the first host may have made of them is whole, and found by the next: nothing is deleted.
#[tokio::test]
async fn a_launch_that_is_tried_elsewhere_takes_them_along_as_they_are() {
    let mut on = Instances::sharing().await;
    let (id, volumes) = on.launched_with_volumes().await;
    on.round().await;
    let first = on.row(id.to_db()).await.host.unwrap();
    let told = on.started().await.unwrap();
    on.end(id, Err("the disk is broken")).await;
    on.round().await;
    on.end(id, Ok(())).await;
    assert_eq!(on.told_to_remove().await, (1, vec![]));
    assert_eq!(on.open(id).await.step, "place");
    assert_eq!(on.disk_used(&first).await, 0);
    on.round().await;
    let other = on.row(id.to_db()).await.host.unwrap();
    assert_ne!(other, first);
    let again = on.started().await.unwrap();
    assert_eq!(again.disks, told.disks);
    on.end(id, Ok(())).await;
    for volume in volumes {
        assert_eq!(on.keeper(volume).await.as_ref(), Some(&other));
    }
    assert_eq!(on.disagreements().await, [""; 0]);
}

#[tokio::test]
async fn it_is_deleted_by_another_host_where_its_keeper_is_not_to_be_had() {
    for away in ["silent", "disabled", "not ready", "out of reach", "gone"] {
        let mut on = Instances::sharing().await;
        let volume = on.kept_by_the_first().await;
        let claims = on.claims().await;
        match away {
            "silent" => on.only_heard_of("host-2").await,
            "disabled" => {
                let no = Expr::value(Flag(false));
                on.set("host-1", host::Column::Enabled, no).await;
            }
            "not ready" => {
                let why = Expr::value("it is slow");
                on.set("host-1", host::Column::NotReadyReason, why).await;
            }
            "out of reach" => {
                let nothing = Expr::value(Option::<String>::None);
                on.set("host-1", host::Column::Rbd, nothing).await;
            }
            _ => on.set("host-1", host::Column::Id, Expr::value("host-9")).await,
        }
        api::delete(&on.rig.cloud, &on.rig.who, volume).await.unwrap();
        let open = on.at_work(volume).await.unwrap();
        on.round().await;
        assert_eq!(on.keeper(volume).await.as_deref(), Some("host-2"), "{away}");
        let (command, deleted) = on.told_to_delete().await.unwrap();
        assert_eq!(deleted, (volume, VolumeStore::Rbd));
        assert_eq!(command.version(), 6);
        // What the one before says counts for nothing.
        on.deleted("host-1", &open, volume, None).await;
        assert_eq!(on.disk(volume).await.state.0, VolumeState::Deleting, "{away}");
        on.deleted("host-2", &open, volume, None).await;
        let disk = on.disk(volume).await;
        assert_eq!((disk.state.0, disk.host), (VolumeState::Deleted, None), "{away}");
        if away != "gone" {
            assert_eq!(on.claims().await, claims);
        }
    }
}

/// As long as no other reaches the store, its keeper is told again and again, as any host of a file.
#[tokio::test]
async fn its_keeper_is_waited_for_where_there_is_no_other() {
    let mut on = Instances::sharing().await;
    let volume = on.kept_by_the_first().await;
    let nothing = Expr::value(Option::<String>::None);
    on.set("host-2", host::Column::Rbd, nothing).await;
    on.only_heard_of("host-2").await;
    api::delete(&on.rig.cloud, &on.rig.who, volume).await.unwrap();
    on.round().await;
    assert!(on.told_to_delete().await.is_some());
    assert_eq!(on.keeper(volume).await.as_deref(), Some("host-1"));
}

/// It may reach another pool by now, in which there is no such image to delete.
#[tokio::test]
async fn a_keeper_that_does_not_reach_the_pool_is_told_nothing_of_it() {
    let mut on = Instances::sharing().await;
    let volume = on.kept_by_the_first().await;
    for host in ["host-1", "host-2"] {
        let nothing = Expr::value(Option::<String>::None);
        on.set(host, host::Column::Rbd, nothing).await;
    }
    let (id, _) = on.snapshot(volume).await;
    on.round().await;
    assert_eq!(on.told_to_take().await, None);
    api::delete(&on.rig.cloud, &on.rig.who, volume).await.unwrap();
    on.round().await;
    assert!(on.told_to_delete().await.is_none());
    let there = Expr::value("8a3c1f0e-1111-4222-8333-0123456789ab/cumulet");
    on.set("host-2", host::Column::Rbd, there).await;
    on.rig.pass(Duration::from_secs(2));
    on.round().await;
    assert_eq!(on.kept(id).await.host.as_deref(), Some("host-2"));
}

#[tokio::test]
async fn a_snapshot_of_it_is_taken_by_another_host_where_its_keeper_is_silent() {
    let mut on = Instances::sharing().await;
    let volume = on.kept_by_the_first().await;
    on.only_heard_of("host-2").await;
    let (id, open) = on.snapshot(volume).await;
    on.round().await;
    assert_eq!(on.kept(id).await.host.as_deref(), Some("host-2"));
    assert_eq!(on.keeper(volume).await.as_deref(), Some("host-2"));
    let told = on.told_to_take().await.unwrap();
    assert_eq!((told[0].volume, told[0].store), (volume, VolumeStore::Rbd));
    on.taken("host-1", &open, taken([id]), None).await;
    assert_eq!(on.kept(id).await.manifest, None);
    on.taken("host-2", &open, taken([id]), None).await;
    assert_eq!(on.kept(id).await.manifest, Some(manifest(id)));
}

/// What is read is what was there when it was asked for: an attach elsewhere waits, as it does on the keeper itself.
#[tokio::test]
async fn a_volume_that_is_being_read_for_a_snapshot_comes_to_another_host_when_that_is_taken() {
    let mut on = Instances::sharing().await;
    let volume = on.kept_by_the_first().await;
    let there = on.running_on("host-2").await;
    let (id, open) = on.snapshot(volume).await;
    on.round().await;
    assert_eq!(on.kept(id).await.host.as_deref(), Some("host-1"));
    let attach = on.attach(volume, there, "/dev/sdf").await;
    on.round().await;
    assert_eq!(on.keeper(volume).await.as_deref(), Some("host-1"), "it waits");
    assert_eq!(on.kept(id).await.host.as_deref(), Some("host-1"));
    on.taken("host-1", &open, taken([id]), None).await;
    assert_eq!(on.kept(id).await.manifest, Some(manifest(id)));
    on.rig.pass(Duration::from_secs(5));
    on.round().await;
    assert_eq!(on.keeper(volume).await.as_deref(), Some("host-2"));
    on.answer_of(&attach, there, DONE).await;
    assert_eq!(on.disk(volume).await.state.0, VolumeState::InUse);
}

/// By the time that the keeper has read it, the guest of another host may have written to it.
#[tokio::test]
async fn a_snapshot_that_a_keeper_reads_who_is_away_is_begun_anew_where_the_volume_has_come_to() {
    let mut on = Instances::sharing().await;
    let volume = on.kept_by_the_first().await;
    let there = on.running_on("host-2").await;
    let (id, open) = on.snapshot(volume).await;
    on.round().await;
    assert_eq!(on.kept(id).await.host.as_deref(), Some("host-1"));
    on.only_heard_of("host-2").await;
    on.attached_at(volume, there).await;
    assert_eq!(on.kept(id).await.host, None, "what it was told is void");
    on.taken("host-1", &open, taken([id]), None).await;
    assert_eq!(on.kept(id).await.manifest, None);
    on.later().await;
    assert_eq!(on.kept(id).await.host.as_deref(), Some("host-2"));
    on.taken("host-2", &open, taken([id]), None).await;
    assert_eq!(on.kept(id).await.manifest, Some(manifest(id)));
}

/// Whatever else the keeper is told of the instance has the volume in it, whether this attach was told or not.
#[tokio::test]
async fn an_attach_that_comes_to_nothing_is_undone_where_its_host_may_have_heard_of_it() {
    let mut on = Instances::sharing().await;
    let volume = on.kept_by_the_first().await;
    for (host, left) in [
        ("host-2", (VolumeState::Available, None)),
        ("host-1", (VolumeState::InUse, Some(AttachmentState::Detaching))),
    ] {
        let instance = on.running_on(host).await;
        on.attach(volume, instance, "/dev/sdf").await;
        on.overdue().await;
        on.round().await;
        assert_eq!(on.states(volume).await, left, "{host}");
    }
}

#[tokio::test]
async fn it_grows_without_room_on_any_host() {
    let mut on = Instances::sharing().await;
    let (volume, instance) = (on.made().await, on.running_on("host-1").await);
    on.attached_at(volume, instance).await;
    for host in HOSTS {
        let full = Expr::col(host::Column::DiskGibUsed);
        on.set(host, host::Column::DiskGibMax, full).await;
    }
    let (claims, open) = (on.claims().await, on.grow(volume, 500).await);
    on.round().await;
    let (_, spec, _) = on.told().await.unwrap();
    assert_eq!(spec.disks[1].size_gib, 500);
    on.answer_of(&open, instance, DONE).await;
    assert_eq!(on.disk(volume).await.size_gib.0, 500);
    on.detached_from(volume, instance).await;
    assert_eq!(on.claims().await, claims);
}
