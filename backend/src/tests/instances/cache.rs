//! What is kept in memory is what a read would give: the same cloud is asked twice, once with an empty
//! cache.

use std::time::Duration;

use cumulet_compute::instances::{
    AttributeChange, InstanceCache, InstanceQuery, MetadataChange, ReservationView, describe,
    describe_reservations, launch, modify_attribute, modify_metadata_options, reboot, start, stop, terminate,
};
use cumulet_core::{
    PageRequest, audit_log,
    tags::{self, TagTarget},
};
use cumulet_domain::{Error, account::Principal, id::InstanceId, instance::State, tag::Tag};
use cumulet_network::security_groups::{self, NewGroup};
use cumulet_store::{
    Invalidates,
    entity::{columns::Key, host},
    failed,
};
use proptest::prelude::*;
use sea_orm::{EntityTrait as _, sea_query::Expr};

use crate::{
    Cloud,
    test_support::{Rig, cloud},
};

fn named(ids: &[InstanceId]) -> InstanceQuery {
    InstanceQuery {
        ids: ids.to_vec(),
        ..InstanceQuery::default()
    }
}

async fn listed(cloud: &Cloud, who: &Principal, query: &InstanceQuery) -> Vec<ReservationView> {
    let page = describe_reservations(cloud, who, query, PageRequest::default());
    page.await.unwrap().rows
}

/// The same cloud with nothing kept.
fn forgetful(cloud: &Cloud) -> Cloud {
    let mut cloud = cloud.clone();
    cloud.compute.instances = InstanceCache::default();
    cloud
}

async fn tag(rig: &Rig, cloud: &Cloud, id: InstanceId, value: &str) {
    let target = TagTarget::parse(&id.to_string()).unwrap();
    let new = Tag {
        key: "k".into(),
        value: value.into(),
    };
    tags::create(cloud, &rig.who, &[target], &[new]).await.unwrap();
}

