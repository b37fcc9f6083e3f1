//! Hosts, aggregates, and the first start.

use cumulet_domain::id::HostId;
use cumulet_operator::{
    bootstrap::{FirstPlan, bootstrap},
    hosts,
};
use cumulet_store::entity::{aggregate_host, columns::Owner, subnet};
use sea_orm::EntityTrait;

use crate::{
    Cloud,
    test_support::{ZONE, cloud},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_is_gone_is_in_an_aggregate() {
    let rig = cloud().await;
    let host = HostId("host-1".into());
    for name in ["one", "two", "three"] {
        hosts::aggregates::create(&rig.cloud.parts(), name).await.unwrap();
    }
    let add = async |cloud: &Cloud, name| hosts::aggregates::add_host(&cloud.parts(), name, &host).await;
    let (added, deleted) = rig
        .overlap(
            async |cloud| add(cloud, "one").await,
            async |cloud| hosts::aggregates::delete(&cloud.parts(), "one").await,
        )
        .await;
    assert!(added.is_ok() && deleted.is_err(), "{added:?} {deleted:?}");
    let (deleted, added) = rig
        .overlap(
            async |cloud| hosts::aggregates::delete(&cloud.parts(), "two").await,
            async |cloud| add(cloud, "two").await,
        )
        .await;
    assert!(deleted.is_ok() && added.is_err(), "{deleted:?} {added:?}");
    let (added, removed) = rig
        .overlap(
            async |cloud| add(cloud, "three").await,
            async |cloud| hosts::remove(&cloud.parts(), &host).await,
        )
        .await;
    assert!(added.is_ok() && removed.is_ok(), "{added:?} {removed:?}");
    let left = aggregate_host::Entity::find().all(rig.cloud.store.read()).await;
    assert_eq!(left.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_starts_with_a_new_zone_make_one_subnet_in_it() {
    let rig = cloud().await;
    let start = async |cloud: &Cloud| {
        let plan = FirstPlan {
            availability_zones: vec![ZONE.into(), "us-east-1b".into()],
            public_pool: cloud.config.public_pool,
        };
        bootstrap(&cloud.parts(), &plan).await
    };
    let (one, two) = rig.overlap(start, start).await;
    assert!(one.is_ok() && two.is_ok(), "{one:?} {two:?}");
    let all = subnet::Entity::find().all(rig.cloud.store.read()).await.unwrap();
    let own = all.iter().filter(|row| row.account == Owner(rig.who.account));
    let mut found: Vec<_> = own
        .map(|row| (row.availability_zone.clone(), row.cidr.to_string()))
        .collect();
    found.sort_unstable();
    assert_eq!(
        found,
        [(ZONE, "172.31.0.0/20"), ("us-east-1b", "172.31.16.0/20")]
            .map(|(zone, cidr)| (zone.to_owned(), cidr.to_owned()))
    );
}
