//! The first start: what it makes, once, whatever comes together.

use std::time::Duration;

use cumulet_certs::{MasterKey, Sealer};
use cumulet_core::{CloudConfig, Quotas, Wake, retention::Retention};
use cumulet_domain::account::Role;
use cumulet_identity::{accounts, key_proof::has_key};
use cumulet_operator::bootstrap::*;
use cumulet_store::{
    entity::{instance_type, security_group, security_group_rule, setting, subnet},
    failed, settings,
};
use sea_orm::EntityTrait;

use crate::{Cloud, test_support::parts};

fn plan(zones: &[&str]) -> FirstPlan {
    FirstPlan {
        availability_zones: zones.iter().map(ToString::to_string).collect(),
        public_pool: "198.18.0.0/16".parse().unwrap(),
    }
}

#[tokio::test]
async fn the_first_start_makes_everything_and_the_second_changes_nothing() {
    let (_dir, parts, _) = parts().await;
    let first = bootstrap(&parts, &plan(&["us-east-1a"])).await.unwrap();
    assert!(first.created);
    let secret = accounts::access_key_secret(&parts, &first.access_key_id)
        .await
        .unwrap();
    assert_eq!(secret.expose().len(), 40);
    let other = FirstPlan {
        public_pool: "10.9.0.0/16".parse().unwrap(),
        ..plan(&["us-east-1a"])
    };
    let again = bootstrap(&parts, &other).await.unwrap();
    assert_eq!(
        again,
        FirstStart {
            created: false,
            ..first
        }
    );
    let conn = parts.store.read();
    let subnets = subnet::Entity::find().all(conn).await.unwrap();
    assert_eq!(
        subnets.iter().map(|s| s.cidr.to_string()).collect::<Vec<_>>(),
        ["172.31.0.0/20"]
    );
    assert_eq!(security_group::Entity::find().all(conn).await.unwrap().len(), 1);
    assert_eq!(
        security_group_rule::Entity::find().all(conn).await.unwrap().len(),
        2
    );
    assert!(instance_type::Entity::find().all(conn).await.unwrap().len() >= 40);
}

#[tokio::test]
async fn a_key_that_is_not_the_clouds_is_found() {
    let (_dir, parts, _) = parts().await;
    let other = Sealer::new(MasterKey::from_bytes([8; 32]));
    let has = async |sealer: &Sealer| has_key(parts.store.read(), sealer).await.unwrap();
    assert!(
        has(&other).await,
        "before the first start any key may become the cloud's"
    );
    bootstrap(&parts, &plan(&["us-east-1a"])).await.unwrap();
    assert_eq!((has(&parts.sealer).await, has(&other).await), (true, false));
    // A cloud of before the proof is known by the secret of its first access key, and gets the proof at its next start.
    let proof = setting::Entity::delete_by_id(settings::MASTER_KEY_PROOF);
    parts
        .store
        .write(|txn| Box::pin(async move { proof.exec(txn).await.map(drop).map_err(failed) }))
        .await
        .unwrap();
    assert_eq!((has(&parts.sealer).await, has(&other).await), (true, false));
    bootstrap(&parts, &plan(&["us-east-1a"])).await.unwrap();
    let proof = settings::get(parts.store.read(), settings::MASTER_KEY_PROOF)
        .await
        .unwrap();
    assert!(proof.is_some());
}

#[tokio::test]
async fn a_new_zone_gets_its_subnet_at_the_next_start() {
    let (_dir, parts, _) = parts().await;
    bootstrap(&parts, &plan(&["us-east-1a"])).await.unwrap();
    bootstrap(&parts, &plan(&["us-east-1a", "us-east-1b"]))
        .await
        .unwrap();
    let subnets = subnet::Entity::find().all(parts.store.read()).await.unwrap();
    let mut found: Vec<_> = subnets
        .iter()
        .map(|s| (s.availability_zone.clone(), s.cidr.to_string()))
        .collect();
    found.sort_unstable();
    assert_eq!(
        found,
        [("us-east-1a", "172.31.0.0/20"), ("us-east-1b", "172.31.16.0/20")]
            .map(|(zone, cidr)| (zone.into(), cidr.into()))
    );
}

#[tokio::test]
async fn two_first_starts_at_once_make_one_cloud() {
    let (_dir, parts, _) = parts().await;
    let plan = plan(&["us-east-1a"]);
    let (a, b) = tokio::join!(bootstrap(&parts, &plan), bootstrap(&parts, &plan));
    let (a, b) = (a.unwrap(), b.unwrap());
    assert_eq!((&a.cloud_id, &a.access_key_id), (&b.cloud_id, &b.access_key_id));
    assert!(a.created != b.created);
}

#[tokio::test]
async fn keys_speak_for_their_users_until_they_are_disabled() {
    let (_dir, parts, clock) = parts().await;
    let first = bootstrap(&parts, &plan(&["us-east-1a"])).await.unwrap();
    let config = CloudConfig {
        region: "us-east-1".into(),
        availability_zones: vec!["us-east-1a".into()],
        public_pool: first.public_pool,
        cloud_id: first.cloud_id.clone(),
        hypervisor: "fake".into(),
        endpoint: "127.0.0.1:8773".into(),
        retention: Retention::default(),
        public_addresses: 0,
        quotas: Quotas::default(),
        modification_cooldown: std::time::Duration::ZERO,
        volume_store: cumulet_domain::volume::VolumeStore::Local,
    };
    let cloud = Cloud::new(
        parts.clone(),
        Wake::new(),
        std::sync::Arc::new(cumulet_bus::LocalBus::new()),
        config,
    );
    accounts::create_user(&parts, first.account, "eve", Role::ReadOnly)
        .await
        .unwrap();
    assert!(
        accounts::create_user(&parts, first.account, "eve", Role::ReadOnly)
            .await
            .is_err()
    );
    let key = accounts::create_access_key(&parts, first.account, "eve")
        .await
        .unwrap();
    let found = accounts::credential(&cloud, &cloud.credentials, &key.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(found.secret.expose(), key.secret.expose());
    assert_eq!(
        (found.principal.user_name.as_str(), found.principal.role),
        ("eve", Role::ReadOnly)
    );
    assert!(
        accounts::credential(&cloud, &cloud.credentials, "AKIAAAAAAAAAAAAAAAAA")
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        accounts::credential(&cloud, &cloud.credentials, "nonsense")
            .await
            .unwrap()
            .is_none()
    );

    accounts::set_access_key_enabled(&parts, &cloud.credentials, &key.id, false)
        .await
        .unwrap();
    assert!(
        accounts::credential(&cloud, &cloud.credentials, &key.id)
            .await
            .unwrap()
            .is_none()
    );
    accounts::set_access_key_enabled(&parts, &cloud.credentials, &key.id, true)
        .await
        .unwrap();
    assert!(
        accounts::credential(&cloud, &cloud.credentials, &key.id)
            .await
            .unwrap()
            .is_some()
    );

    // Another process has a cache of its own, and this one hears of it a second later.
    let elsewhere = accounts::CredentialCache::default();
    accounts::delete_access_key(&parts, &elsewhere, &key.id)
        .await
        .unwrap();
    clock.advance(Duration::from_secs(1));
    assert!(
        accounts::credential(&cloud, &cloud.credentials, &key.id)
            .await
            .unwrap()
            .is_none()
    );
    assert_eq!(
        accounts::list_access_keys(&parts, first.account)
            .await
            .unwrap()
            .len(),
        1
    );
}
