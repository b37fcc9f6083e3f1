//! Modifications of volumes, with hosts that the test plays.

use cumulet_compute::instances as api;
use cumulet_core::{CloudConfig, RequestContext};
use cumulet_domain::{
    Error,
    error::Limit,
    id::{InstanceId, VolumeId},
    message::Change,
    spec::{DiskSpec, InstanceSpec},
    volume::{ModificationState as State, Provisioned, VolumeChange, VolumeShape, VolumeState, VolumeType},
};
use cumulet_journal::Operation as _;
use cumulet_operations::*;
use cumulet_store::{
    entity::{host, volume_attachment, volume_modification},
    failed, modifications,
};
use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _, sea_query::Expr};

use super::{
    Instances,
    volumes::{DONE, Said},
};
use crate::api::volumes as volumes_api;

const LARGER: VolumeChange = VolumeChange {
    size_gib: Some(3),
    kind: Some(VolumeType::Gp3),
    iops: None,
    throughput: Some(200),
};

impl Instances {
    async fn modify(&self, volume: VolumeId, change: VolumeChange) -> Result<(), Error> {
        let (cloud, who) = (&self.rig.cloud, &self.rig.who);
        let asked = volumes_api::modify(cloud, who, volume, change).await;
        asked.map(|begun| assert_eq!(begun.state.0, State::Modifying))
    }

    async fn modification(&self, volume: VolumeId) -> volume_modification::Model {
        let found = modifications::find(self.conductor.store.read(), volume.to_db()).await;
        found.unwrap().unwrap()
    }

    async fn shape(&self, volume: VolumeId) -> VolumeShape {
        self.disk(volume).await.shape()
    }

    async fn root_of(&self, instance: InstanceId) -> VolumeId {
        use volume_attachment::Column as A;
        let root = volume_attachment::Entity::find()
            .filter(A::Instance.eq(instance.to_db()))
            .filter(A::BootIndex.eq(0));
        let root = root.one(self.conductor.store.read()).await.unwrap();
        root.unwrap().volume.0
    }

    /// The hosts' disks are full but for so much.
    async fn leave(&self, gib: i64) {
        let write = self.conductor.store.write(move |txn| {
            Box::pin(async move {
                use host::Column as H;
                use sea_orm::ExprTrait as _;
                let full =
                    host::Entity::update_many().col_expr(H::DiskGibMax, Expr::col(H::DiskGibUsed).add(gib));
                full.exec(txn).await.map(drop).map_err(failed)
            })
        });
        write.await.unwrap();
    }
}

fn of(spec: &InstanceSpec, volume: VolumeId) -> &DiskSpec {
    let found = spec.disks.iter().find(|disk| disk.volume == volume);
    found.expect("it has the volume")
}

const fn gp2(size_gib: u32) -> VolumeShape {
    VolumeShape {
        size_gib,
        kind: VolumeType::Gp2,
        provisioned: Provisioned {
            iops: None,
            throughput: None,
        },
    }
}

#[tokio::test]
async fn a_guest_that_runs_sees_its_volume_grow() {
    let mut stage = Instances::new().await;
    let (volume, id) = stage.attached().await;
    let before = stage.row(id.to_db()).await;
    let host = before.host.clone().unwrap();
    let used = stage.disk_used(&host).await;
    stage.told().await;
    stage.modify(volume, LARGER).await.unwrap();
    let open = stage.at_work(volume).await.unwrap();
    assert_eq!(stage.shape(volume).await, gp2(1), "not before there is room");
    assert_eq!(
        stage.modify(volume, LARGER).await,
        Err(Error::Modifying {
            volume: volume.to_string()
        })
    );
    stage.round().await;
    let (command, spec, what) = stage.told().await.unwrap();
    assert_eq!((command.operation, what), (Some(open.id.0), Change::ModifyVolume));
    assert_eq!(spec.generation, before.generation.next().0);
    let disk = of(&spec, volume);
    assert_eq!(disk.size_gib, 3);
    assert_eq!(disk.throttle.bytes, Some(200 << 20));
    assert_eq!(stage.disk_used(&host).await, used + 2);
    // A host that was told before says nothing of it.
    let old = super::outcome(&open, &before, None);
    stage
        .say(&host, cumulet_domain::message::ReportContent::Done(old))
        .await;
    assert_eq!(stage.modification(volume).await.state.0, State::Modifying);
    stage.rig.pass(std::time::Duration::from_secs(1));
    stage.answer_of(&open, id, DONE).await;
    let done = stage.modification(volume).await;
    assert_eq!(
        (done.state.0, done.progress.0, done.ended_at.is_some()),
        (State::Completed, 100, true)
    );
    assert_eq!(
        (done.original(), done.target()),
        (gp2(1), stage.shape(volume).await)
    );
    assert!(stage.at_work(volume).await.is_none());
    // The next one has the last one's place, and may come at once.
    stage.grow(volume, 4).await;
    assert_eq!(stage.modification(volume).await.original().size_gib, 3);
}

