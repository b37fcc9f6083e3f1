//! Launches: what is refused, what is made, and tokens.

use cumulet_certs::KeyType;
use cumulet_compute::{
    instances::{InstanceQuery, LaunchSpec, MetadataChange, UserData, describe, launch, user_data},
    key_pairs,
};
use cumulet_core::{ClientToken, PageRequest};
use cumulet_domain::{
    Error, ResourceKind,
    id::{ImageId, SecurityGroupId, SubnetId},
    instance::State,
    tag::Tag,
    volume::ROOT_DEVICE,
};
use cumulet_network::{
    security_groups,
    vpcs::{SubnetQuery, describe_subnets},
};
use cumulet_storage::images;
use cumulet_store::entity::{instance, operation, tag};
use sea_orm::{EntityTrait, PaginatorTrait};

use crate::{
    test_support::{Rig, ZONE, cloud, image, volume},
    tests::instances::launched,
};

async fn refused(rig: &Rig, change: impl FnOnce(&mut LaunchSpec)) -> Error {
    let mut spec = rig.spec();
    change(&mut spec);
    launch(&rig.cloud, &rig.who, spec).await.unwrap_err()
}

#[tokio::test]
async fn wrong_launches_are_refused_and_leave_nothing() {
    let rig = cloud().await;
    let invalid = |error: Error, name: &str| match error {
        Error::InvalidParameter { name: found, .. } => assert_eq!(found, name),
        other => panic!("{name}: {other:?}"),
    };
    let missing = |error: Error, kind: ResourceKind| match error {
        Error::NotFound { kind: found, .. } => assert_eq!(found, kind),
        other => panic!("{kind:?}: {other:?}"),
    };
    invalid(refused(&rig, |s| s.min = 0).await, "MinCount");
    invalid(refused(&rig, |s| s.max = 1001).await, "MaxCount");
    invalid(refused(&rig, |s| s.min = 2).await, "MinCount");
    assert_eq!(
        refused(&rig, |s| s.instance_type = "t9.huge".into()).await,
        Error::UnknownInstanceType {
            name: "t9.huge".into()
        }
    );
    assert_eq!(
        refused(&rig, |s| s.availability_zone = Some("us-east-1z".into())).await,
        Error::unknown_zone("us-east-1z")
    );
    invalid(
        refused(&rig, |s| s.metadata.hop_limit = Some(65)).await,
        "HttpPutResponseHopLimit",
    );
    let small = refused(&rig, |s| {
        s.mappings = vec![volume(ROOT_DEVICE, |asked| asked.size_gib = Some(1))]
    })
    .await;
    assert!(
        matches!(small, Error::VolumeTooSmall { gib: 1, least } if least > 1),
        "{small:?}"
    );
    invalid(
        refused(&rig, |s| s.private_ip = Some([172, 31, 0, 3].into())).await,
        "PrivateIpAddress",
    );
    invalid(
        refused(&rig, |s| s.private_ip = Some([10, 0, 0, 9].into())).await,
        "PrivateIpAddress",
    );
    missing(
        refused(&rig, |s| s.image = ImageId::new(1 << 40)).await,
        ResourceKind::Image,
    );
    missing(
        refused(&rig, |s| s.subnet = Some(SubnetId::new(1 << 40))).await,
        ResourceKind::Subnet,
    );
    missing(
        refused(&rig, |s| s.groups = vec![SecurityGroupId::new(1 << 40)]).await,
        ResourceKind::SecurityGroup,
    );
    missing(
        refused(&rig, |s| s.group_names = vec!["nope".into()]).await,
        ResourceKind::SecurityGroup,
    );
    missing(
        refused(&rig, |s| s.key_name = Some("nope".into())).await,
        ResourceKind::KeyPair,
    );
    let both = refused(&rig, |s| {
        s.private_ip = Some([172, 31, 0, 9].into());
        s.max = 2;
    });
    assert!(matches!(both.await, Error::InvalidCombination { .. }));
    let conn = rig.cloud.store.read();
    assert_eq!(operation::Entity::find().count(conn).await.unwrap(), 0);
    assert_eq!(rig.account().await.instances_used, 0);
}