/// Asks everything in every way, with what is kept and without.
async fn compare(rig: &Rig, ids: &[InstanceId]) {
    for who in [&rig.who, &rig.stranger] {
        let running = InstanceQuery {
            states: vec![State::Running],
            ..InstanceQuery::default()
        };
        let queries = [InstanceQuery::default(), running, named(ids)];
        let one = ids.iter().map(|id| named(&[*id]));
        for query in queries.into_iter().chain(one) {
            for limit in [None, Some(1), Some(3)] {
                let first = || PageRequest { limit, after: None };
                let page = |after| PageRequest { limit, after };
                let again = forgetful(&rig.cloud);
                assert_eq!(
                    describe(&rig.cloud, who, &query, first()).await,
                    describe(&again, who, &query, first()).await,
                    "{query:?} {limit:?}"
                );
                let again = forgetful(&rig.cloud);
                let kept = describe_reservations(&rig.cloud, who, &query, page(None)).await;
                assert_eq!(kept, describe_reservations(&again, who, &query, page(None)).await);
                if let Some(after) = kept.ok().and_then(|page| page.next) {
                    let next = || page(Some(after));
                    assert_eq!(
                        describe_reservations(&rig.cloud, who, &query, next()).await,
                        describe_reservations(&again, who, &query, next()).await,
                    );
                }
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Call {
    Launch { mine: bool, count: u32 },
    Power(u8, usize),
    Tag(usize, u8),
    Untag(usize),
    Attribute(usize, bool),
    Metadata(usize, u8),
    Group(u8),
    Settle(usize, State),
    Rehearse(usize),
    Pass(u64),
}

fn call() -> impl Strategy<Value = Call> {
    let state = prop::sample::select(&[State::Running, State::Stopped, State::Terminated][..]);
    prop_oneof![
        2 => (any::<bool>(), 1..4_u32).prop_map(|(mine, count)| Call::Launch { mine, count }),
        3 => (0..4_u8, 0..9_usize).prop_map(|(what, n)| Call::Power(what, n)),
        2 => (0..9_usize, any::<u8>()).prop_map(|(n, value)| Call::Tag(n, value)),
        1 => (0..9_usize).prop_map(Call::Untag),
        1 => (0..9_usize, any::<bool>()).prop_map(|(n, on)| Call::Attribute(n, on)),
        1 => (0..9_usize, 1..65_u8).prop_map(|(n, hops)| Call::Metadata(n, hops)),
        1 => any::<u8>().prop_map(Call::Group),
        3 => (0..9_usize, state).prop_map(|(n, state)| Call::Settle(n, state)),
        1 => (0..9_usize).prop_map(Call::Rehearse),
        1 => (1..50_u64).prop_map(Call::Pass),
    ]
}

/// Refusals are as good as successes: what counts is that both ways of asking agree afterwards.
async fn run(rig: &Rig, call: Call, ids: &mut Vec<InstanceId>) {
    let (cloud, who) = (&rig.cloud, &rig.who);
    let of = |n: usize| ids[n % ids.len()];
    match call {
        Call::Launch { mine, count } => {
            let mut spec = rig.spec();
            spec.max = count;
            let who = if mine { who } else { &rig.stranger };
            let made = launch(cloud, who, spec).await.unwrap();
            ids.extend(made.instances.iter().map(|view| view.id()).filter(|_| mine));
        }
        Call::Power(what, n) => {
            let id = [of(n)];
            let _ = match what {
                0 => start(cloud, who, &id).await.map(drop),
                1 => stop(cloud, who, &id, false).await.map(drop),
                2 => terminate(cloud, who, &id).await.map(drop),
                _ => reboot(cloud, who, &id).await,
            };
        }
        Call::Tag(n, value) => {
            let target = [TagTarget::parse(&of(n).to_string()).unwrap()];
            let (key, value) = (format!("k{}", value % 3), value.to_string());
            let _ = tags::create(cloud, who, &target, &[Tag { key, value }]).await;
        }
        Call::Untag(n) => {
            let target = [TagTarget::parse(&of(n).to_string()).unwrap()];
            let _ = tags::delete(cloud, who, &target, &[]).await;
        }
        Call::Attribute(n, on) => {
            let change = AttributeChange::DisableApiTermination(on);
            let _ = modify_attribute(cloud, who, of(n), change).await;
        }
        Call::Metadata(n, hops) => {
            let change = MetadataChange {
                hop_limit: Some(hops),
                ..MetadataChange::default()
            };
            let _ = modify_metadata_options(cloud, who, of(n), change).await;
        }
        Call::Group(n) => {
            let new = NewGroup {
                name: format!("g{n}"),
                description: "a group".into(),
                vpc: None,
                tags: Vec::new(),
            };
            if let Ok(group) = security_groups::create(cloud, who, new).await {
                let change = AttributeChange::Groups(vec![group.id()]);
                let _ = modify_attribute(cloud, who, of(usize::from(n)), change).await;
            }
        }
        Call::Settle(n, state) => rig.settle(of(n), state).await,
        Call::Rehearse(n) => {
            let dry = cloud.rehearsal();
            let _ = terminate(&dry, who, &[of(n)]).await;
            launch(&dry, who, rig.spec()).await.unwrap();
            listed(&dry, who, &InstanceQuery::default()).await;
        }
        Call::Pass(minutes) => {
            rig.pass(Duration::from_mins(minutes));
            heartbeat(rig).await;
        }
    }
}

/// The host is still there.
async fn heartbeat(rig: &Rig) {
    let now = rig.cloud.now().0;
    let write = rig.cloud.store.write_with(Invalidates::Nothing, move |txn| {
        Box::pin(async move {
            let update = host::Entity::update_many().col_expr(host::Column::LastSeen, Expr::value(now));
            update.exec(txn).await.map(drop).map_err(failed)
        })
    });
    write.await.unwrap();
}

/// On a server nothing is kept, since other processes write there, too (`is_on_server` below): that both ways of asking
/// agree can only go wrong in one way there, which the first case meets; and each case asks a server some thousand times.
fn cases() -> u32 {
    if cumulet_store::scratch::server().is_some() {
        1
    } else {
        6
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]
    #[test]
    fn after_any_calls_what_is_kept_is_what_is_there(calls in prop::collection::vec(call(), 12)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.unwrap().block_on(async {
            let rig = cloud().await;
            let mut ids = Vec::new();
            run(&rig, Call::Launch { mine: true, count: 2 }, &mut ids).await;
            compare(&rig, &ids).await;
            for call in calls {
                run(&rig, call, &mut ids).await;
                compare(&rig, &ids).await;
            }
        });
    }
}

#[tokio::test]
async fn others_writes_the_audit_log_and_rehearsals_void_nothing_and_own_writes_do() {
    let rig = cloud().await;
    let made = launch(&rig.cloud, &rig.who, rig.spec()).await.unwrap();
    let id = made.instances[0].id();
    let (all, who) = (InstanceQuery::default(), &rig.who);
    let before = listed(&rig.cloud, who, &all).await;
    let kept = || {
        let version = rig.cloud.store.version(who.account);
        let all = rig.cloud.instances.all(who.account, version).is_some();
        let named = rig.cloud.instances.named(rig.sight(), version, &[id]);
        assert_eq!(named.is_some(), all);
        all
    };
    if rig.database.is_on_server() {
        assert!(!kept(), "other processes write there, too");
        return;
    }
    assert!(kept());

    launch(&rig.cloud, &rig.stranger, rig.spec()).await.unwrap();
    let entry = crate::test_support::audit_log_entry(who.account);
    audit_log::record(&rig.cloud, entry).await.unwrap();
    tag(&rig, &rig.cloud.rehearsal(), id, "undone").await;
    assert!(
        modify_attribute(&rig.cloud, who, id, AttributeChange::InstanceType("none".into()))
            .await
            .is_err()
    );
    assert!(kept());
    assert_eq!(listed(&rig.cloud, who, &all).await, before);

    tag(&rig, &rig.cloud, id, "done").await;
    assert!(!kept());
    let after = listed(&rig.cloud, who, &all).await;
    assert_eq!(after[0].instances[0].tags[0].value, "done");
    assert!(kept());
    // The conductor's transactions declare nothing.
    rig.settle(id, State::Running).await;
    assert!(!kept());
}

#[tokio::test]
async fn what_is_kept_of_an_account_is_for_it_alone_and_vanishes_in_time() {
    let rig = cloud().await;
    let made = launch(&rig.cloud, &rig.who, rig.spec()).await.unwrap();
    let id = made.instances[0].id();
    rig.settle(id, State::Terminated).await;
    assert_eq!(listed(&rig.cloud, &rig.who, &named(&[id, id])).await.len(), 1);
    assert_eq!(
        listed(&rig.cloud, &rig.who, &InstanceQuery::default())
            .await
            .len(),
        1
    );
    let ask = async |who| describe(&rig.cloud, who, &named(&[id]), PageRequest::default()).await;
    assert!(matches!(ask(&rig.stranger).await, Err(Error::NotFound { .. })));
    assert!(
        listed(&rig.cloud, &rig.stranger, &InstanceQuery::default())
            .await
            .is_empty()
    );

    rig.pass(Duration::from_mins(59));
    assert!(ask(&rig.who).await.is_ok());
    rig.pass(Duration::from_mins(1));
    assert!(matches!(ask(&rig.who).await, Err(Error::NotFound { .. })));
    assert!(
        listed(&rig.cloud, &rig.who, &InstanceQuery::default())
            .await
            .is_empty()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn everybody_reads_their_own_writes_while_others_read_and_write() {
    let rig = std::sync::Arc::new(cloud().await);
    let mut spec = rig.spec();
    (spec.min, spec.max) = (4, 4);
    let made = launch(&rig.cloud, &rig.who, spec).await.unwrap();
    let ids: Vec<InstanceId> = made.instances.iter().map(|view| view.id()).collect();
    let tasks = ids.iter().map(|id| {
        let (rig, id) = (rig.clone(), *id);
        tokio::spawn(async move {
            for n in 0..40 {
                tag(&rig, &rig.cloud, id, &n.to_string()).await;
                let query = if n % 2 == 0 {
                    named(&[id])
                } else {
                    InstanceQuery::default()
                };
                let page = describe(&rig.cloud, &rig.who, &query, PageRequest::default())
                    .await
                    .unwrap();
                let view = page.rows.iter().find(|view| view.id() == id).unwrap();
                assert_eq!(view.tags[0].value, n.to_string());
                tokio::task::yield_now().await;
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    compare(&rig, &ids).await;
}

#[tokio::test]
async fn what_was_read_before_a_commit_is_not_kept_over_what_was_read_after_it() {
    let rig = cloud().await;
    let made = launch(&rig.cloud, &rig.who, rig.spec()).await.unwrap();
    let (id, account) = (made.instances[0].id(), rig.who.account);
    let cache = &rig.cloud.instances;
    let slow = rig.cloud.store.version(account);
    let old = listed(&forgetful(&rig.cloud), &rig.who, &named(&[id]))
        .await
        .remove(0)
        .instances;
    rig.settle(id, State::Running).await;
    // The slow reader comes first, then last.
    for first in [true, false] {
        if first {
            cache.put_all(account, slow, &old);
        }
        let seen = listed(&rig.cloud, &rig.who, &named(&[id])).await;
        assert_eq!(seen[0].instances[0].state(), State::Running);
        cache.put_all(account, slow, &old);
        let seen = listed(&rig.cloud, &rig.who, &InstanceQuery::default()).await;
        assert_eq!(seen[0].instances[0].state(), State::Running);
    }
}

#[tokio::test]
async fn memory_is_bounded() {
    let rig = cloud().await;
    let made = launch(&rig.cloud, &rig.who, rig.spec()).await.unwrap();
    let mut view = (*made.instances[0]).clone();
    view.row.sealed_user_data = Some("x".repeat(16_000).into());
    let cache = InstanceCache::default();
    for id in 0..3000 {
        view.row.id = Key::from_db(id);
        cache.put(rig.who.account, 1, &[std::sync::Arc::new(view.clone())]);
        let bytes = cache.bytes();
        assert!(bytes > 16_000 && bytes <= 16 << 20, "{bytes}");
    }
    let many: Vec<_> = std::iter::repeat_n(std::sync::Arc::new(view), 3000).collect();
    cache.put_all(rig.stranger.account, 1, &many);
    assert!(cache.all(rig.stranger.account, 1).is_none());
}
