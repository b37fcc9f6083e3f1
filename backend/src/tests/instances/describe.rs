//! What can be seen.

use std::time::Duration;

use cumulet_compute::instances::{InstanceCache, InstanceQuery, describe, describe_reservations, get};
use cumulet_core::{Page, PageRequest};
use cumulet_domain::{
    Error, Result,
    id::{SubnetId, VpcId},
    instance::State,
};
use cumulet_store::{entity::instance, failed};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, sea_query::Expr};

use crate::{
    test_support::{cloud, pages},
    tests::instances::{in_state, launched},
};

#[tokio::test]
async fn terminated_instances_are_seen_for_an_hour() {
    let rig = cloud().await;
    let id = in_state(&rig, State::Terminated).await;
    let by_id = InstanceQuery {
        ids: vec![id],
        ..InstanceQuery::default()
    };
    for (wait, visible) in [
        (Duration::ZERO, true),
        (Duration::from_secs(3599), true),
        (Duration::from_secs(1), false),
    ] {
        rig.pass(wait);
        let all = describe(
            &rig.cloud,
            &rig.who,
            &InstanceQuery::default(),
            PageRequest::default(),
        )
        .await;
        assert_eq!(all.unwrap().rows.len(), usize::from(visible));
        let one = describe_reservations(&rig.cloud, &rig.who, &by_id, PageRequest::default()).await;
        match one {
            Ok(page) => {
                assert!(visible);
                assert!(page.rows[0].instances[0].interfaces.is_empty());
            }
            Err(error) => assert!(!visible && matches!(error, Error::NotFound { .. })),
        }
    }
}

#[tokio::test]
async fn queries_narrow_exactly() {
    let rig = cloud().await;
    let running = in_state(&rig, State::Running).await;
    let stopped = in_state(&rig, State::Stopped).await;
    let query = |states: &[State]| InstanceQuery {
        states: states.to_vec(),
        ..InstanceQuery::default()
    };
    for (query, expected) in [
        (query(&[State::Running]), vec![running]),
        (query(&[State::Stopped, State::Pending]), vec![stopped]),
        (query(&[State::Terminated]), vec![]),
        (
            InstanceQuery {
                ids: vec![running, stopped],
                ..query(&[State::Running])
            },
            vec![running],
        ),
        (
            InstanceQuery {
                vpcs: vec![VpcId::new(7)],
                ..query(&[])
            },
            vec![],
        ),
    ] {
        let page = describe(&rig.cloud, &rig.who, &query, PageRequest::default())
            .await
            .unwrap();
        assert_eq!(
            page.rows.iter().map(|view| view.id()).collect::<Vec<_>>(),
            expected,
            "{query:?}"
        );
    }
}

/// What its own row says is a fact of its launch, for programs of before.
#[tokio::test]
async fn an_instance_is_in_the_vpc_and_the_subnet_of_its_primary_interface() {
    let rig = cloud().await;
    let id = in_state(&rig, State::Running).await;
    let write = rig.cloud.store.write(move |txn| {
        Box::pin(async move {
            let update = instance::Entity::update_many()
                .col_expr(instance::Column::Vpc, Expr::value(7_i64))
                .col_expr(instance::Column::Subnet, Expr::value(7_i64))
                .filter(instance::Column::Id.eq(id.to_db()));
            update.exec(txn).await.map(drop).map_err(failed)
        })
    });
    write.await.unwrap();
    let view = get(&rig.cloud, &rig.who, id).await.unwrap();
    let (vpc, subnet) = (view.interfaces[0].vpc(), view.interfaces[0].subnet());
    assert_eq!((view.vpc(), view.subnet()), (Some(vpc), Some(subnet)));
    let (other_vpc, other_subnet) = (VpcId::new(7), SubnetId::new(7));
    // First with the database's help, then of what is in memory by then.
    for _ in 0..2 {
        for (vpcs, subnets, found) in [
            (vec![vpc], vec![], true),
            (vec![], vec![subnet, other_subnet], true),
            (vec![other_vpc, vpc], vec![subnet], true),
            (vec![other_vpc], vec![], false),
            (vec![], vec![other_subnet], false),
            (vec![vpc], vec![other_subnet], false),
        ] {
            let query = InstanceQuery {
                vpcs,
                subnets,
                ..InstanceQuery::default()
            };
            let page = describe(&rig.cloud, &rig.who, &query, PageRequest::default()).await;
            assert_eq!(page.unwrap().rows.len(), usize::from(found), "{query:?}");
        }
        let all = InstanceQuery::default();
        let page = describe(&rig.cloud, &rig.who, &all, PageRequest::default()).await;
        assert_eq!(page.unwrap().rows.len(), 1);
    }
}