#[tokio::test]
async fn a_launch_writes_everything_it_promises() {
    let rig = cloud().await;
    let key = key_pairs::create(&rig.cloud, &rig.who, "mine", KeyType::Ed25519, Vec::new())
        .await
        .unwrap();
    let tags = |value: &str| {
        vec![Tag {
            key: "Name".into(),
            value: value.into(),
        }]
    };
    let mut spec = rig.spec();
    spec.max = 3;
    spec.key_name = Some("mine".into());
    spec.user_data = UserData::new(b"hello".to_vec()).unwrap();
    spec.tags.instance = tags("i");
    spec.tags.network_interface = tags("n");
    spec.tags.volume = tags("v");
    spec.metadata = MetadataChange {
        tokens_required: Some(true),
        ..MetadataChange::default()
    };
    let made = launch(&rig.cloud, &rig.who, spec).await.unwrap();
    assert_eq!(made.instances.len(), 3);
    let page = describe(
        &rig.cloud,
        &rig.who,
        &InstanceQuery::default(),
        PageRequest::default(),
    )
    .await
    .unwrap();
    let mut answered = made.instances.clone();
    answered.sort_by_key(|view| view.row.id);
    assert_eq!(page.rows, answered, "the answer is what a describe finds");
    for (index, view) in made.instances.iter().enumerate() {
        assert_eq!(view.row.launch_index.0, u32::try_from(index).unwrap());
        assert_eq!(
            (view.state(), view.row.disk_gib.0, view.row.generation.0),
            (State::Pending, 2, 1)
        );
        assert_eq!(
            view.row.public_key.as_deref(),
            Some(key.view.row.public_key.as_str())
        );
        let data = user_data(&rig.cloud, &rig.who, view).unwrap();
        assert_eq!(data.unwrap().expose(), b"hello");
        assert!(view.metadata_options().tokens_required && view.metadata_options().enabled);
        assert!(view.public_ip().is_some());
        assert_eq!(view.interfaces[0].groups[0].name, "default");
        assert_eq!(view.row.availability_zone, ZONE);
    }
    let conn = rig.cloud.store.read();
    assert_eq!(operation::Entity::find().count(conn).await.unwrap(), 3);
    assert_eq!(tag::Entity::find().count(conn).await.unwrap(), 9);
    assert_eq!(rig.account().await.vcpus_used, 6);
}

#[tokio::test]
async fn a_launch_takes_what_fits_down_to_its_minimum() {
    let rig = cloud().await;
    rig.set_quota(5, 1000).await;
    let range = |min, max| {
        let mut spec = rig.spec();
        (spec.min, spec.max) = (min, max);
        launch(&rig.cloud, &rig.who, spec)
    };
    assert!(matches!(range(6, 8).await, Err(Error::LimitExceeded { .. })));
    assert_eq!(range(2, 8).await.unwrap().instances.len(), 5);
    assert!(range(1, 1).await.is_err());
}

#[tokio::test]
async fn no_host_means_no_launch() {
    let rig = cloud().await;
    rig.pass(std::time::Duration::from_secs(3600)); // the host has been silent that long
    let answer = launch(&rig.cloud, &rig.who, rig.spec()).await;
    assert!(matches!(answer, Err(Error::InsufficientCapacity { .. })));
}

#[tokio::test]
async fn a_token_launches_once() {
    let rig = cloud().await;
    let with = |token: &str, hash: &str| {
        let mut spec = rig.spec();
        spec.client_token = Some(ClientToken {
            token: token.into(),
            request_hash: hash.into(),
        });
        launch(&rig.cloud, &rig.who, spec)
    };
    let (first, again, third) = tokio::join!(with("t", "h"), with("t", "h"), with("t", "h"));
    let first = first.unwrap();
    assert_eq!(first, again.unwrap());
    assert_eq!(first, third.unwrap());
    let other = with("t", "other").await;
    assert_eq!(
        other,
        Err(Error::IdempotentParameterMismatch { token: "t".into() })
    );
    let id = first.instances[0].id();
    rig.settle(id, State::Terminated).await;
    rig.pass(std::time::Duration::from_secs(2 * 3600));
    let replayed = with("t", "h").await.unwrap();
    assert_eq!(
        (replayed.id, replayed.instances[0].state()),
        (first.id, State::Terminated)
    );
    let count = instance::Entity::find()
        .count(rig.cloud.store.read())
        .await
        .unwrap();
    assert_eq!(count, 1);
    // Another account's token of the same text is another token.
    let mut spec = rig.spec();
    spec.client_token = Some(ClientToken {
        token: "t".into(),
        request_hash: "h".into(),
    });
    let answer = launch(&rig.cloud, &rig.stranger, spec).await;
    assert!(
        matches!(answer, Err(Error::InsufficientCapacity { .. })),
        "{answer:?}"
    );
}