#[tokio::test]
async fn a_root_grows_and_its_instance_with_it() {
    let mut stage = Instances::new().await;
    let id = stage.running().await;
    let (root, before) = (stage.root_of(id).await, stage.row(id.to_db()).await);
    let host = before.host.clone().unwrap();
    let (used, gib) = (stage.disk_used(&host).await, before.disk_gib.0);
    let faster = VolumeChange {
        size_gib: Some(gib + 5),
        throughput: Some(300),
        kind: Some(VolumeType::Gp3),
        ..VolumeChange::default()
    };
    stage.modify(root, faster).await.unwrap();
    let open = stage.at_work(root).await.unwrap();
    stage.round().await;
    let (_, spec, _) = stage.told().await.unwrap();
    let disk = of(&spec, root);
    assert_eq!(disk.size_gib, u64::from(gib) + 5);
    assert_eq!(disk.throttle.bytes, Some(300 << 20));
    assert_eq!(stage.row(id.to_db()).await.disk_gib.0, gib + 5);
    assert_eq!(stage.disk_used(&host).await, used + 5);
    stage.answer_of(&open, id, DONE).await;
    assert_eq!(stage.modification(root).await.state.0, State::Completed);
    // All of it is given back.
    api::terminate(&stage.rig.cloud, &stage.rig.who, &[id])
        .await
        .unwrap();
    stage.end(id, Ok(())).await;
    assert_eq!(stage.disk_used(&host).await, used - i64::from(gib));
}

#[tokio::test]
async fn what_no_guest_has_is_modified_without_a_word_to_a_host() {
    let mut stage = Instances::new().await;
    let new = stage.made().await;
    let (free, id) = stage.attached().await;
    let open = stage.detach(free).await;
    stage.round().await;
    stage.answer_of(&open, id, DONE).await;
    let stopped = stage.stopped().await;
    let with = stage.made().await;
    stage.attach(with, stopped, "/dev/sdf").await;
    stage.round().await;
    stage.told().await;
    let host = stage.disk(free).await.host.unwrap();
    let used = stage.disk_used(&host).await;
    for volume in [new, free, with, stage.root_of(stopped).await] {
        let gib = stage.shape(volume).await.size_gib;
        stage.grow(volume, gib + 1).await;
        stage.round().await;
        assert_eq!(stage.shape(volume).await.size_gib, gib + 1);
        assert_eq!(stage.modification(volume).await.state.0, State::Completed);
    }
    assert!(stage.told().await.is_none());
    let homes = [
        &stage.disk(with).await.host,
        &stage.row(stopped.to_db()).await.host,
    ];
    let here = homes
        .into_iter()
        .filter(|home| home.as_ref() == Some(&host))
        .count();
    assert_eq!(stage.disk_used(&host).await, used + 1 + here as i64);
}

