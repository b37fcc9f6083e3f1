//! What hosts are told of their networks' policies beside the launches that take them along.

use cumulet_backend::test_support::{Rig, cloud};
use cumulet_bus::{Delivery, HostMailbox};
use cumulet_domain::message::Action;
use cumulet_operations::specs;
use futures::FutureExt as _;

use super::*;
use crate::tests::races::{conductor, launched, place, row};

fn host() -> HostId {
    HostId("host-1".into())
}

/// Another instance on the host, which raises the generation of its VPC's policy; the VPC.
async fn placed(rig: &Rig) -> i64 {
    let row = row(rig, launched(rig).await).await;
    let vpc = row.vpc;
    place(&rig.cloud.store, row).await.unwrap();
    vpc.to_db()
}

/// The generation of the policy that the host is told now, if it is told one.
fn told(mailbox: &mut HostMailbox) -> Option<u64> {
    match mailbox.next().now_or_never()?? {
        Delivery::Command(command) => match command.accept().action {
            Action::Network(policy) => Some(policy.generation),
            other => panic!("{other:?}"),
        },
        Delivery::Query(..) => panic!("a query"),
    }
}

#[tokio::test]
async fn a_host_is_told_no_policy_that_a_launch_has_just_taken_along() {
    let rig = cloud().await;
    let conductor = conductor(&rig, rig.cloud.store.clone());
    let mut mailbox = rig.cloud.bus.host_mailbox(&host()).await.unwrap();
    let (vpc, mut sent) = (placed(&rig).await, Sent::new());
    networks(&conductor, &mut sent).await.unwrap();
    let first = told(&mut mailbox).expect("what no launch took along");
    placed(&rig).await;
    let policy = specs::policy(rig.cloud.store.read(), &host(), vpc).await.unwrap();
    assert!(policy.generation > first);
    conductor.told.note(&host(), &policy);
    networks(&conductor, &mut sent).await.unwrap();
    assert_eq!(told(&mut mailbox), None);
    // What is newer than what was taken along goes out at once.
    placed(&rig).await;
    networks(&conductor, &mut sent).await.unwrap();
    assert!(told(&mut mailbox) > Some(policy.generation));
}

#[tokio::test(start_paused = true)]
async fn a_host_that_confirms_nothing_newer_is_an_alarm_once() {
    let mut pair = host_network::Model {
        host: "node-1".into(),
        vpc: Key::from_db(7),
        applied_generation: Amount(3),
    };
    let mut waiting = Waiting {
        generation: 9,
        sent: Instant::now(),
        applied: Amount(3),
        since: Instant::now(),
        alarmed: false,
    };
    tokio::time::advance(ALARM / 2).await;
    waiting.watch(&pair);
    // One that gets on is slow, and nothing worse.
    pair.applied_generation = Amount(4);
    tokio::time::advance(ALARM / 2).await;
    waiting.watch(&pair);
    assert!(!waiting.alarmed);
    tokio::time::advance(ALARM).await;
    waiting.watch(&pair);
    assert!(waiting.alarmed);
    pair.applied_generation = Amount(5);
    waiting.watch(&pair);
    assert!(!waiting.alarmed);
}
