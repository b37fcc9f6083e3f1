//! What every bus keeps to, for the bus in memory and for RabbitMQ.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::{sync::Arc, time::Duration};

use cumulet_bus::{Bus, BusError, Delivery, LocalBus, RabbitBus, RabbitConfig, Wakeup};
use cumulet_domain::{message::Query, time::SystemClock};
use support::{broker::Broker, command, host, instance, next_command, next_report, number, report, soon};

async fn commands_come_in_order_and_to_their_host(bus: Arc<dyn Bus>) {
    assert_eq!(
        bus.send(&host("a"), command(1)).await,
        Err(BusError::NoSuchHost(host("a")))
    );
    let mut a = bus.host_mailbox(&host("a")).await.unwrap();
    let mut b = bus.host_mailbox(&host("b")).await.unwrap();
    for n in 1..=50 {
        let to = if n % 10 == 0 { "b" } else { "a" };
        bus.send(&host(to), command(n)).await.unwrap();
    }
    for n in (1..=50).filter(|n| n % 10 != 0) {
        let came = next_command(&mut a).await;
        assert_eq!((number(&came), came.times()), (n, 1));
        came.ack();
    }
    for n in [10, 20, 30, 40, 50] {
        assert_eq!(number(&next_command(&mut b).await.accept()), n);
    }
}

async fn what_is_dropped_comes_again_and_what_is_acknowledged_does_not(bus: Arc<dyn Bus>) {
    let mut mailbox = bus.host_mailbox(&host("a")).await.unwrap();
    bus.send(&host("a"), command(1)).await.unwrap();
    bus.send(&host("a"), command(2)).await.unwrap();
    drop(next_command(&mut mailbox).await);
    next_command(&mut mailbox).await.ack();
    let again = next_command(&mut mailbox).await;
    assert_eq!((number(&again), again.times()), (1, 2));
    again.ack();
    again.ack();
    drop(again);
    let more = tokio::time::timeout(Duration::from_secs(3), mailbox.next()).await;
    assert!(more.is_err(), "{more:?}");
    assert!(bus.counters().redelivered >= 1);
}

async fn reports_come_again_too_and_are_shared(bus: Arc<dyn Bus>) {
    assert!(matches!(
        bus.report(report("a", 0)).await,
        Err(BusError::Unavailable(_))
    ));
    let mut one = bus.report_mailbox().await.unwrap();
    for n in 1..=20 {
        bus.report(report("a", n)).await.unwrap();
    }
    for n in 1..=10 {
        let came = next_report(&mut one).await;
        assert_eq!(came.at.0, n);
        came.ack();
    }
    drop(next_report(&mut one).await);
    drop(one);
    // All that was not acknowledged goes to whoever listens next.
    let mut other = bus.report_mailbox().await.unwrap();
    let mut rest = Vec::new();
    while rest.len() < 10 {
        let batch = soon("the rest", other.next_batch(256)).await;
        assert!(!batch.is_empty());
        rest.extend(batch.into_iter().map(|r| r.accept().at.0));
    }
    rest.sort_unstable();
    assert_eq!(rest, (11..=20).collect::<Vec<_>>());
}

async fn reports_that_wait_come_together(bus: Arc<dyn Bus>) {
    let mut mailbox = bus.report_mailbox().await.unwrap();
    let together = async {
        loop {
            for n in 1..=10 {
                bus.report(report("a", n)).await.unwrap();
            }
            let (mut came, mut largest) = (Vec::new(), 0);
            while came.len() < 10 {
                let batch = mailbox.next_batch(256).await;
                largest = largest.max(batch.len());
                came.extend(batch.into_iter().map(|report| report.accept().at.0));
            }
            assert_eq!(came, (1..=10).collect::<Vec<_>>());
            // A bus that hands on what it has heard of may have given the first before it had the second.
            if largest > 1 {
                return;
            }
        }
    };
    soon("several in one batch", together).await;
}

async fn a_newer_mailbox_takes_over(bus: Arc<dyn Bus>) {
    let mut old = bus.host_mailbox(&host("a")).await.unwrap();
    bus.send(&host("a"), command(1)).await.unwrap();
    next_command(&mut old).await.ack();
    bus.send(&host("a"), command(2)).await.unwrap();
    let mut new = bus.host_mailbox(&host("a")).await.unwrap();
    assert!(soon("the end of the old one", old.next()).await.is_none());
    bus.send(&host("a"), command(3)).await.unwrap();
    assert_eq!(number(&next_command(&mut new).await.accept()), 2);
    assert_eq!(number(&next_command(&mut new).await.accept()), 3);
    assert!(soon("still the end", old.next()).await.is_none());
}

