//! The broker restarts, dies, loses queues, and is short of memory and disk: handing over ends in time, and
//! everything goes on by itself. What is not understood, or not said by whoever may, is a dead letter.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use cumulet_bus::{
    Bus, BusError, HostMailbox, RabbitBus, RabbitConfig,
    rabbit::{host_user, permissions},
};
use cumulet_domain::{message::Query, time::SystemClock};
use lapin::{
    BasicProperties, Connection, ConnectionProperties,
    options::{BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions},
    types::FieldTable,
};
use support::{
    SOON, broker::Broker, command, host, instance, next_command, next_report, number, report,
    send_until_taken, soon,
};

async fn connect(url: &str) -> RabbitBus {
    let config = RabbitConfig::new(url, "cumulet");
    RabbitBus::connect(config, Arc::new(SystemClock)).await.unwrap()
}

/// Takes commands until this one has come.
async fn until(mailbox: &mut HostMailbox, n: u64) {
    while number(&next_command(mailbox).await.accept()) != n {}
}

async fn until_counted(what: &str, mut counted: impl FnMut() -> bool) {
    let began = Instant::now();
    while !counted() {
        assert!(began.elapsed() < SOON, "not counted: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Every way to hand something over ends in time, and badly.
async fn nothing_goes(bus: &RabbitBus) {
    let began = Instant::now();
    let (host_a, host_b) = (host("a"), host("a"));
    let (sent, reported, asked) = tokio::join!(
        bus.send(&host_a, command(1000)),
        bus.report(report("a", 1000)),
        bus.query(&host_b, Query::ConsoleOutput(instance(1)))
    );
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(matches!(sent, Err(BusError::Unavailable(_))), "{sent:?}");
    assert!(matches!(reported, Err(BusError::Unavailable(_))), "{reported:?}");
    assert!(matches!(asked, Err(BusError::Unavailable(_))), "{asked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_goes_on_when_the_broker_is_back() {
    let mut broker = Broker::start();
    let url = broker.vhost("v");
    let bus = connect(&url).await;
    let mut mailbox = bus.host_mailbox(&host("a")).await.unwrap();
    let mut reports = bus.report_mailbox().await.unwrap();
    bus.send(&host("a"), command(1)).await.unwrap();
    until(&mut mailbox, 1).await;

    // In good order, then as if its power went: what was confirmed is there afterwards.
    for (round, violently) in [(10, false), (20, true)] {
        bus.send(&host("a"), command(round)).await.unwrap();
        let held = next_command(&mut mailbox).await;
        if violently {
            broker.kill()
        } else {
            broker.stop()
        }
        nothing_goes(&bus).await;
        held.ack();
        broker.run();
        send_until_taken(&bus, "a", round + 1).await;
        // The one that was held comes again: its acknowledgement came too late.
        assert_eq!(number(&next_command(&mut mailbox).await.accept()), round);
        until(&mut mailbox, round + 1).await;
        let reported = Instant::now();
        while bus.report(report("a", 5)).await.is_err() {
            assert!(reported.elapsed() < SOON);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        next_report(&mut reports).await.ack();
    }
    assert!(bus.counters().reconnects >= 2);

    // Deleted queues are declared again.
    broker.delete_queue("v", "cumulet.host.a");
    send_until_taken(&bus, "a", 30).await;
    until(&mut mailbox, 30).await;
    broker.delete_queue("v", "cumulet.reports");
    let reported = Instant::now();
    while bus.report(report("a", 6)).await.is_err() {
        assert!(reported.elapsed() < SOON);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    while next_report(&mut reports).await.accept().at.0 != 6 {}

    // Short of memory, then of disk.
    for (alarm, calm) in [
        (
            ["set_vm_memory_high_watermark", "0.00001"],
            ["set_vm_memory_high_watermark", "0.6"],
        ),
        (
            ["set_disk_free_limit", "900000GB"],
            ["set_disk_free_limit", "1MB"],
        ),
    ] {
        broker.must(&alarm);
        let until_blocked = Instant::now();
        while bus.send(&host("a"), command(40)).await.is_ok() {
            assert!(until_blocked.elapsed() < SOON, "{alarm:?}");
        }
        nothing_goes(&bus).await;
        broker.must(&calm);
        send_until_taken(&bus, "a", 41).await;
        until(&mut mailbox, 41).await;
    }
    assert!(bus.counters().blocked >= 1);
    assert!(!bus.counters().is_blocked);
    assert_eq!(bus.counters().dead, 0);
}

async fn raw_publish(
    url: &str,
    exchange: &str,
    key: &str,
    body: &[u8],
    properties: BasicProperties,
) -> lapin::Result<()> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let options = BasicPublishOptions::default();
    let publishing = channel.basic_publish(exchange.into(), key.into(), options, body, properties);
    publishing.await?.await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_can_take_is_a_dead_letter_and_holds_up_nobody() {
    let broker = Broker::start();
    let url = broker.vhost("v");
    let bus = connect(&url).await;
    let mut mailbox = bus.host_mailbox(&host("a")).await.unwrap();
    let mut reports = bus.report_mailbox().await.unwrap();
    let none = BasicProperties::default();
    for text in [
        "not JSON",
        r#"{"v":2,"kind":"command","body":{}}"#,
        r#"{"v":1,"kind":"novelty","body":{}}"#,
        r#"{"v":1,"kind":"command","body":{"operation":null,"deadline":0,"action":"sing"}}"#,
    ] {
        let sent = raw_publish(&url, "", "cumulet.host.a", text.as_bytes(), none.clone());
        sent.await.unwrap();
    }
    bus.send(&host("a"), command(1)).await.unwrap();
    until(&mut mailbox, 1).await;
    until_counted("refused", || bus.counters().refused == 4).await;
    until_counted("dead", || bus.counters().dead == 4).await;
    // They are kept for the operator. (A quorum queue counts what it has every few seconds.)
    until_counted("kept", || {
        let listed = broker.must(&["-q", "list_queues", "-p", "v", "name", "messages"]);
        listed.contains("cumulet.dead\t4")
    })
    .await;

    // A report without a sender that the broker vouches for.
    let forged = br#"{"v":1,"kind":"report","body":{"host":"a","at":1,"content":{"full":[]}}}"#;
    raw_publish(&url, "cumulet.reports", "", forged, none)
        .await
        .unwrap();
    bus.report(report("a", 2)).await.unwrap();
    assert_eq!(next_report(&mut reports).await.accept().at.0, 2);
    until_counted("the forged one", || bus.counters().dead == 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workers_user_may_do_its_work_and_no_more() {
    let broker = Broker::start();
    let control = connect(&broker.vhost("v")).await;
    let mut reports = control.report_mailbox().await.unwrap();
    let _other = control.host_mailbox(&host("b")).await.unwrap();
    let (name, may) = (
        host_user("cumulet", &host("a")),
        permissions("cumulet", &host("a")),
    );
    broker.add_user("v", &name, "secret", [&may.configure, &may.write, &may.read]);
    let url = broker.url("v", &name, "secret");
    let worker = connect(&url).await;

    // Its work.
    let mut mailbox = worker.host_mailbox(&host("a")).await.unwrap();
    control.send(&host("a"), command(1)).await.unwrap();
    until(&mut mailbox, 1).await;
    worker.report(report("a", 1)).await.unwrap();
    assert_eq!(next_report(&mut reports).await.accept().at.0, 1);
    let answering = async {
        match mailbox.next().await {
            Some(cumulet_bus::Delivery::Query(_, reply)) => reply.answer(Ok(b"text".to_vec())),
            other => panic!("{other:?}"),
        }
    };
    let (host_a, query) = (host("a"), Query::ConsoleOutput(instance(1)));
    let asking = control.query(&host_a, query);
    let ((), answer) = soon("an answer", async { tokio::join!(answering, asking) }).await;
    assert_eq!(answer, Ok(b"text".to_vec()));

    // Another's queue, commands, and another's name.
    let refused = worker.host_mailbox(&host("b")).await;
    assert!(
        matches!(&refused, Err(BusError::Unavailable(why)) if why.contains("ACCESS")),
        "{refused:?}"
    );
    let connection = Connection::connect(&url, ConnectionProperties::default())
        .await
        .unwrap();
    let channel = connection.create_channel().await.unwrap();
    let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
    let consumed = channel
        .basic_consume("cumulet.host.b".into(), "".into(), options, none)
        .await;
    assert!(consumed.is_err());
    let commanded = worker.send(&host("b"), command(1)).await;
    assert!(
        matches!(&commanded, Err(BusError::Unavailable(_))),
        "{commanded:?}"
    );
    assert!(worker.wakeups().await.is_err());
    assert!(worker.report_mailbox().await.is_err());
    worker.report(report("b", 2)).await.unwrap();
    until_counted("the lie", || control.counters().refused == 1).await;
    worker.report(report("a", 3)).await.unwrap();
    assert_eq!(next_report(&mut reports).await.accept().at.0, 3);
    let as_another = BasicProperties::default().with_user_id("guest".into());
    let forged = br#"{"v":1,"kind":"report","body":{"host":"b","at":4,"content":{"full":[]}}}"#;
    let sent = raw_publish(&url, "cumulet.reports", "", forged, as_another).await;
    assert!(sent.is_err(), "the broker should not believe it");
}

fn openssl(dir: &std::path::Path, arguments: &str) {
    let mut command = std::process::Command::new("openssl");
    let done = command
        .args(arguments.split(' '))
        .current_dir(dir)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_believed_only_with_the_right_authority() {
    let mut folder = None;
    let configure = |dir: &std::path::Path| {
        let key = "-newkey rsa:2048 -nodes -days 2";
        for (name, subject) in [("ca", "/CN=authority"), ("stranger", "/CN=stranger")] {
            openssl(
                dir,
                &format!("req -x509 {key} -keyout {name}.key -out {name}.pem -subj {subject}"),
            );
        }
        openssl(
            dir,
            &format!("req {key} -keyout server.key -out server.csr -subj /CN=localhost"),
        );
        std::fs::write(dir.join("names"), "subjectAltName=DNS:localhost\n").unwrap();
        openssl(
            dir,
            "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.pem",
        );
        folder = Some(dir.to_owned());
        let dir = dir.display();
        format!(
            "ssl_options.cacertfile = {dir}/ca.pem\nssl_options.certfile = {dir}/server.pem\n\
             ssl_options.keyfile = {dir}/server.key\nssl_options.verify = verify_none\n"
        )
    };
    let broker = Broker::start_with(configure, true);
    broker.vhost("v");
    let folder = folder.unwrap();
    let mut config = RabbitConfig::new(broker.tls_url("v"), "cumulet");
    for file in [None, Some("stranger.pem"), Some("missing.pem")] {
        config.ca_file = file.map(|name| folder.join(name));
        let refused = RabbitBus::connect(config.clone(), Arc::new(SystemClock)).await;
        assert!(
            matches!(refused, Err(BusError::Unavailable(_))),
            "{file:?}: {refused:?}"
        );
    }
    config.ca_file = Some(folder.join("ca.pem"));
    let bus = RabbitBus::connect(config, Arc::new(SystemClock)).await.unwrap();
    let mut mailbox = bus.host_mailbox(&host("a")).await.unwrap();
    bus.send(&host("a"), command(1)).await.unwrap();
    until(&mut mailbox, 1).await;
}
