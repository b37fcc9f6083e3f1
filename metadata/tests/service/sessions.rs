//! IMDSv2 over the wire: tokens, their hop limit, and the options of the instance.

use std::{net::Ipv4Addr, time::Duration};

use cumulet_domain::{id::InstanceId, metadata::MetadataOptions};

use crate::cloud::{GUEST, Host, NEIGHBOUR, VPC, instance};

const TOKEN: &str = "X-aws-ec2-metadata-token";
const TTL: &str = "X-aws-ec2-metadata-token-ttl-seconds";
const PATH: &str = "/latest/api/token";
const ID: &str = "/latest/meta-data/instance-id";

fn token(host: &Host, from: Ipv4Addr, ttl: &str) -> String {
    let reply = host.connect(from).ask("PUT", PATH, &[(TTL, ttl)]);
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("x-aws-ec2-metadata-token-ttl-seconds"), Some(ttl));
    assert_eq!(reply.header("content-type"), Some("text/plain"));
    reply.text().to_owned()
}

fn read(host: &Host, from: Ipv4Addr, token: &str) -> (u16, Option<String>) {
    let reply = host.connect(from).ask("GET", ID, &[(TOKEN, token)]);
    let left = reply.header("x-aws-ec2-metadata-token-ttl-seconds");
    (reply.status, left.map(str::to_owned))
}

#[test]
fn a_token_is_for_its_instance_and_its_time() {
    let host = Host::start();
    host.service.put(&instance(2, VPC, NEIGHBOUR));
    host.set(MetadataOptions {
        tokens_required: true,
        ..MetadataOptions::default()
    });
    let reply = host.get(GUEST, ID);
    assert_eq!(reply.status, 401);
    assert_eq!(reply.header("content-type"), Some("text/html"));
    assert!(reply.text().contains("<title>401 - Unauthorized</title>"));

    let token = token(&host, GUEST, "60");
    assert_eq!(read(&host, GUEST, &token), (200, Some("60".into())));
    // The neighbour needs none, but one that isn't its own is refused all the same.
    assert_eq!(host.get(NEIGHBOUR, ID).status, 200);
    assert_eq!(read(&host, NEIGHBOUR, &token), (401, None));
    host.clock.advance(Duration::from_secs(45));
    assert_eq!(read(&host, GUEST, &token), (200, Some("15".into())));
    host.clock.advance(Duration::from_secs(15));
    assert_eq!(read(&host, GUEST, &token), (401, None));

    let counters = host.service.counters_of(InstanceId::new(1)).unwrap();
    assert_eq!((counters.v1, counters.v2, counters.tokens), (0, 2, 1));
    assert_eq!(counters.unauthorized, 2);
    assert_eq!(
        host.service.first_contact(InstanceId::new(1)),
        Some(crate::cloud::START)
    );
}

#[test]
fn tokens_survive_a_restart_of_the_service() {
    let host = Host::start();
    let token = token(&host, GUEST, "60");
    drop(host);
    let host = Host::start();
    assert_eq!(read(&host, GUEST, &token).0, 200);
}

#[test]
fn refused_token_requests() {
    let host = Host::start();
    for (path, headers, status) in [
        (PATH, vec![], 400),
        (PATH, vec![(TTL, "0")], 400),
        (PATH, vec![(TTL, "21601")], 400),
        (PATH, vec![(TTL, "60"), ("X-Forwarded-For", "10.0.0.9")], 403),
        (PATH, vec![(TTL, "60"), ("x-forwarded-for", "")], 403),
        ("/latest/api/token/", vec![(TTL, "60")], 403),
        ("/2021-03-23/api/token", vec![(TTL, "60")], 403),
        ("/latest/other", vec![(TTL, "60")], 404),
    ] {
        let reply = host.connect(GUEST).ask("PUT", path, &headers);
        assert_eq!(reply.status, status, "{path} {headers:?}");
    }
}

#[test]
fn a_body_does_not_disturb() {
    let host = Host::start();
    let mut connection = host.connect(GUEST);
    connection.send(
        "PUT /latest/api/token HTTP/1.1\r\nHost: 169.254.169.254\r\nContent-Length: 2\r\n\
         X-aws-ec2-metadata-token-ttl-seconds: 60\r\n\r\n{}",
    );
    assert_eq!(connection.receive(false).unwrap().status, 200);
}

#[test]
fn a_disabled_endpoint_says_so_at_once() {
    let host = Host::start();
    host.set(MetadataOptions {
        enabled: false,
        ..MetadataOptions::default()
    });
    let mut connection = host.connect(GUEST);
    for (method, path) in [("GET", ID), ("PUT", PATH), ("GET", "/"), ("POST", "/x")] {
        let reply = connection.ask(method, path, &[(TTL, "60")]);
        assert_eq!((reply.status, reply.body.len()), (403, 0), "{method} {path}");
        assert_eq!(reply.header("content-length"), Some("0"));
    }
    host.set(MetadataOptions::default());
    assert_eq!(connection.ask("GET", ID, &[]).status, 200);
}

/// The IP TTL is measured where it matters: at the receiver, on the segments as they arrive.
#[test]
fn only_responses_with_a_token_have_the_hop_limit() {
    for hop_limit in [1, 3, 64] {
        let host = Host::start();
        host.set(MetadataOptions {
            hop_limit,
            ..MetadataOptions::default()
        });
        let capture = crate::guests::Capture::start(host.address);
        let mut connection = host.connect(GUEST);
        assert_eq!(connection.ask("GET", ID, &[]).status, 200);
        assert_eq!(capture.next(), 64, "a read");
        assert_eq!(connection.ask("PUT", PATH, &[(TTL, "60")]).status, 200);
        assert_eq!(capture.next(), hop_limit, "a token");
    }
}
