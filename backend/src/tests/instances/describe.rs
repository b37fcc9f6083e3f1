//! What can be seen.

use std::time::Duration;

use cumulet_compute::instances::{InstanceQuery, describe, describe_reservations, get};
use cumulet_core::PageRequest;
use cumulet_domain::{Error, instance::State};

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
                vpcs: vec![cumulet_domain::id::VpcId::new(7)],
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