#[tokio::test]
async fn without_room_on_its_host_it_fails_and_all_is_as_before() {
    let mut stage = Instances::new().await;
    let (volume, _) = stage.attached().await;
    let host = stage.disk(volume).await.host.unwrap();
    let (used, before) = (stage.disk_used(&host).await, stage.disk(volume).await);
    stage.leave(1).await;
    stage.told().await;
    stage.modify(volume, LARGER).await.unwrap();
    stage.round().await;
    let ended = stage.modification(volume).await;
    assert_eq!(ended.state.0, State::Failed);
    let words = ended.status_message.unwrap();
    assert!(words.contains("no 2 GiB of disk more"), "{words}");
    assert_eq!(stage.disk(volume).await, before);
    assert_eq!(stage.disk_used(&host).await, used);
    assert!(stage.told().await.is_none() && stage.at_work(volume).await.is_none());
    // What fits is done all the same.
    stage.grow(volume, 2).await;
    stage.round().await;
    assert_eq!(stage.shape(volume).await, gp2(2));
}

#[tokio::test]
async fn what_a_host_refuses_is_put_back_and_it_hears_so() {
    let mut stage = Instances::new().await;
    let (volume, id) = stage.attached().await;
    let host = stage.disk(volume).await.host.unwrap();
    let used = stage.disk_used(&host).await;
    stage.modify(volume, LARGER).await.unwrap();
    let open = stage.at_work(volume).await.unwrap();
    stage.round().await;
    let refused = Said {
        failure: Some("the hypervisor refused it"),
        permanent: true,
        ..DONE
    };
    stage.answer_of(&open, id, refused).await;
    let ended = stage.modification(volume).await;
    assert_eq!(ended.state.0, State::Failed);
    let words = ended.status_message.unwrap();
    assert!(words.contains("the hypervisor refused it"), "{words}");
    assert_eq!(stage.shape(volume).await, gp2(1));
    assert_eq!(stage.disk_used(&host).await, used);
    let undo = stage.at_work(volume).await.unwrap();
    assert_eq!(undo.kind, ModifyVolume::NAME);
    stage.told().await;
    stage.round().await;
    let (_, spec, _) = stage.told().await.unwrap();
    assert_eq!(
        (of(&spec, volume).size_gib, of(&spec, volume).throttle),
        (1, VolumeType::Gp2.throttle(1, Provisioned::default()))
    );
    // That goes on, whatever the host says to it and however long it takes.
    stage.answer_of(&undo, id, refused).await;
    stage.overdue().await;
    stage.later().await;
    assert_eq!(stage.at_work(volume).await.unwrap().id, undo.id);
    stage.answer_of(&undo, id, DONE).await;
    assert!(stage.at_work(volume).await.is_none());
    assert_eq!(stage.modification(volume).await.state.0, State::Failed);
    // It may be asked for again, also while that is under way.
    stage.modify(volume, LARGER).await.unwrap();
}

#[tokio::test]
async fn it_goes_on_after_a_failure_gives_up_after_some_and_at_its_deadline() {
    let stage = Instances::new().await;
    let (volume, id) = stage.attached().await;
    let failed = Said {
        failure: Some("the hypervisor could not do it"),
        ..DONE
    };
    stage.modify(volume, LARGER).await.unwrap();
    stage.round().await;
    for _ in 0..5 {
        assert_eq!(stage.modification(volume).await.state.0, State::Modifying);
        let open = stage.at_work(volume).await.unwrap();
        stage.answer_of(&open, id, failed).await;
        stage.later().await;
    }
    assert_eq!(stage.modification(volume).await.state.0, State::Failed);
    // A new one takes the place of what puts the last one back.
    stage.modify(volume, LARGER).await.unwrap();
    stage.later().await;
    assert_eq!(stage.shape(volume).await.size_gib, 3);
    stage.overdue().await;
    stage.later().await;
    let ended = stage.modification(volume).await;
    assert_eq!(
        (ended.state.0, stage.shape(volume).await),
        (State::Failed, gp2(1))
    );
    assert!(ended.status_message.unwrap().contains("did not end within 300 s"));
}

