//! What a guest can't do to its host.

use std::time::Duration;

use cumulet_domain::id::InstanceId;
use cumulet_metadata::Config;

use crate::cloud::{GUEST, Host, NEIGHBOUR, VPC, instance};

const ID: &str = "/latest/meta-data/instance-id";
const TTL: &str = "X-aws-ec2-metadata-token-ttl-seconds";

#[test]
fn reads_beyond_the_burst_are_put_off() {
    let host = Host::start();
    host.service.put(&instance(2, VPC, NEIGHBOUR));
    let mut connection = host.connect(GUEST);
    for index in 0..400 {
        assert_eq!(connection.ask("GET", ID, &[]).status, 200, "{index}");
    }
    let reply = connection.ask("GET", ID, &[]);
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("1")));
    assert_eq!(
        connection.ask("PUT", "/latest/api/token", &[(TTL, "60")]).status,
        200
    );
    assert_eq!(host.get(NEIGHBOUR, ID).status, 200, "others don't notice");
    host.clock.advance(Duration::from_secs(1));
    for _ in 0..200 {
        assert_eq!(connection.ask("GET", ID, &[]).status, 200);
    }
    assert_eq!(connection.ask("GET", ID, &[]).status, 503);
    let counters = host.service.counters_of(InstanceId::new(1)).unwrap();
    assert_eq!((counters.v1, counters.throttled), (600, 2));
}

#[test]
fn connections_beyond_the_limit_get_tokens_only() {
    let mut config = Config::default();
    config.limits.connections = 4;
    let host = Host::with(config);
    let mut open: Vec<_> = (0..4).map(|_| host.connect(GUEST)).collect();
    for connection in &mut open {
        assert_eq!(connection.ask("GET", ID, &[]).status, 200);
    }
    let reply = host.get(GUEST, ID);
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("1")));
    assert_eq!(
        host.connect(GUEST)
            .ask("PUT", "/latest/api/token", &[(TTL, "60")])
            .status,
        200
    );
    let _crowd: Vec<_> = (0..4).map(|_| host.connect(GUEST)).collect();
    assert!(host.connect(GUEST).is_closed(), "twice the limit");
}

#[test]
fn closed_connections_don_t_count() {
    let mut config = Config::default();
    config.limits.connections = 2;
    let host = Host::with(config);
    for _ in 0..50 {
        let mut connection = host.connect(GUEST);
        let reply = connection.ask("GET", ID, &[("Connection", "close")]);
        assert_eq!(reply.status, 200);
        assert!(connection.is_closed());
    }
}

#[test]
fn long_heads_are_refused() {
    let host = Host::start();
    // As a connection's first request, and as one after another.
    for (length, later) in [
        (9_000, false),
        (20_000, false),
        (20_000, true),
        (40_000, false),
        (400_000, true),
    ] {
        let mut connection = host.connect(GUEST);
        if later {
            assert_eq!(connection.ask("GET", ID, &[]).status, 200);
        }
        let filler = "x".repeat(length);
        // Sent from a thread of its own, since the answer may come before the end.
        let mut sender = connection.clone();
        let sending = std::thread::spawn(move || {
            sender.try_send(&format!(
                "GET {ID} HTTP/1.1\r\nHost: 169.254.169.254\r\nX-Filler: {filler}\r\n\r\n"
            ));
        });
        let reply = connection.receive(false).unwrap();
        assert_eq!(reply.status, 431, "{length}");
        assert_eq!(reply.header("connection"), Some("close"));
        assert!(reply.text().contains("431 - Request Header Fields Too Large"));
        sending.join().unwrap();
        assert!(connection.is_closed());
    }
    let counters = host.service.counters_of(InstanceId::new(1)).unwrap();
    assert_eq!(counters.malformed, 5);
    let almost = "x".repeat(7_800);
    let reply = host.connect(GUEST).ask("GET", ID, &[("X-Filler", &almost)]);
    assert_eq!(reply.status, 200);
}

#[test]
fn many_requests_sent_at_once_are_answered_in_order() {
    let host = Host::start();
    let mut connection = host.connect(GUEST);
    let paths = ["instance-id", "instance-type", "mac", "nowhere"];
    let all: String = (0..300)
        .map(|index| paths[index % 4])
        .map(|name| format!("GET /latest/meta-data/{name} HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n"))
        .collect();
    assert!(all.len() > 16_384);
    let mut sender = connection.clone();
    let sending = std::thread::spawn(move || sender.send(&all));
    for index in 0..300 {
        let status = connection.receive(false).unwrap().status;
        assert_eq!(status, if index % 4 == 3 { 404 } else { 200 }, "{index}");
    }
    sending.join().unwrap();
}

#[test]
fn silence_ends_a_connection() {
    let mut config = Config::default();
    config.limits.idle = Duration::from_secs(1);
    let host = Host::with(config);
    let mut used = host.connect(GUEST);
    assert_eq!(used.ask("GET", ID, &[]).status, 200);
    assert!(used.is_closed());
    // A later request's head that comes in part is one that the server's own timers forget.
    let mut later = host.connect(GUEST);
    assert_eq!(later.ask("GET", ID, &[]).status, 200);
    later.send("GET /latest/ HT");
    assert!(later.is_closed());
    let mut half = host.connect(GUEST);
    half.send("GET /latest/ HT");
    let status = half.receive(false).map(|reply| reply.status);
    assert!(matches!(status, None | Some(408)), "{status:?}");
}

/// The door of the guests has a share for each of them: one that opens all that it may keeps no other out.
#[test]
fn a_crowd_that_says_nothing_keeps_no_other_guest_out() {
    let host = Host::start();
    host.service.put(&instance(2, VPC, NEIGHBOUR));
    let _crowd: Vec<_> = (0..400).map(|_| host.connect(GUEST)).collect();
    for _ in 0..20 {
        assert_eq!(host.get(NEIGHBOUR, ID).status, 200);
    }
}
