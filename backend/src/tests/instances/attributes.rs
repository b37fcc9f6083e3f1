//! Attributes and metadata options.

use cumulet_compute::instances::{
    AttributeChange as A, DiskChange, MetadataChange, UserData, console_output, console_screenshot,
    modify_attribute, modify_metadata_options, user_data,
};
use cumulet_domain::{
    Error,
    id::VolumeId,
    instance::{ShutdownBehavior, State},
};
use cumulet_network::security_groups::{NewGroup, create};
use cumulet_store::entity::columns::Flag;

use crate::{
    test_support::cloud,
    tests::instances::{in_state, seen},
};

#[tokio::test]
async fn what_the_guest_is_built_from_changes_only_while_it_is_stopped() {
    let rig = cloud().await;
    for (state, fine) in [
        (State::Running, false),
        (State::Pending, false),
        (State::Stopped, true),
        (State::Terminated, false),
    ] {
        let id = in_state(&rig, state).await;
        for change in [A::InstanceType("t3.large".into()), A::UserData(data(b"hi"))] {
            let answer = modify_attribute(&rig.cloud, &rig.who, id, change).await;
            assert_eq!(answer.is_ok(), fine, "{state:?}");
            assert!(fine || matches!(answer, Err(Error::IncorrectState { .. })));
        }
    }
}

#[tokio::test]
async fn a_new_type_counts_for_the_quota() {
    let rig = cloud().await;
    let id = in_state(&rig, State::Stopped).await;
    rig.set_quota(10, 4).await;
    let to =
        async |name: &str| modify_attribute(&rig.cloud, &rig.who, id, A::InstanceType(name.into())).await;
    to("t3.xlarge").await.unwrap();
    assert_eq!(rig.account().await.vcpus_used, 4);
    assert!(matches!(to("t3.2xlarge").await, Err(Error::LimitExceeded { .. })));
    assert!(matches!(to("t9.huge").await, Err(Error::UnknownInstanceType { name }) if name == "t9.huge"));
    let row = seen(&rig, id).await.row;
    assert_eq!(
        (row.instance_type.as_str(), row.vcpus.0, row.memory_mib.0),
        ("t3.xlarge", 4, 16_384)
    );
    to("t2.nano").await.unwrap();
    assert_eq!(rig.account().await.vcpus_used, 1);
}

