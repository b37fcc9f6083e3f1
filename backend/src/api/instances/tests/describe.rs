//! What can be seen.

use std::time::Duration;

use cumulet_domain::{Error, instance::State};

use super::{in_state, launched};
use crate::{
    api::{
        PageRequest,
        instances::{InstanceQuery, describe, describe_reservations, get},
    },
    test_support::cloud,
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
    let (mut sizes, mut after, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = PageRequest {
            limit: Some(3),
            after,
        };
        let page = describe_reservations(&rig.cloud, &rig.who, &InstanceQuery::default(), page)
            .await
            .unwrap();
        pages += 1;
        assert!(page.rows.len() <= 3);
        for reservation in &page.rows {
            sizes.push(reservation.instances.len());
            let indices: Vec<i64> = reservation
                .instances
                .iter()
                .map(|view| view.row.launch_index)
                .collect();
            assert_eq!(
                indices,
                (0..i64::try_from(indices.len()).unwrap()).collect::<Vec<_>>()
            );
            assert!(
                reservation
                    .instances
                    .iter()
                    .all(|view| view.reservation() == reservation.id)
            );
        }
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    sizes.sort_unstable();
    assert_eq!((sizes, pages), ((1..=7).collect(), 3));
    let (mut count, mut after) = (0, None);
    loop {
        let page = PageRequest {
            limit: Some(5),
            after,
        };
        let page = describe(&rig.cloud, &rig.who, &InstanceQuery::default(), page)
            .await
            .unwrap();
        count += page.rows.len();
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    assert_eq!(count, 28);
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
