//! Start, stop, reboot, terminate.

use cumulet_compute::instances::{
    AttributeChange, StateChange, modify_attribute, reboot, start, stop, terminate,
};
use cumulet_domain::{Error, Result, id::InstanceId, instance::State};
use cumulet_store::entity::operation;
use sea_orm::{EntityTrait, PaginatorTrait};

use crate::{
    test_support::{Rig, cloud},
    tests::instances::{in_state, seen},
};

async fn operations(rig: &Rig) -> u64 {
    operation::Entity::find()
        .count(rig.cloud.store.read())
        .await
        .unwrap()
}

#[tokio::test]
async fn every_call_in_every_state() {
    use State as S;
    let rig = cloud().await;
    // For each state: what start, stop, terminate lead to and whether reboot is possible.
    for (state, started, stopped, terminated, rebooted) in [
        (S::Pending, Some(S::Pending), None, S::ShuttingDown, false),
        (
            S::Running,
            Some(S::Running),
            Some(S::Stopping),
            S::ShuttingDown,
            true,
        ),
        (S::Stopping, None, Some(S::Stopping), S::ShuttingDown, false),
        (
            S::Stopped,
            Some(S::Pending),
            Some(S::Stopped),
            S::ShuttingDown,
            false,
        ),
        (S::ShuttingDown, None, None, S::ShuttingDown, false),
        (S::Terminated, None, None, S::Terminated, false),
    ] {
        for (name, expected) in [
            ("start", started),
            ("stop", stopped),
            ("terminate", Some(terminated)),
        ] {
            let id = in_state(&rig, state).await;
            let (before, queued) = (seen(&rig, id).await.row.generation, operations(&rig).await);
            let answer = match name {
                "start" => start(&rig.cloud, &rig.who, &[id]).await,
                "stop" => stop(&rig.cloud, &rig.who, &[id], false).await,
                _ => terminate(&rig.cloud, &rig.who, &[id]).await,
            };
            match expected {
                Some(current) => {
                    let change = StateChange {
                        instance: id,
                        previous: state,
                        current,
                    };
                    assert_eq!(answer, Ok(vec![change]), "{name} {state:?}");
                }
                None => assert!(matches!(answer, Err(Error::CannotBe { .. })), "{name} {state:?}"),
            }
            let changed = u64::from(expected.is_some_and(|now| now != state));
            let row = seen(&rig, id).await.row;
            assert_eq!(row.generation.0 - before.0, changed, "{name} {state:?}");
            assert_eq!(operations(&rig).await - queued, changed, "{name} {state:?}");
            assert_eq!(row.state.0, expected.unwrap_or(state));
        }
        let id = in_state(&rig, state).await;
        assert_eq!(
            reboot(&rig.cloud, &rig.who, &[id]).await.is_ok(),
            rebooted,
            "{state:?}"
        );
    }
}

#[tokio::test]
async fn reasons_are_given_and_taken_away() {
    let rig = cloud().await;
    let id = in_state(&rig, State::Running).await;
    stop(&rig.cloud, &rig.who, &[id], false).await.unwrap();
    let row = seen(&rig, id).await.row;
    assert_eq!(
        row.transition_reason.as_deref(),
        Some("User initiated (2026-01-02 03:04:05 GMT)")
    );
    assert_eq!(row.reason_code.as_deref(), Some("Client.UserInitiatedShutdown"));
    rig.settle(id, State::Stopped).await;
    rig.pass(std::time::Duration::from_secs(60));
    start(&rig.cloud, &rig.who, &[id]).await.unwrap();
    let row = seen(&rig, id).await.row;
    assert_eq!((row.reason_code, row.transition_reason), (None, None));
    assert_eq!(row.launched_at - row.created_at, 60_000);
}

#[tokio::test]
async fn a_forced_stop_overtakes_one_that_waits() {
    let rig = cloud().await;
    let id = in_state(&rig, State::Running).await;
    stop(&rig.cloud, &rig.who, &[id], false).await.unwrap();
    let queued = operations(&rig).await;
    stop(&rig.cloud, &rig.who, &[id], false).await.unwrap();
    assert_eq!(operations(&rig).await, queued);
    stop(&rig.cloud, &rig.who, &[id], true).await.unwrap();
    assert_eq!(operations(&rig).await, queued + 1);
    let all = operation::Entity::find()
        .all(rig.cloud.store.read())
        .await
        .unwrap();
    let active: Vec<_> = all
        .iter()
        .filter(|operation| operation.active_instance.is_some())
        .collect();
    assert_eq!(active.len(), 1);
    assert!(active[0].state.contains("\"force\":true"));
}

