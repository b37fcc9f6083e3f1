//! Tags, and what they are of.

use cumulet_certs::KeyType;
use cumulet_compute::{instances, key_pairs};
use cumulet_core::tags::{self, TagTarget};
use cumulet_domain::{
    Error, Result,
    tag::{MAX_TAGS, Tag},
};
use cumulet_store::entity::tag;
use sea_orm::{EntityTrait, PaginatorTrait};

use crate::{
    Cloud,
    test_support::{Rig, cloud},
};

impl Rig {
    async fn tag(&self, cloud: &Cloud, target: TagTarget, keys: std::ops::Range<usize>) -> Result<()> {
        let new: Vec<_> = keys
            .map(|n| Tag {
                key: format!("k{n}"),
                value: "v".into(),
            })
            .collect();
        tags::create(cloud, &self.who, &[target], &new).await
    }

    async fn tags(&self) -> u64 {
        tag::Entity::find().count(self.cloud.store.read()).await.unwrap()
    }

    async fn key(&self, name: &str) -> TagTarget {
        let made = key_pairs::create(&self.cloud, &self.who, name, KeyType::Ed25519, Vec::new());
        TagTarget::of(made.await.unwrap().view.id())
    }

    async fn drop_key(&self, cloud: &Cloud, name: &str) -> Result<Option<key_pairs::KeyPairView>> {
        key_pairs::delete(cloud, &self.who, key_pairs::KeyPairRef::Name(name.into())).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_who_fill_up_a_resources_tags() {
    let rig = cloud().await;
    let made = instances::launch(&rig.cloud, &rig.who, rig.spec()).await.unwrap();
    for target in [TagTarget::of(made.instances[0].id()), rig.key("k").await] {
        rig.tag(&rig.cloud, target, 0..MAX_TAGS - 20).await.unwrap();
        let more = async |cloud: &Cloud| rig.tag(cloud, target, 100..115).await;
        let (first, second) = rig
            .overlap(more, async |cloud| rig.tag(cloud, target, 200..215).await)
            .await;
        assert!(first.is_ok(), "{first:?}");
        assert!(matches!(second, Err(Error::LimitExceeded { .. })), "{second:?}");
        // The same keys again are no more.
        let same = async |cloud: &Cloud| rig.tag(cloud, target, 100..120).await;
        let (first, second) = rig
            .overlap(same, async |cloud| rig.tag(cloud, target, 100..120).await)
            .await;
        assert!(first.is_ok() && second.is_ok(), "{first:?} {second:?}");
    }
    assert_eq!(rig.tags().await, 2 * MAX_TAGS as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_gone_has_no_tags() {
    let rig = cloud().await;
    let (one, two) = (rig.key("one").await, rig.key("two").await);
    let tag = async |cloud: &Cloud| rig.tag(cloud, one, 0..3).await;
    let (tagged, deleted) = rig
        .overlap(tag, async |cloud| rig.drop_key(cloud, "one").await)
        .await;
    assert!(tagged.is_ok() && deleted.is_ok_and(|was| was.is_some()));
    let delete = async |cloud: &Cloud| rig.drop_key(cloud, "two").await;
    let (deleted, tagged) = rig
        .overlap(delete, async |cloud| rig.tag(cloud, two, 0..3).await)
        .await;
    assert!(deleted.is_ok_and(|was| was.is_some()));
    assert!(matches!(tagged, Err(Error::NotFound { .. })), "{tagged:?}");
    assert_eq!(rig.tags().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_who_delete_a_key_pair_has_deleted_it() {
    let rig = cloud().await;
    rig.key("k").await;
    let delete = async |cloud: &Cloud| rig.drop_key(cloud, "k").await.unwrap().is_some();
    let answers = rig.overlap(delete, delete).await;
    assert_eq!(answers, (true, false));
}