#[tokio::test]
async fn reservations_come_whole_in_pages() {
    let rig = cloud().await;
    for n in 1..=7 {
        let mut spec = rig.spec();
        (spec.min, spec.max) = (n, n);
        launched(&rig, spec).await;
    }
    let all = InstanceQuery::default();
    let found = pages(3, async |page| {
        describe_reservations(&rig.cloud, &rig.who, &all, page).await
    });
    let (found, mut sizes) = (found.await, Vec::new());
    assert!(found.len() == 3 && found.iter().all(|page| page.len() <= 3));
    for reservation in found.iter().flatten() {
        let instances = &reservation.instances;
        sizes.push(instances.len());
        let indices: Vec<u32> = instances.iter().map(|view| view.row.launch_index.0).collect();
        assert_eq!(
            indices,
            (0..u32::try_from(indices.len()).unwrap()).collect::<Vec<_>>()
        );
        assert!(instances.iter().all(|view| view.reservation() == reservation.id));
    }
    sizes.sort_unstable();
    assert_eq!(sizes, (1..=7).collect::<Vec<_>>());
    let each = pages(5, async |page| describe(&rig.cloud, &rig.who, &all, page).await).await;
    assert_eq!(each.iter().map(Vec::len).sum::<usize>(), 28);
}

/// What is answered where no limit is given, chunk by chunk.
async fn chunks<T, K>(list: impl AsyncFn(PageRequest<K>) -> Result<Page<T, K>>) -> Vec<Vec<T>> {
    let (mut chunks, mut after) = (Vec::new(), None);
    loop {
        let Page { rows, next } = list(PageRequest { limit: None, after }).await.unwrap();
        chunks.push(rows);
        match next {
            Some(next) => after = Some(next),
            None => return chunks,
        }
    }
}

/// Those that have ended are in sight for a while and no quota counts them, so that there may be any number.
#[tokio::test]
async fn more_than_can_be_kept_are_read_a_chunk_at_a_time() {
    let rig = cloud().await;
    for n in 1..=7 {
        let mut spec = rig.spec();
        (spec.min, spec.max) = (n, n);
        launched(&rig, spec).await;
    }
    let all = InstanceQuery::default();
    let pending = InstanceQuery {
        states: vec![State::Pending],
        ..InstanceQuery::default()
    };
    for query in [&all, &pending] {
        let whole = describe_reservations(&rig.cloud, &rig.who, query, PageRequest::default()).await;
        let whole = whole.unwrap();
        assert_eq!((whole.rows.len(), whole.next), (7, None));
        let each = describe(&rig.cloud, &rig.who, query, PageRequest::default()).await;
        let each = each.unwrap();
        assert_eq!((each.rows.len(), each.next), (28, None));
        for room in [1, 7, 10, 27, 28] {
            let mut small = rig.cloud.clone();
            small.compute.instances = InstanceCache::with_room(room);
            let found = chunks(async |page| describe(&small, &rig.who, query, page).await).await;
            assert!(found.iter().all(|chunk| chunk.len() <= room), "{room}");
            assert_eq!(found.len() > 1, room < 28, "{room}");
            assert_eq!(found.concat(), each.rows, "{room}");

            let found = chunks(async |page| describe_reservations(&small, &rig.who, query, page).await);
            let found = found.await;
            for chunk in &found {
                let held: usize = chunk.iter().map(|one| one.instances.len()).sum();
                // What is launched at once is in one, also where there is less room.
                assert!(held <= room.max(8), "{room}: {held}");
            }
            assert_eq!(found.len() > 1, room < 28, "{room}");
            assert_eq!(found.concat(), whole.rows, "{room}");
            let found = pages(3, async |page| {
                describe_reservations(&small, &rig.who, query, page).await
            });
            let found = found.await;
            assert!(found.iter().all(|page| page.len() <= 3), "{room}");
            assert_eq!(found.concat(), whole.rows, "{room}");
        }
    }
}

#[tokio::test]
async fn strangers_see_nothing() {
    let rig = cloud().await;
    let id = in_state(&rig, State::Running).await;
    let all = describe(
        &rig.cloud,
        &rig.stranger,
        &InstanceQuery::default(),
        PageRequest::default(),
    )
    .await;
    assert!(all.unwrap().rows.is_empty());
    let query = InstanceQuery {
        ids: vec![id],
        ..InstanceQuery::default()
    };
    assert!(
        describe(&rig.cloud, &rig.stranger, &query, PageRequest::default())
            .await
            .is_err()
    );
    assert!(get(&rig.cloud, &rig.stranger, id).await.is_err());
    assert!(get(&rig.cloud, &rig.reader(), id).await.is_ok());
}
