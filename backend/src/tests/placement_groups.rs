//! Placement groups, over a whole cloud.

use cumulet_compute::{instances, placement_groups::*};
use cumulet_domain::{Error, error::Limit};
use cumulet_store::entity::columns::Count;

use crate::test_support;

fn named(name: &str, strategy: &str) -> NewGroup {
    NewGroup {
        name: name.into(),
        strategy: strategy.into(),
        ..NewGroup::default()
    }
}

#[tokio::test]
async fn groups_are_made_seen_by_their_account_and_deleted_when_nobody_is_in_them() {
    let rig = test_support::cloud().await;
    let (cloud, who) = (&rig.cloud, &rig.who);
    let made = create(cloud, who, named("web", "partition")).await.unwrap();
    assert_eq!(made.row.partition_count, Some(Count(2)));
    let twice = create(cloud, who, named("web", "spread")).await.unwrap_err();
    assert!(matches!(twice, Error::Duplicate { .. }), "{twice}");
    assert_eq!(describe(cloud, who, &[made.id()], &[]).await.unwrap(), [made]);
    assert!(describe(cloud, &rig.stranger, &[], &[]).await.unwrap().is_empty());
    assert!(delete(cloud, &rig.stranger, "web").await.is_err());

    let mut spec = rig.spec();
    (spec.max, spec.placement_group) = (3, Some("web".into()));
    let launched = instances::launch(cloud, who, spec.clone()).await.unwrap();
    let partitions = launched
        .instances
        .iter()
        .map(|view| view.row.partition_number.map(|number| number.0));
    assert_eq!(partitions.collect::<Vec<_>>(), [Some(1), Some(2), Some(1)]);
    spec.partition_number = Some(3);
    let refused = instances::launch(cloud, who, spec).await.unwrap_err();
    assert!(refused.to_string().contains("2 partitions"), "{refused}");

    let used = delete(cloud, who, "web").await.unwrap_err();
    assert!(matches!(used, Error::InUse { .. }), "{used}");
    for view in &launched.instances {
        rig.settle(view.id(), cumulet_domain::instance::State::Terminated)
            .await;
    }
    delete(cloud, who, "web").await.unwrap();
    assert!(delete(cloud, who, "web").await.is_err());
}

#[tokio::test]
async fn an_account_has_so_many_groups_and_another_its_own() {
    let rig = test_support::cloud().await;
    for n in 0..test_support::QUOTAS.placement_groups {
        create(&rig.cloud, &rig.who, named(&format!("g{n}"), ""))
            .await
            .unwrap();
    }
    let refused = create(&rig.cloud, &rig.who, named("more", "")).await.unwrap_err();
    let limit = Limit::PlacementGroups;
    let max = test_support::QUOTAS.placement_groups;
    assert_eq!(refused, Error::LimitExceeded { limit, max });
    create(&rig.cloud, &rig.stranger, named("more", ""))
        .await
        .unwrap();
    delete(&rig.cloud, &rig.who, "g0").await.unwrap();
    create(&rig.cloud, &rig.who, named("more", "")).await.unwrap();
}

#[tokio::test]
async fn what_is_no_group_is_refused() {
    let rig = test_support::cloud().await;
    for (name, strategy, count) in [
        ("", "cluster", None),
        (" web", "cluster", None),
        ("web", "scatter", None),
        ("web", "cluster", Some(2)),
        ("web", "partition", Some(8)),
    ] {
        let new = NewGroup {
            partition_count: count,
            ..named(name, strategy)
        };
        assert!(
            create(&rig.cloud, &rig.who, new).await.is_err(),
            "{name} {strategy}"
        );
    }
}