#[tokio::test]
async fn a_rehearsed_launch_checks_all_and_leaves_nothing() {
    let rig = cloud().await;
    let rehearsal = rig.cloud.rehearsal();
    assert!(launch(&rehearsal, &rig.who, rig.spec()).await.is_ok());
    let mut wrong = rig.spec();
    wrong.key_name = Some("nope".into());
    assert!(launch(&rehearsal, &rig.who, wrong).await.is_err());
    assert_eq!(
        instance::Entity::find()
            .count(rig.cloud.store.read())
            .await
            .unwrap(),
        0
    );
    assert_eq!(rig.account().await.instances_used, 0);
}

#[tokio::test]
async fn what_a_stranger_has_can_not_be_named() {
    let rig = cloud().await;
    let private = images::add(&rig.cloud.parts(), image(rig.who.account, "mine", false))
        .await
        .unwrap();
    let query = SubnetQuery::default();
    let subnets = describe_subnets(&rig.cloud, &rig.who, &query, PageRequest::default())
        .await
        .unwrap();
    let query = security_groups::GroupQuery::default();
    let groups = security_groups::describe(&rig.cloud, &rig.who, &query, PageRequest::default())
        .await
        .unwrap();
    key_pairs::create(&rig.cloud, &rig.who, "mine", KeyType::Ed25519, Vec::new())
        .await
        .unwrap();
    let changes: [&dyn Fn(&mut LaunchSpec); 4] = [
        &|s| s.image = private.id(),
        &|s| s.subnet = Some(SubnetId::from_db(subnets.rows[0].row.id.to_db())),
        &|s| s.groups = vec![groups.rows[0].id()],
        &|s| s.key_name = Some("mine".into()),
    ];
    for change in changes {
        let mut spec = rig.spec();
        change(&mut spec);
        let answer = launch(&rig.cloud, &rig.stranger, spec).await;
        assert!(matches!(answer, Err(Error::NotFound { .. })), "{answer:?}");
    }
    assert!(launch(&rig.cloud, &rig.stranger, rig.spec()).await.is_ok());
    let reader = launch(&rig.cloud, &rig.reader(), rig.spec()).await;
    assert_eq!(
        reader,
        Err(Error::Unauthorized {
            action: "ec2:RunInstances".into()
        })
    );
}

#[tokio::test]
async fn deregistered_images_launch_nothing_more() {
    let rig = cloud().await;
    let made = launched(&rig, rig.spec()).await;
    let foreign = images::deregister(&rig.cloud, &rig.stranger, rig.image, false).await;
    assert!(matches!(foreign, Err(Error::Unauthorized { .. })));
    images::deregister(&rig.cloud, &rig.who, rig.image, false)
        .await
        .unwrap();
    assert!(matches!(
        refused(&rig, |_| ()).await,
        Error::Unusable {
            kind: ResourceKind::Image,
            ..
        }
    ));
    let seen = super::seen(&rig, made.id()).await;
    assert!(seen.image.is_some(), "an instance still knows its image");
    assert!(matches!(
        images::delete(&rig.cloud.parts(), rig.image).await,
        Err(Error::InUse { .. })
    ));
    rig.settle(made.id(), State::Terminated).await;
    let (_, last) = images::delete(&rig.cloud.parts(), rig.image).await.unwrap();
    assert!(last);
}

/// A5: eight loops of DryRun RunInstances held the one writer of SQLite.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rehearsals_of_one_account_hold_up_no_launch_of_another() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    let rig = cloud().await;
    if rig.database.is_on_server() {
        return; // there transactions don't wait for each other
    }
    rig.set_quota(1000, 1000).await;
    let (dry, ended) = (rig.cloud.rehearsal(), AtomicUsize::new(0));
    let mut spec = rig.spec();
    (spec.min, spec.max) = (40, 40);
    let rehearse = async || {
        launch(&dry, &rig.who, spec.clone()).await.unwrap();
        ended.fetch_add(1, Ordering::AcqRel);
    };
    let rehearsals = futures::future::join_all((0..40).map(|_| rehearse()));
    let other = async {
        while ended.load(Ordering::Acquire) == 0 {
            tokio::task::yield_now().await;
        }
        launch(&rig.cloud, &rig.stranger, rig.spec()).await.unwrap();
        ended.load(Ordering::Acquire)
    };
    let (_, before) = tokio::join!(rehearsals, other);
    assert!(before < 20, "{before} rehearsals came first");
    let left = describe(
        &rig.cloud,
        &rig.who,
        &InstanceQuery::default(),
        PageRequest::default(),
    )
    .await;
    assert!(left.unwrap().rows.is_empty());
}