#[tokio::test]
async fn one_bad_instance_spoils_the_call() {
    let rig = cloud().await;
    let (fine, stopped) = (
        in_state(&rig, State::Running).await,
        in_state(&rig, State::Stopped).await,
    );
    let unknown = InstanceId::new(1 << 40);
    let answer = terminate(&rig.cloud, &rig.who, &[fine, unknown, InstanceId::new(1 << 41)]).await;
    let Err(Error::NotFound { id, .. }) = answer else {
        panic!("{answer:?}")
    };
    assert_eq!(id, format!("{unknown}, {}", InstanceId::new(1 << 41)));
    assert!(reboot(&rig.cloud, &rig.who, &[fine, stopped]).await.is_err());
    modify_attribute(
        &rig.cloud,
        &rig.who,
        stopped,
        AttributeChange::DisableApiTermination(true),
    )
    .await
    .unwrap();
    let answer = terminate(&rig.cloud, &rig.who, &[fine, stopped]).await;
    assert!(matches!(answer, Err(Error::MayNotBe { .. })));
    assert_eq!(seen(&rig, fine).await.state(), State::Running);
    assert_eq!(
        terminate(&rig.cloud, &rig.who, &[fine, fine])
            .await
            .unwrap()
            .len(),
        1
    );
    assert!(terminate(&rig.cloud, &rig.who, &[]).await.is_err());
}

/// A protection guards the effect, whatever call would bring it, from every state that is not the end.
#[tokio::test]
async fn protections_guard_effects() {
    use AttributeChange as A;
    let rig = cloud().await;
    let (stop_off, terminate_off) = ("disableApiStop", "disableApiTermination");
    for (on, of_stop, of_terminate) in [
        (vec![], None, None),
        (vec![A::DisableApiStop(true)], Some(stop_off), Some(stop_off)),
        (vec![A::DisableApiTermination(true)], None, Some(terminate_off)),
        (
            vec![A::DisableApiStop(true), A::DisableApiTermination(true)],
            Some(stop_off),
            Some(terminate_off),
        ),
    ] {
        for state in [State::Running, State::Stopped] {
            let id = in_state(&rig, state).await;
            for change in on.clone() {
                modify_attribute(&rig.cloud, &rig.who, id, change).await.unwrap();
            }
            let by = |answer: Result<Vec<StateChange>>| match answer {
                Ok(_) => None,
                Err(Error::MayNotBe { attribute, .. }) => Some(attribute),
                Err(other) => panic!("{on:?} {state:?}: {other}"),
            };
            let what = format!("{on:?} {state:?}");
            assert_eq!(
                by(stop(&rig.cloud, &rig.who, &[id], true).await),
                of_stop,
                "{what}"
            );
            assert_eq!(
                by(stop(&rig.cloud, &rig.who, &[id], false).await),
                of_stop,
                "{what}"
            );
            assert_eq!(
                by(terminate(&rig.cloud, &rig.who, &[id]).await),
                of_terminate,
                "{what}"
            );
            for change in [A::DisableApiStop(false), A::DisableApiTermination(false)] {
                // What ends is not to be changed any more.
                drop(modify_attribute(&rig.cloud, &rig.who, id, change).await);
            }
            terminate(&rig.cloud, &rig.who, &[id]).await.unwrap();
        }
    }
}

#[tokio::test]
async fn calls_that_name_no_instance_say_so() {
    let rig = cloud().await;
    for answer in [
        start(&rig.cloud, &rig.who, &[]).await.map(drop),
        stop(&rig.cloud, &rig.who, &[], false).await.map(drop),
        reboot(&rig.cloud, &rig.who, &[]).await,
        terminate(&rig.cloud, &rig.who, &[]).await.map(drop),
    ] {
        assert_eq!(answer, Err(Error::NoInstances));
    }
}

#[tokio::test]
async fn strangers_and_readers_power_nothing() {
    let rig = cloud().await;
    let id = in_state(&rig, State::Running).await;
    for (who, expected) in [(&rig.stranger, "NotFound"), (&rig.reader(), "Unauthorized")] {
        let answers = [
            start(&rig.cloud, who, &[id]).await.map(drop),
            stop(&rig.cloud, who, &[id], true).await.map(drop),
            reboot(&rig.cloud, who, &[id]).await,
            terminate(&rig.cloud, who, &[id]).await.map(drop),
        ];
        for answer in answers {
            assert!(format!("{:?}", answer.unwrap_err()).starts_with(expected));
        }
    }
}