fn data(bytes: &[u8]) -> Option<UserData> {
    UserData::new(bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn flags_behaviour_and_user_data() {
    let rig = cloud().await;
    let id = in_state(&rig, State::Stopped).await;
    let set = async |change| modify_attribute(&rig.cloud, &rig.who, id, change).await;
    set(A::ShutdownBehavior(ShutdownBehavior::Terminate))
        .await
        .unwrap();
    set(A::DisableApiStop(true)).await.unwrap();
    set(A::UserData(data(b"hello"))).await.unwrap();
    let view = seen(&rig, id).await;
    assert_eq!(view.shutdown_behavior(), ShutdownBehavior::Terminate);
    assert_eq!(view.row.disable_api_stop, Flag(true));
    let kept = async || user_data(&rig.cloud, &rig.who, &seen(&rig, id).await).unwrap();
    assert_eq!(kept().await.unwrap().expose(), b"hello");
    set(A::UserData(None)).await.unwrap();
    assert!(kept().await.is_none());
    let disk = |device: &str, volume, delete_on_termination| {
        let device = device.into();
        A::Disk(DiskChange {
            device,
            volume,
            delete_on_termination,
        })
    };
    for (change, possible) in [
        (disk("/dev/xvda", None, true), true),
        (disk("/dev/xvda", Some(VolumeId::from_db(id.to_db())), true), true),
        (disk("/dev/xvda", None, false), true),
        (A::SourceDestCheck(true), true),
        (A::SourceDestCheck(false), false),
        (A::EbsOptimized(false), true),
        (A::EbsOptimized(true), false),
        (A::EnaSupport(true), true),
        (A::EnaSupport(false), false),
    ] {
        let answer = set(change.clone()).await;
        assert_eq!(answer.is_ok(), possible, "{change:?}");
        assert!(possible || matches!(answer, Err(Error::Unsupported { .. })));
    }
    for absent in [
        disk("/dev/sdz", None, true),
        disk("/dev/sdz", None, false),
        disk("", None, true),
        disk("/dev/xvda", Some(VolumeId::new(1 << 40)), true),
    ] {
        let answer = set(absent.clone()).await;
        assert!(
            matches!(answer, Err(Error::NoDevice { .. })),
            "{absent:?}: {answer:?}"
        );
    }
}

#[tokio::test]
async fn groups_of_a_running_instance() {
    let rig = cloud().await;
    let id = in_state(&rig, State::Running).await;
    let mut groups = Vec::new();
    for i in 0..6 {
        let new = NewGroup {
            name: format!("g{i}"),
            description: "d".into(),
            ..NewGroup::default()
        };
        groups.push(create(&rig.cloud, &rig.who, new).await.unwrap().id());
    }
    let set = async |ids: &[_]| modify_attribute(&rig.cloud, &rig.who, id, A::Groups(ids.to_vec())).await;
    let before = seen(&rig, id).await.row.metadata_revision;
    set(&groups[..2]).await.unwrap();
    let view = seen(&rig, id).await;
    let mut names: Vec<_> = view.interfaces[0]
        .groups
        .iter()
        .map(|group| group.name.as_str())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["g0", "g1"]);
    assert_eq!(view.row.metadata_revision, before.next());
    assert!(matches!(set(&groups).await, Err(Error::LimitExceeded { .. })));
    assert!(set(&[]).await.is_err());
    let foreign = NewGroup {
        name: "theirs".into(),
        description: "d".into(),
        ..NewGroup::default()
    };
    let foreign = create(&rig.cloud, &rig.stranger, foreign).await.unwrap().id();
    assert!(matches!(set(&[foreign]).await, Err(Error::NotFound { .. })));
    assert_eq!(seen(&rig, id).await.interfaces[0].groups.len(), 2);
}

#[tokio::test]
async fn metadata_options_change_what_is_named() {
    let rig = cloud().await;
    let id = in_state(&rig, State::Running).await;
    let set = async |change| modify_metadata_options(&rig.cloud, &rig.who, id, change).await;
    let view = set(MetadataChange {
        tokens_required: Some(true),
        ..MetadataChange::default()
    })
    .await
    .unwrap();
    let view2 = set(MetadataChange {
        hop_limit: Some(3),
        ..MetadataChange::default()
    })
    .await
    .unwrap();
    let options = view2.metadata_options();
    assert!(options.enabled && options.tokens_required && !options.tags);
    assert_eq!(
        (options.hop_limit, view2.row.metadata_revision),
        (3, view.row.metadata_revision.next())
    );
    assert!(view2.metadata_pending);
    assert!(
        set(MetadataChange {
            hop_limit: Some(0),
            ..MetadataChange::default()
        })
        .await
        .is_err()
    );
    rig.settle(id, State::Terminated).await;
    assert!(set(MetadataChange::default()).await.is_err());
}

#[tokio::test]
async fn strangers_and_readers_change_nothing_and_see_no_console() {
    let rig = cloud().await;
    let id = in_state(&rig, State::Stopped).await;
    let (cloud, stranger) = (&rig.cloud, &rig.stranger);
    let answers = [
        modify_attribute(cloud, stranger, id, A::DisableApiStop(true)).await,
        modify_metadata_options(cloud, stranger, id, MetadataChange::default())
            .await
            .map(drop),
        console_output(cloud, stranger, id).await.map(drop),
        console_screenshot(cloud, stranger, id).await.map(drop),
    ];
    for answer in answers {
        assert!(matches!(answer, Err(Error::NotFound { .. })), "{answer:?}");
    }
    let reader = modify_attribute(cloud, &rig.reader(), id, A::DisableApiStop(true)).await;
    assert!(matches!(reader, Err(Error::Unauthorized { .. })));
    assert_eq!(
        console_output(cloud, &rig.reader(), id).await.unwrap().bytes,
        Vec::<u8>::new()
    );
    assert!(matches!(
        console_screenshot(cloud, &rig.who, id).await,
        Err(Error::IncorrectState { .. })
    ));
}
