//! Launches, and what they name.

use cumulet_compute::{
    instances::{self, LaunchSpec, ReservationView},
    placement_groups,
};
use cumulet_domain::{Error, Result};
use cumulet_storage::images;
use futures::future::join_all;

use crate::{
    Cloud,
    test_support::{Rig, cloud, image, with_pool},
};

impl Rig {
    async fn launch(&self, cloud: &Cloud, spec: &LaunchSpec) -> Result<ReservationView> {
        instances::launch(cloud, &self.who, spec.clone()).await
    }

    async fn forget_image(&self, cloud: &Cloud) -> Result<bool> {
        images::delete(&cloud.parts(), self.image)
            .await
            .map(|(_, last)| last)
    }
}

fn not_found<T>(answer: &Result<T>) -> bool {
    matches!(answer, Err(Error::NotFound { .. }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_is_launched_from_is_not_deleted() {
    let rig = cloud().await;
    let launch = async |cloud: &Cloud| rig.launch(cloud, &rig.spec()).await;
    let (launched, deleted) = rig
        .overlap(launch, async |cloud| rig.forget_image(cloud).await)
        .await;
    assert!(launched.is_ok(), "{launched:?}");
    assert!(matches!(deleted, Err(Error::InUse { .. })), "{deleted:?}");

    let rig = cloud().await;
    let delete = async |cloud: &Cloud| rig.forget_image(cloud).await;
    let launch = async |cloud: &Cloud| rig.launch(cloud, &rig.spec()).await;
    let (deleted, launched) = rig.overlap(delete, launch).await;
    assert!(
        deleted.is_ok() && not_found(&launched),
        "{deleted:?} {launched:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn launches_from_one_image_do_not_wait_for_each_other() {
    let rig = cloud().await;
    let of = async |cloud: &Cloud, who| instances::launch(cloud, who, rig.spec()).await.map(drop);
    let (one, other) = rig
        .overlap(
            async |cloud| of(cloud, &rig.who).await,
            async |cloud| {
                let asked = std::time::Instant::now();
                of(cloud, &rig.stranger).await.map(|()| asked.elapsed())
            },
        )
        .await;
    assert!(one.is_ok(), "{one:?}");
    // The first one is held open for 400 ms.
    let took = other.unwrap();
    assert!(took < std::time::Duration::from_millis(350), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_images_of_one_name() {
    let rig = cloud().await;
    let register = async |cloud: &Cloud| {
        let new = image(rig.who.account, "same", false);
        images::add(&cloud.parts(), new).await
    };
    let (one, two) = rig.overlap(register, register).await;
    assert!(one.is_ok(), "{one:?}");
    assert!(matches!(two, Err(Error::ImageNameTaken { .. })), "{two:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_placement_group_that_is_launched_into_is_not_deleted() {
    let rig = cloud().await;
    for name in ["web", "other"] {
        let new = placement_groups::NewGroup {
            name: name.into(),
            strategy: "spread".into(),
            ..placement_groups::NewGroup::default()
        };
        placement_groups::create(&rig.cloud, &rig.who, new).await.unwrap();
    }
    let spec = |name: &str| LaunchSpec {
        placement_group: Some(name.into()),
        ..rig.spec()
    };
    let launch = async |cloud: &Cloud, name| rig.launch(cloud, &spec(name)).await;
    let delete = async |cloud: &Cloud, name| placement_groups::delete(cloud, &rig.who, name).await;
    let (launched, deleted) = rig
        .overlap(
            async |cloud| launch(cloud, "web").await,
            async |cloud| delete(cloud, "web").await,
        )
        .await;
    assert!(launched.is_ok(), "{launched:?}");
    assert!(matches!(deleted, Err(Error::InUse { .. })), "{deleted:?}");
    let (deleted, launched) = rig
        .overlap(
            async |cloud| delete(cloud, "other").await,
            async |cloud| launch(cloud, "other").await,
        )
        .await;
    assert!(
        deleted.is_ok() && not_found(&launched),
        "{deleted:?} {launched:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_public_address_that_somebody_else_draws_is_not_the_private_one_that_was_asked_for() {
    // 13 public addresses for 20 launches of two accounts, which have no row in common but those.
    let rig = with_pool("198.18.9.0/28").await;
    let launch = async |n: u8| {
        let who = if n.is_multiple_of(2) {
            &rig.who
        } else {
            &rig.stranger
        };
        let spec = LaunchSpec {
            private_ip: Some([172, 31, 0, 20 + n].into()),
            associate_public_ip: Some(true),
            ..rig.spec()
        };
        instances::launch(&rig.cloud, who, spec).await
    };
    let all = join_all((0..20).map(launch)).await;
    let refused: Vec<_> = all.iter().filter_map(|answer| answer.as_ref().err()).collect();
    assert_eq!(refused.len(), 7, "{refused:?}");
    let few = |error: &&Error| matches!(error, Error::InsufficientPublicAddresses { .. });
    assert!(refused.iter().all(few), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_has_not_asked_for_a_public_address_is_launched_however_many_draw_the_last_ones() {
    let rig = with_pool("198.18.9.0/28").await;
    let launch = async |n: u8| {
        let who = if n.is_multiple_of(2) {
            &rig.who
        } else {
            &rig.stranger
        };
        instances::launch(&rig.cloud, who, rig.spec()).await
    };
    let all = join_all((0..30).map(launch)).await;
    let mut addresses = Vec::new();
    for answer in all {
        let made = answer.unwrap();
        let view = &made.instances[0];
        assert_eq!(view.public_ip().is_none(), view.state_reason().is_some());
        addresses.extend(view.public_ip());
    }
    let drawn = addresses.len();
    addresses.sort_unstable();
    addresses.dedup();
    assert_eq!(addresses.len(), drawn, "each is one instance's");
    assert!((1..=13).contains(&drawn), "{drawn}");
}