#[tokio::test]
async fn what_takes_its_place_takes_it_along() {
    let mut stage = Instances::new().await;
    for told in [false, true] {
        let (volume, id) = stage.attached().await;
        stage.modify(volume, LARGER).await.unwrap();
        if told {
            stage.round().await;
        }
        stage.told().await;
        let open = stage.detach(volume).await;
        let ended = stage.modification(volume).await;
        assert_eq!(
            (ended.state.0, stage.shape(volume).await.size_gib),
            (State::Completed, 3)
        );
        stage.round().await;
        stage.answer_of(&open, id, DONE).await;
        assert_eq!(stage.states(volume).await, (VolumeState::Available, None));
        // The next guest has it so.
        stage.grow(volume, 5).await;
        stage.attach(volume, id, "/dev/sdg").await;
        stage.round().await;
        let (_, spec, _) = stage.told().await.unwrap();
        assert_eq!(of(&spec, volume).size_gib, 5);
        assert_eq!(stage.modification(volume).await.state.0, State::Completed);
    }
    // Its instance ends before it has had its turn.
    for delete in [false, true] {
        let (volume, id) = stage.attached().await;
        if delete {
            let ends = api::AttributeChange::Disk(api::DiskChange {
                device: "/dev/sdf".into(),
                volume: None,
                delete_on_termination: true,
            });
            api::modify_attribute(&stage.rig.cloud, &stage.rig.who, id, ends)
                .await
                .unwrap();
        }
        stage.modify(volume, LARGER).await.unwrap();
        api::terminate(&stage.rig.cloud, &stage.rig.who, &[id])
            .await
            .unwrap();
        stage.round().await;
        stage.end(id, Ok(())).await;
        stage.rig.pass(std::time::Duration::from_secs(2));
        stage.round().await;
        let (state, size) = match delete {
            true => (State::Failed, 1),
            false => (State::Completed, 3),
        };
        let ended = stage.modification(volume).await;
        assert_eq!((ended.state.0, stage.shape(volume).await.size_gib), (state, size));
    }
}

#[tokio::test]
async fn an_account_has_so_much_in_volumes_also_by_growing() {
    let stage = Instances::new().await;
    let (one, other) = (stage.made().await, stage.made().await);
    let max = crate::test_support::QUOTAS.volume_gib;
    let rest = volumes_api::NewVolume {
        availability_zone: crate::test_support::ZONE.into(),
        size_gib: Some(u32::try_from(max).unwrap() - 10),
        snapshot: None,
        kind: VolumeType::Gp3,
        provisioned: Provisioned::default(),
        encryption: Default::default(),
        tags: Vec::new(),
        client_token: None,
    };
    let made = volumes_api::create(&stage.rig.cloud, &stage.rig.who, rest).await;
    made.unwrap();
    // What is not there yet counts too.
    stage.grow(one, 6).await;
    let larger = |gib| VolumeChange {
        size_gib: Some(gib),
        ..VolumeChange::default()
    };
    let refused = Error::LimitExceeded {
        limit: Limit::VolumeStorage,
        max,
    };
    assert_eq!(stage.modify(other, larger(5)).await, Err(refused.clone()));
    stage.modify(other, larger(4)).await.unwrap();
    stage.round().await;
    assert_eq!(stage.modify(one, larger(7)).await, Err(refused));
    assert_eq!(stage.modify(one, larger(6)).await, Ok(()), "it has that");
}

/// Nothing has to be waited for, unless the operator says so; what has failed is nothing to wait after.
#[tokio::test]
async fn an_operator_may_let_volumes_rest() {
    let stage = Instances::new().await;
    let volume = stage.made().await;
    let least = std::time::Duration::from_secs(21_600);
    let mut cx = RequestContext::clone(&stage.rig.cloud);
    cx.config = std::sync::Arc::new(CloudConfig {
        modification_cooldown: least,
        ..CloudConfig::clone(&cx.config)
    });
    let modify = async |gib| {
        let larger = VolumeChange {
            size_gib: Some(gib),
            ..VolumeChange::default()
        };
        let asked = volumes_api::modify(&cx, &stage.rig.who, volume, larger).await;
        asked.map(drop)
    };
    modify(2).await.unwrap();
    stage.round().await;
    let lately = Error::ModifiedLately {
        volume: volume.to_string(),
        least,
    };
    assert_eq!(modify(3).await, Err(lately));
    stage.rig.pass(least);
    assert_eq!(modify(3).await, Ok(()));
}