async fn reads_are_answered_refused_or_late(bus: Arc<dyn Bus>) {
    let id = instance(7);
    assert_eq!(
        bus.query(&host("a"), Query::ConsoleOutput(id)).await,
        Err(BusError::NoSuchHost(host("a")))
    );
    let mut mailbox = bus.host_mailbox(&host("a")).await.unwrap();
    let picture: Vec<u8> = (0..700_000_u32).map(|n| (n % 251) as u8).collect();
    let expected = picture.clone();
    let answering = tokio::spawn(async move {
        let mut answers = vec![Ok(picture), Err("no such guest".to_owned())].into_iter();
        let mut kept = Vec::new();
        while let Some(delivery) = mailbox.next().await {
            if let Delivery::Query(query, reply) = delivery {
                assert_eq!(query, Query::Screenshot(id));
                match answers.next() {
                    Some(answer) => reply.answer(answer),
                    None => kept.push(reply),
                }
            }
        }
    });
    assert_eq!(bus.query(&host("a"), Query::Screenshot(id)).await, Ok(expected));
    assert_eq!(
        bus.query(&host("a"), Query::Screenshot(id)).await,
        Err(BusError::Refused("no such guest".into()))
    );
    let began = std::time::Instant::now();
    let late = bus.query(&host("a"), Query::Screenshot(id)).await;
    assert!(matches!(late, Err(BusError::Unavailable(_))), "{late:?}");
    assert!(began.elapsed() < Duration::from_secs(5));
    answering.abort();
}

async fn wakeups_reach_everybody_who_listens(bus: Arc<dyn Bus>) {
    // With nobody there a wake-up is lost, or the bus says that it can't.
    drop(bus.wake(Wakeup::Work).await);
    let (mut one, mut other) = (bus.wakeups().await.unwrap(), bus.wakeups().await.unwrap());
    bus.wake(Wakeup::Hosts).await.unwrap();
    bus.wake(Wakeup::Work).await.unwrap();
    for listener in [&mut one, &mut other] {
        assert_eq!(soon("a wake-up", listener.next()).await, Some(Wakeup::Hosts));
        assert_eq!(soon("a wake-up", listener.next()).await, Some(Wakeup::Work));
    }
}

/// `room` is how much the bus lets wait.
async fn a_full_queue_is_an_error_and_holds_up_nobody(bus: Arc<dyn Bus>, room: u64) {
    let _full = bus.host_mailbox(&host("full")).await.unwrap();
    let mut other = bus.host_mailbox(&host("other")).await.unwrap();
    let mut error = None;
    for n in 0..room * 2 {
        if let Err(refused) = bus.send(&host("full"), command(n)).await {
            error = Some(refused);
            break;
        }
    }
    assert!(matches!(error, Some(BusError::Unavailable(_))), "{error:?}");
    bus.send(&host("other"), command(1)).await.unwrap();
    next_command(&mut other).await.ack();
}

#[tokio::test]
async fn local() {
    let new = || Arc::new(LocalBus::new());
    commands_come_in_order_and_to_their_host(new()).await;
    what_is_dropped_comes_again_and_what_is_acknowledged_does_not(new()).await;
    reports_come_again_too_and_are_shared(new()).await;
    reports_that_wait_come_together(new()).await;
    a_newer_mailbox_takes_over(new()).await;
    reads_are_answered_refused_or_late(new()).await;
    wakeups_reach_everybody_who_listens(new()).await;
    a_full_queue_is_an_error_and_holds_up_nobody(new(), 65_536).await;
}

async fn rabbit_keeps_to_it(quorum: bool) {
    let broker = Broker::start();
    let mut number = 0;
    let mut new = async || {
        number += 1;
        let mut config = RabbitConfig::new(broker.vhost(&format!("v{number}")), "cumulet");
        (config.prefetch, config.max_length, config.quorum) = (20, 100, quorum);
        let bus = RabbitBus::connect(config, Arc::new(SystemClock)).await.unwrap();
        Arc::new(bus)
    };
    commands_come_in_order_and_to_their_host(new().await).await;
    what_is_dropped_comes_again_and_what_is_acknowledged_does_not(new().await).await;
    reports_come_again_too_and_are_shared(new().await).await;
    reports_that_wait_come_together(new().await).await;
    a_newer_mailbox_takes_over(new().await).await;
    reads_are_answered_refused_or_late(new().await).await;
    wakeups_reach_everybody_who_listens(new().await).await;
    a_full_queue_is_an_error_and_holds_up_nobody(new().await, 120).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rabbit_with_quorum_queues() {
    rabbit_keeps_to_it(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rabbit_with_classic_queues() {
    rabbit_keeps_to_it(false).await;
}
