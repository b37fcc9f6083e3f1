//! The bus of one process.

use cumulet_domain::{id::InstanceId, message::Action, time::Timestamp};

use super::*;

fn host() -> HostId {
    HostId("one".into())
}

fn command() -> Command {
    Command {
        operation: None,
        deadline: Timestamp(0),
        action: Action::ReportAll,
        keys: Vec::new(),
        storage: None,
    }
}

#[tokio::test]
async fn a_command_reaches_its_host_and_no_other() {
    let bus = LocalBus::new();
    assert_eq!(
        bus.send(&host(), command()).await,
        Err(BusError::NoSuchHost(host()))
    );
    let mut mailbox = bus.host_mailbox(&host()).await.unwrap();
    bus.send(&host(), command()).await.unwrap();
    assert!(matches!(mailbox.next().await, Some(Delivery::Command(c)) if *c == command()));
}

#[tokio::test]
async fn a_host_that_takes_nothing_holds_up_nobody() {
    let bus = LocalBus::new();
    let _mailbox = bus.host_mailbox(&host()).await.unwrap();
    for _ in 0..QUEUE {
        bus.send(&host(), command()).await.unwrap();
    }
    let full = bus.send(&host(), command()).await;
    assert!(matches!(full, Err(BusError::Unavailable(_))), "{full:?}");
}

#[tokio::test]
async fn a_newer_mailbox_replaces_the_older() {
    let bus = LocalBus::new();
    let mut old = bus.host_mailbox(&host()).await.unwrap();
    let mut new = bus.host_mailbox(&host()).await.unwrap();
    bus.send(&host(), command()).await.unwrap();
    assert!(old.next().await.is_none());
    assert!(new.next().await.is_some());
}

#[tokio::test]
async fn a_read_is_answered_or_refused() {
    let bus = LocalBus::new();
    let mut mailbox = bus.host_mailbox(&host()).await.unwrap();
    let answering = async {
        for result in [Ok(b"text".to_vec()), Err("no such guest".to_owned())] {
            if let Some(Delivery::Query(_, reply)) = mailbox.next().await {
                reply.answer(result);
            }
        }
    };
    let id = InstanceId::new(1 << 40);
    let bus2 = bus.clone();
    let asking = async {
        let first = bus2.query(&host(), Query::ConsoleOutput(id)).await;
        (first, bus2.query(&host(), Query::Screenshot(id)).await)
    };
    let ((), (first, second)) = tokio::join!(answering, asking);
    assert_eq!(first, Ok(b"text".to_vec()));
    assert_eq!(second, Err(BusError::Refused("no such guest".into())));
}

#[tokio::test(start_paused = true)]
async fn an_unanswered_read_ends_at_its_deadline() {
    let bus = LocalBus::new();
    let _mailbox = bus.host_mailbox(&host()).await.unwrap();
    let answer = bus
        .query(&host(), Query::ConsoleOutput(InstanceId::new(1 << 40)))
        .await;
    assert!(matches!(answer, Err(BusError::Unavailable(_))));
}
