//! Tests of the family over a real database.

use cumulet_certs::KeyType;
use cumulet_compute::{
    instances::{self, InstanceQuery},
    key_pairs,
    placement_groups::{self, NewGroup},
};
use cumulet_core::{PageRequest, tags::*};
use cumulet_domain::{Error, ResourceKind, error::Limit, id::InstanceId, tag::Tag};
use cumulet_network::security_groups;

use crate::test_support::{Rig, cloud, pages};

fn tag(key: &str, value: &str) -> Tag {
    Tag {
        key: key.into(),
        value: value.into(),
    }
}

async fn instance(rig: &Rig) -> InstanceId {
    instances::launch(&rig.cloud, &rig.who, rig.spec())
        .await
        .unwrap()
        .instances[0]
        .id()
}

async fn tags_of(rig: &Rig, id: InstanceId) -> Vec<Tag> {
    let query = InstanceQuery {
        ids: vec![id],
        ..InstanceQuery::default()
    };
    let page = instances::describe(&rig.cloud, &rig.who, &query, PageRequest::default())
        .await
        .unwrap();
    page.rows[0].tags.clone()
}

#[tokio::test]
async fn tags_are_set_replaced_and_removed() {
    let rig = cloud().await;
    let id = instance(&rig).await;
    let group = security_groups::GroupQuery::default();
    let group = security_groups::describe(&rig.cloud, &rig.who, &group, PageRequest::default())
        .await
        .unwrap();
    let targets = [TagTarget::of(id), TagTarget::of(group.rows[0].id())];
    let set = async |new: &[Tag]| create(&rig.cloud, &rig.who, &targets, new).await;
    let unset = async |key: &str, value: Option<&str>| {
        let selector = TagSelector {
            key: key.into(),
            value: value.map(Into::into),
        };
        delete(&rig.cloud, &rig.who, &targets[..1], &[selector]).await
    };
    set(&[tag("Name", "a"), tag("env", "x")]).await.unwrap();
    set(&[tag("Name", "b")]).await.unwrap();
    assert_eq!(tags_of(&rig, id).await, [tag("Name", "b"), tag("env", "x")]);
    unset("Name", Some("a")).await.unwrap();
    assert_eq!(tags_of(&rig, id).await.len(), 2);
    unset("Name", Some("b")).await.unwrap();
    unset("never there", None).await.unwrap();
    assert_eq!(tags_of(&rig, id).await, [tag("env", "x")]);
    delete(&rig.cloud, &rig.who, &targets[..1], &[]).await.unwrap();
    assert!(tags_of(&rig, id).await.is_empty());
    let all = describe(&rig.cloud, &rig.who, &TagQuery::default(), PageRequest::default())
        .await
        .unwrap();
    assert_eq!(all.rows.len(), 2);
    assert!(
        all.rows
            .iter()
            .all(|view| view.resource_id() == group.rows[0].id().to_string())
    );
}

#[tokio::test]
async fn one_bad_resource_spoils_the_request() {
    let rig = cloud().await;
    let id = instance(&rig).await;
    let unknown = TagTarget::of(InstanceId::new(1 << 40));
    let volume = TagTarget::from_db(ResourceKind::Volume, id.to_db());
    let answer = create(
        &rig.cloud,
        &rig.who,
        &[TagTarget::of(id), unknown],
        &[tag("a", "b")],
    )
    .await;
    assert!(
        matches!(answer, Err(Error::NotFound { kind: ResourceKind::Instance, id }) if id == unknown.printed())
    );
    assert!(tags_of(&rig, id).await.is_empty());
    create(&rig.cloud, &rig.who, &[volume], &[tag("a", "b")])
        .await
        .unwrap();
    for targets in [
        vec![TagTarget::of(id)],
        vec![volume],
        vec![TagTarget::of(rig.image)],
    ] {
        let answer = create(&rig.cloud, &rig.stranger, &targets, &[tag("a", "b")]).await;
        assert!(matches!(answer, Err(Error::NotFound { .. })), "{targets:?}");
        assert!(delete(&rig.cloud, &rig.stranger, &targets, &[]).await.is_err());
        assert!(matches!(
            create(&rig.cloud, &rig.reader(), &targets, &[tag("a", "b")]).await,
            Err(Error::Unauthorized { .. })
        ));
    }
}

#[tokio::test]
async fn limits_of_tags() {
    let rig = cloud().await;
    let target = [TagTarget::of(instance(&rig).await)];
    let many = |n: usize| (0..n).map(|i| tag(&format!("k{i}"), "v")).collect::<Vec<_>>();
    let set = async |new: Vec<Tag>| create(&rig.cloud, &rig.who, &target, &new).await;
    assert!(matches!(
        set(many(51)).await,
        Err(Error::LimitExceeded {
            limit: Limit::Tags,
            max: 50
        })
    ));
    set(many(50)).await.unwrap();
    assert!(matches!(
        set(vec![tag("one more", "")]).await,
        Err(Error::LimitExceeded { .. })
    ));
    set(vec![tag("k3", "other")]).await.unwrap();
    for bad in [
        tag("aws:x", ""),
        tag("", "x"),
        tag(&"k".repeat(129), ""),
        tag("k", &"v".repeat(257)),
        tag("k\u{7}", ""),
    ] {
        assert!(matches!(
            set(vec![bad]).await,
            Err(Error::InvalidParameter { .. })
        ));
    }
    assert!(set(vec![tag("k", "1"), tag("k", "2")]).await.is_err());
    assert!(create(&rig.cloud, &rig.who, &[], &[tag("k", "v")]).await.is_err());
    let targets = vec![target[0]; 1001];
    assert!(
        create(&rig.cloud, &rig.who, &targets, &[tag("k", "v")])
            .await
            .is_err()
    );
}

