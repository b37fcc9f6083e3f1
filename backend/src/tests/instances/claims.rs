//! Claims under concurrency: exactly as many as are allowed get through.

use std::collections::HashSet;

use cumulet_compute::instances::{LaunchSpec, ReservationView, launch};
use cumulet_core::{ClientToken, PageRequest};
use cumulet_domain::{Error, error::Limit};
use cumulet_network::vpcs::{SubnetQuery, describe_subnets};
use cumulet_store::connect;
use futures::future::join_all;

use crate::{
    Cloud,
    test_support::{Rig, cloud, with_pool},
};

async fn fifty(rig: &Rig) -> Vec<cumulet_domain::Result<ReservationView>> {
    join_all((0..50).map(|_| launch(&rig.cloud, &rig.who, rig.spec()))).await
}

/// A launch that asks for a public address.
fn with_address(rig: &Rig) -> LaunchSpec {
    let mut spec = rig.spec();
    spec.associate_public_ip = Some(true);
    spec
}

fn succeeded(all: &[cumulet_domain::Result<ReservationView>]) -> usize {
    all.iter().filter(|answer| answer.is_ok()).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_instance_quota_is_exact() {
    let rig = cloud().await;
    rig.set_quota(49, 1000).await;
    let all = fifty(&rig).await;
    assert_eq!(succeeded(&all), 49);
    let refused = all.into_iter().find_map(Result::err).unwrap();
    assert_eq!(
        refused,
        Error::LimitExceeded {
            limit: Limit::Instances,
            max: 49
        }
    );
    assert_eq!(rig.account().await.instances_used, 49);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_a_hundred_for_the_last_place_one_gets_it() {
    let rig = cloud().await;
    rig.set_quota(5, 1000).await;
    for _ in 0..4 {
        launch(&rig.cloud, &rig.who, rig.spec()).await.unwrap();
    }
    let all = join_all((0..100).map(|_| launch(&rig.cloud, &rig.who, rig.spec()))).await;
    assert_eq!(succeeded(&all), 1, "{:?}", rig.cloud.store.counters());
    let limit = |answer: &cumulet_domain::Result<_>| matches!(answer, Err(Error::LimitExceeded { .. }));
    assert_eq!(all.iter().filter(|answer| limit(answer)).count(), 99);
    assert_eq!(rig.account().await.instances_used, 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_with_one_token_launch_once() {
    let rig = cloud().await;
    let ask = || {
        let mut spec = rig.spec();
        spec.client_token = Some(ClientToken {
            token: "t".into(),
            request_hash: "h".into(),
        });
        launch(&rig.cloud, &rig.who, spec)
    };
    let all = join_all((0..50).map(|_| ask())).await;
    let ids: HashSet<_> = all
        .into_iter()
        .map(|made| made.unwrap().instances[0].id())
        .collect();
    assert_eq!(ids.len(), 1);
    assert_eq!(rig.account().await.instances_used, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_vcpu_quota_is_exact() {
    let rig = cloud().await;
    rig.set_quota(1000, 75).await; // two each
    let all = fifty(&rig).await;
    assert_eq!(succeeded(&all), 37);
    let refused = all.into_iter().find_map(Result::err).unwrap();
    assert_eq!(
        refused,
        Error::LimitExceeded {
            limit: Limit::Vcpus,
            max: 75
        }
    );
    assert_eq!(rig.account().await.vcpus_used, 74);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_small_subnet_gives_out_each_address_once() {
    let rig = cloud().await;
    let subnets = async || {
        let page = describe_subnets(
            &rig.cloud,
            &rig.who,
            &SubnetQuery::default(),
            PageRequest::default(),
        )
        .await;
        page.unwrap().rows.remove(0)
    };
    rig.shrink(subnets().await.row.id.to_db(), "172.31.0.0/28".parse().unwrap())
        .await;
    assert_eq!(subnets().await.available, 11);
    let all = fifty(&rig).await;
    assert_eq!(succeeded(&all), 11);
    let refused = all.iter().find_map(|answer| answer.as_ref().err()).unwrap();
    assert!(
        matches!(
            refused,
            Error::InsufficientAddresses {
                free: 0,
                wanted: 1,
                ..
            }
        ),
        "{refused:?}"
    );
    let addresses: HashSet<_> = all
        .iter()
        .flatten()
        .filter_map(|made| made.instances[0].private_ip())
        .map(|ip| ip.octets()[3])
        .collect();
    assert_eq!(addresses, (4..15).collect());
    assert_eq!(subnets().await.available, 0);
    assert_eq!(rig.account().await.instances_used, 11);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_small_public_pool_gives_out_each_address_once() {
    let rig = with_pool("198.18.7.0/28").await;
    let all = join_all((0..50).map(|_| launch(&rig.cloud, &rig.who, with_address(&rig)))).await;
    let few = |error: &&Error| matches!(error, Error::InsufficientPublicAddresses { free: 0, wanted: 1 });
    assert!(
        all.iter()
            .filter_map(|answer| answer.as_ref().err())
            .all(|error| few(&error)),
        "{all:?}"
    );
    let addresses: HashSet<_> = all
        .iter()
        .flatten()
        .filter_map(|made| made.instances[0].public_ip())
        .map(|ip| ip.octets()[3])
        .collect();
    assert_eq!(succeeded(&all), 13);
    assert_eq!(addresses, (2..15).collect());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_address_is_asked_for_by_many_and_given_to_one() {
    let rig = cloud().await;
    let ask = || {
        let mut spec = rig.spec();
        spec.private_ip = Some([172, 31, 0, 77].into());
        launch(&rig.cloud, &rig.who, spec)
    };
    let all = join_all((0..20).map(|_| ask())).await;
    assert_eq!(succeeded(&all), 1);
    let lost = |answer: &&cumulet_domain::Result<_>| matches!(answer, Err(Error::AddressInUse { address }) if address == "172.31.0.77");
    assert_eq!(all.iter().filter(lost).count(), 19);
}

/// Another gateway over the same database, with connections of its own.
async fn gateway(rig: &Rig) -> Cloud {
    let mut gateway = rig.cloud.clone();
    gateway.compute.cx.store = connect(&rig.database.options(4)).await.unwrap();
    gateway
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn several_gateways_share_a_quota_a_pool_and_a_token() {
    let rig = with_pool("198.18.7.0/28").await;
    let rig = &rig;
    rig.set_quota(11, 1000).await;
    let gateways = [rig.cloud.clone(), gateway(rig).await, gateway(rig).await];
    let launches = gateways.iter().cycle().take(30).map(|gateway| {
        let spec = rig.spec();
        async move { launch(gateway, &rig.who, spec).await }
    });
    let all = join_all(launches).await;
    assert_eq!(succeeded(&all), 11);
    assert_eq!(rig.account().await.instances_used, 11);

    // Two public addresses are left, and another account has room.
    let launches = gateways.iter().cycle().take(9).map(|gateway| {
        let spec = with_address(rig);
        async move { launch(gateway, &rig.stranger, spec).await }
    });
    let others = join_all(launches).await;
    assert_eq!(succeeded(&others), 2);
    let addresses: HashSet<_> = all
        .iter()
        .chain(&others)
        .flatten()
        .map(|made| made.instances[0].public_ip())
        .collect();
    assert_eq!(addresses.len(), 13);

    let launches = gateways.iter().cycle().take(9).map(|gateway| {
        let mut spec = rig.spec();
        spec.associate_public_ip = Some(false);
        spec.client_token = Some(ClientToken {
            token: "t".into(),
            request_hash: "h".into(),
        });
        async move { launch(gateway, &rig.stranger, spec).await }
    });
    let same = join_all(launches).await;
    let made: HashSet<_> = same
        .iter()
        .map(|made| made.as_ref().unwrap().instances[0].id())
        .collect();
    assert_eq!(made.len(), 1);
}
