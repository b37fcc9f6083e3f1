//! What the API knows of an instance is in the snapshot that its host serves to it.

use cumulet_backend::test_support::cloud;
use cumulet_certs::KeyType;
use cumulet_compute::{
    instances::{self, UserData},
    key_pairs,
    placement_groups::{self, NewGroup},
};
use cumulet_domain::{instance::State, message::Action, tag::Tag};
use cumulet_store::{
    connect,
    entity::{columns::Count, instance, metadata_push},
    failed,
};
use sea_orm::{ConnectionTrait, EntityTrait};

use crate::tests::*;

/// A new column does not compile here before somebody has said whether the instance can read it.
#[tokio::test]
async fn every_column_of_an_instance_is_in_its_snapshot_or_is_not_for_it() {
    let mut rig = Rig::start().await;
    key_pairs::create(&rig.cloud, &rig.who, "key", KeyType::Ed25519, Vec::new())
        .await
        .unwrap();
    let group = NewGroup {
        name: "racks".into(),
        strategy: "partition".into(),
        partition_count: Some(3),
        tags: Vec::new(),
    };
    placement_groups::create(&rig.cloud, &rig.who, group)
        .await
        .unwrap();
    let tag = Tag {
        key: "Name".into(),
        value: "web".into(),
    };
    let id = rig
        .launch(|spec| {
            spec.key_name = Some("key".into());
            spec.user_data = UserData::new(b"hello".to_vec()).unwrap();
            spec.placement_group = Some("racks".into());
            spec.partition_number = Some(3);
            spec.metadata.tags = Some(true);
            spec.tags.instance = vec![tag.clone()];
        })
        .await;
    let command = rig.command(is_run).await;
    let Action::Run { spec, .. } = &command.action else {
        unreachable!()
    };
    let snapshot = &spec.metadata;
    let view = rig.until_state(id, State::Pending).await;

    let instance::Model {
        id,
        account,
        reservation,
        launch_index,
        image,
        instance_type,
        vcpus: _, // the guest sees its processors, memory and disk themselves
        memory_mib: _,
        disk_gib: _,
        state: _, // who reads it runs
        intent: _,
        generation: _,
        metadata_revision,
        host: _, // not the tenant's to know
        claimed: _,
        vpc,
        subnet,
        availability_zone,
        key_name,
        public_key,
        user_data: _, // of a version that did not seal it
        sealed_user_data: _,
        shutdown_behavior: _, // EC2's metadata don't have the attributes
        disable_api_termination: _,
        disable_api_stop: _,
        http_enabled,
        http_tokens_required,
        http_hop_limit,
        http_tags,
        client_token: _,
        reason_code: _,
        reason_message: _,
        transition_reason: _,
        launched_at,
        created_at: _, // the time of the last start is shown
        running_since: _,
        terminated_at: _,
        placement_group: _, // its name is shown
        partition_number,
    } = view.row.clone();
    assert_eq!(snapshot.instance, id.0);
    assert_eq!(snapshot.account, account.0);
    assert_eq!(snapshot.reservation, reservation.0);
    assert_eq!(snapshot.launch_index, launch_index.0);
    assert_eq!(snapshot.image, image.0);
    assert_eq!(snapshot.instance_type, instance_type);
    assert_eq!(snapshot.revision, metadata_revision.0);
    assert_eq!(snapshot.availability_zone, availability_zone);
    assert_eq!(availability_zone, "us-east-1a");
    assert_eq!(snapshot.public_keys[0].name, key_name.unwrap());
    assert_eq!(snapshot.public_keys[0].openssh, public_key.unwrap());
    assert_eq!(snapshot.user_data.as_deref(), Some(&b"hello"[..]));
    assert_eq!(snapshot.options.enabled, http_enabled.0);
    assert_eq!(snapshot.options.tokens_required, http_tokens_required.0);
    assert_eq!(snapshot.options.hop_limit, http_hop_limit.0);
    assert_eq!(snapshot.options.tags, http_tags.0);
    assert_eq!(snapshot.pending_time.0, launched_at);
    assert_eq!(snapshot.placement_group, view.placement_group);
    assert_eq!(snapshot.placement_group.as_deref(), Some("racks"));
    assert_eq!(snapshot.partition_number.map(Count), partition_number);
    assert_eq!(partition_number, Some(Count(3)));
    assert_eq!(snapshot.tags, [tag]);
    assert_eq!(snapshot.root_device, view.root_device());
    assert_eq!(snapshot.architecture, view.architecture());

    let (shown, known) = (&snapshot.interfaces[0], &view.interfaces[0]);
    assert_eq!((shown.vpc, shown.subnet), (vpc.0, subnet.0));
    assert_eq!((shown.id, shown.mac), (known.id(), known.mac()));
    assert_eq!(
        (shown.private_ip, shown.public_ip),
        (known.private_ip(), known.public_ip())
    );
    let groups: Vec<_> = known
        .groups
        .iter()
        .map(|group| (group.id, group.name.clone()))
        .collect();
    assert_eq!(shown.security_groups, groups);
}

/// Those that were in a group before their metadata said so: their hosts are told by the migration.
#[tokio::test]
async fn a_migration_tells_hosts_of_the_groups_of_instances() {
    let rig = cloud().await;
    let group = NewGroup {
        name: "racks".into(),
        strategy: "spread".into(),
        ..NewGroup::default()
    };
    placement_groups::create(&rig.cloud, &rig.who, group)
        .await
        .unwrap();
    let mut launched = Vec::new();
    for group in [None, Some("racks".to_owned())] {
        let mut spec = rig.spec();
        spec.placement_group = group;
        launched.push(instances::launch(&rig.cloud, &rig.who, spec).await.unwrap());
    }
    let forget = "DELETE FROM seaql_migrations WHERE version = 'm0017_placement_metadata'";
    let write = rig.cloud.store.write(move |txn| {
        Box::pin(async move { txn.execute_unprepared(forget).await.map(drop).map_err(failed) })
    });
    write.await.unwrap();
    // Each start brings the schema up to date.
    let store = connect(&rig.database.options(2)).await.unwrap();
    let pushes = metadata_push::Entity::find().all(store.read()).await.unwrap();
    let of = |launch: usize| &launched[launch].instances[0].row;
    let pushed: Vec<_> = pushes.iter().map(|push| push.instance).collect();
    assert_eq!(pushed, [of(1).id]);
    for (launch, more) in [(0, 0), (1, 1)] {
        let row = instance::Entity::find_by_id(of(launch).id)
            .one(store.read())
            .await;
        let revision = row.unwrap().unwrap().metadata_revision.0;
        assert_eq!(revision, of(launch).metadata_revision.0 + more, "{launch}");
    }
}