#[tokio::test]
async fn tags_come_in_pages_and_by_query() {
    let rig = cloud().await;
    for _ in 0..3 {
        let id = TagTarget::of(instance(&rig).await);
        create(
            &rig.cloud,
            &rig.who,
            &[id],
            &[tag("a", "1"), tag("b", "2"), tag("c", "1")],
        )
        .await
        .unwrap();
    }
    let list = async |page| describe(&rig.cloud, &rig.who, &TagQuery::default(), page).await;
    assert_eq!(pages(2, list).await.iter().map(Vec::len).sum::<usize>(), 9);
    let query = TagQuery {
        values: vec!["1".into()],
        keys: vec!["a".into(), "b".into()],
        ..TagQuery::default()
    };
    let page = describe(&rig.cloud, &rig.who, &query, PageRequest::default())
        .await
        .unwrap();
    assert_eq!(page.rows.len(), 3);
    let foreign = describe(
        &rig.cloud,
        &rig.stranger,
        &TagQuery::default(),
        PageRequest::default(),
    )
    .await;
    assert!(foreign.unwrap().rows.is_empty());
}

#[tokio::test]
async fn an_account_has_so_many_tags_altogether() {
    let rig = cloud().await;
    let full = |refused: Error| {
        let (limit, max) = (Limit::Tags, crate::test_support::QUOTAS.tags);
        assert_eq!(refused, Error::LimitExceeded { limit, max });
    };
    let fifty: Vec<Tag> = (0..50).map(|n| tag(&format!("k{n}"), "v")).collect();
    let mut ids = Vec::new();
    for _ in 0..crate::test_support::QUOTAS.tags / 50 {
        ids.push(instance(&rig).await);
        create(&rig.cloud, &rig.who, &[TagTarget::of(ids[ids.len() - 1])], &fifty)
            .await
            .unwrap();
    }
    // In every way in which tags are made.
    let one = [tag("one", "more")];
    let more = instance(&rig).await;
    full(
        create(&rig.cloud, &rig.who, &[TagTarget::of(more)], &one)
            .await
            .unwrap_err(),
    );
    let mut spec = rig.spec();
    spec.tags.volume = one.to_vec();
    full(instances::launch(&rig.cloud, &rig.who, spec).await.unwrap_err());
    let group = NewGroup {
        name: "g".into(),
        tags: one.to_vec(),
        ..NewGroup::default()
    };
    full(
        placement_groups::create(&rig.cloud, &rig.who, group)
            .await
            .unwrap_err(),
    );
    let key = key_pairs::create(&rig.cloud, &rig.who, "k", KeyType::Ed25519, one.to_vec());
    full(key.await.unwrap_err());
    // Others have their own, and what was removed makes room.
    let made = instances::launch(&rig.cloud, &rig.stranger, rig.spec())
        .await
        .unwrap();
    let theirs = TagTarget::of(made.instances[0].id());
    create(&rig.cloud, &rig.stranger, &[theirs], &one).await.unwrap();
    delete(&rig.cloud, &rig.who, &[TagTarget::of(ids[0])], &[])
        .await
        .unwrap();
    create(&rig.cloud, &rig.who, &[TagTarget::of(more)], &one)
        .await
        .unwrap();
    // An account that has all that it may changes what it has.
    let other: Vec<Tag> = (0..50).map(|n| tag(&format!("k{n}"), "other")).collect();
    let fill = &fifty[..49];
    create(&rig.cloud, &rig.who, &[TagTarget::of(more)], fill)
        .await
        .unwrap();
    let last = TagTarget::of(ids[ids.len() - 1]);
    create(&rig.cloud, &rig.who, &[last], &other).await.unwrap();
    let target = TagTarget::of(ids[0]);
    full(create(&rig.cloud, &rig.who, &[target], &one).await.unwrap_err());
    assert!(tags_of(&rig, ids[0]).await.is_empty());
}

/// Changes that come together go by what the others write, not by what was there when they came.
#[tokio::test]
async fn tags_that_come_together_are_no_more_than_an_account_may_have() {
    let rig = cloud().await;
    let mut ids = Vec::new();
    for _ in 0..crate::test_support::QUOTAS.tags / 40 + 5 {
        ids.push(TagTarget::of(instance(&rig).await));
    }
    let forty: Vec<Tag> = (0..40).map(|n| tag(&format!("k{n}"), "v")).collect();
    let all = ids.iter().map(std::slice::from_ref);
    let all = all.map(|id| create(&rig.cloud, &rig.who, id, &forty));
    let made = futures::future::join_all(all).await;
    let made = made.iter().filter(|made| made.is_ok()).count() as u64;
    let page = PageRequest::default();
    let tags = describe(&rig.cloud, &rig.who, &TagQuery::default(), page)
        .await
        .unwrap();
    assert_eq!(made * 40, tags.rows.len() as u64);
    // On a server those that count at the same time don't see each other.
    if !rig.database.is_on_server() {
        assert_eq!(made, crate::test_support::QUOTAS.tags / 40);
    }
}
