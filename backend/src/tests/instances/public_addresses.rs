//! Public addresses: as many as the account's quota and the pool leave, and what becomes of the others.

use std::{collections::HashSet, sync::Arc};

use cumulet_compute::instances::{InstanceView, ReservationView, launch};
use cumulet_core::CloudConfig;
use cumulet_domain::{Error, account::Principal, error::Limit, instance::StateReason};
use futures::future::join_all;

use crate::test_support::{Rig, cloud, with_pool};

/// A cloud whose accounts may have so many.
fn allowing(mut rig: Rig, public_addresses: u64) -> Rig {
    rig.cloud.compute.cx.config = Arc::new(CloudConfig {
        public_addresses,
        ..(*rig.cloud.config).clone()
    });
    rig
}

async fn ask(
    rig: &Rig,
    who: &Principal,
    asked_for: Option<bool>,
    (min, max): (u32, u32),
) -> cumulet_domain::Result<ReservationView> {
    let mut spec = rig.spec();
    (spec.min, spec.max, spec.associate_public_ip) = (min, max, asked_for);
    launch(&rig.cloud, who, spec).await
}

/// How many have an address; those that have none say why by this code.
fn with_address(made: &ReservationView, code: Option<&str>) -> usize {
    let (with, without): (Vec<_>, Vec<_>) =
        made.instances.iter().partition(|view| view.public_ip().is_some());
    for view in &with {
        assert_eq!(view.state_reason(), None);
    }
    for view in without {
        assert_eq!(view.state_reason().map(|reason| reason.code).as_deref(), code);
    }
    with.len()
}

const QUOTA: Option<&str> = Some(StateReason::ADDRESS_QUOTA);
const POOL: Option<&str> = Some(StateReason::NO_ADDRESS);

#[tokio::test]
async fn a_launch_that_did_not_ask_goes_on_without_and_says_so() {
    let rig = allowing(cloud().await, 3);
    let made = ask(&rig, &rig.who, None, (5, 5)).await.unwrap();
    assert_eq!((made.instances.len(), with_address(&made, QUOTA)), (5, 3));
    // What the answer says is what is kept.
    for view in &made.instances {
        assert_eq!(
            super::seen(&rig, view.id()).await.state_reason(),
            view.state_reason()
        );
    }
    let made = ask(&rig, &rig.who, None, (1, 2)).await.unwrap();
    assert_eq!((made.instances.len(), with_address(&made, QUOTA)), (2, 0));
    // Others have theirs, and who wants none needs no reason.
    let made = ask(&rig, &rig.stranger, None, (2, 2)).await.unwrap();
    assert_eq!(with_address(&made, None), 2);
    let made = ask(&rig, &rig.who, Some(false), (2, 2)).await.unwrap();
    assert_eq!(with_address(&made, None), 0);
}

#[tokio::test]
async fn a_launch_that_asks_makes_as_many_as_there_are() {
    let rig = allowing(cloud().await, 3);
    let refused = |most: u64| Error::LimitExceeded {
        limit: Limit::PublicAddresses,
        max: most,
    };
    let answer = ask(&rig, &rig.who, Some(true), (4, 5)).await;
    assert_eq!(answer.unwrap_err(), refused(3));
    let made = ask(&rig, &rig.who, Some(true), (1, 2)).await.unwrap();
    assert_eq!((made.instances.len(), with_address(&made, None)), (2, 2));
    let made = ask(&rig, &rig.who, Some(true), (1, 5)).await.unwrap();
    assert_eq!((made.instances.len(), with_address(&made, None)), (1, 1));
    let answer = ask(&rig, &rig.who, Some(true), (1, 1)).await;
    assert_eq!(answer.unwrap_err(), refused(3));
    assert_eq!(
        rig.account().await.instances_used,
        3,
        "nothing is claimed for what was refused"
    );
}

#[tokio::test]
async fn an_empty_pool_stops_nobody_who_did_not_ask() {
    // Five addresses, of which an account may have three.
    let rig = allowing(with_pool("198.18.7.0/29").await, 0);
    assert_eq!(rig.cloud.config.public_address_quota(), 3);
    let made = ask(&rig, &rig.who, None, (9, 9)).await.unwrap();
    assert_eq!((made.instances.len(), with_address(&made, QUOTA)), (9, 3));
    let made = ask(&rig, &rig.stranger, None, (3, 3)).await.unwrap();
    assert_eq!((made.instances.len(), with_address(&made, POOL)), (3, 2));
    let answer = ask(&rig, &rig.stranger, Some(true), (1, 1)).await;
    assert_eq!(
        answer.unwrap_err(),
        Error::InsufficientPublicAddresses { free: 0, wanted: 1 }
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_quota_is_exact_however_many_ask_at_once() {
    let rig = allowing(cloud().await, 7);
    let one = |n: u32| {
        let asked_for = n.is_multiple_of(2).then_some(true);
        let rig = &rig;
        async move { ask(rig, &rig.who, asked_for, (1, 1)).await }
    };
    let all = join_all((0..40).map(one)).await;
    let views = all.iter().flatten().flat_map(|made| &made.instances);
    let addresses: Vec<_> = views
        .filter_map(|view: &Arc<InstanceView>| view.public_ip())
        .collect();
    let distinct: HashSet<_> = addresses.iter().collect();
    assert_eq!((addresses.len(), distinct.len()), (7, 7));
    let limit = |answer: &&cumulet_domain::Result<_>| match answer {
        Ok(_) => false,
        Err(Error::LimitExceeded {
            limit: Limit::PublicAddresses,
            max: 7,
        }) => true,
        Err(other) => panic!("{other:?}"),
    };
    let refused = all.iter().filter(limit).count();
    assert!((13..=20).contains(&refused), "{refused}");
    assert_eq!(
        rig.account().await.instances_used,
        i64::try_from(40 - refused).unwrap()
    );
}

#[test]
fn half_of_the_pool_is_the_default() {
    for (pool, half) in [
        ("198.18.7.0/24", 127),
        ("198.18.7.0/28", 7),
        ("198.18.7.0/30", 1),
        ("198.18.7.0/32", 0),
    ] {
        let config = CloudConfig {
            region: String::new(),
            availability_zones: Vec::new(),
            public_pool: pool.parse().unwrap(),
            cloud_id: String::new(),
            endpoint: String::new(),
            hypervisor: String::new(),
            retention: cumulet_core::retention::Retention::default(),
            public_addresses: 0,
            quotas: cumulet_core::Quotas::default(),
            modification_cooldown: std::time::Duration::ZERO,
            volume_store: cumulet_domain::volume::VolumeStore::Local,
        };
        assert_eq!(config.public_address_quota(), half, "{pool}");
    }
}
