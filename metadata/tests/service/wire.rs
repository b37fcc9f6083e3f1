//! What is on the wire: status, headers, bodies, and that everything listed is there.

use std::collections::BTreeSet;

use crate::{
    client::Connection,
    cloud::{GUEST, Host, instance},
};

fn get(connection: &mut Connection, path: &str) -> (u16, Vec<u8>) {
    let reply = connection.ask("GET", path, &[]);
    (reply.status, reply.body)
}

/// Follows every listing as a client does, with and without final slashes.
fn crawl(connection: &mut Connection, directory: &str, found: &mut BTreeSet<String>) {
    let (status, listing) = get(connection, directory);
    assert_eq!(status, 200, "{directory}");
    let listing = String::from_utf8(listing).unwrap();
    for name in listing.lines() {
        // A key is a directory although it is listed without a slash.
        let name = match name.split_once('=') {
            Some((index, _)) if directory.ends_with("public-keys/") => format!("{index}/"),
            _ => name.replace('=', "%3D"),
        };
        let path = format!("{directory}{name}");
        let (status, body) = get(connection, &path);
        assert_eq!(status, 200, "{path}");
        assert!(path.ends_with("user-data") || !body.ends_with(b"\n"), "{path}");
        let other = path
            .strip_suffix('/')
            .map_or_else(|| format!("{path}/"), str::to_owned);
        assert_eq!(get(connection, &other), (200, body), "{other}");
        found.insert(path.clone());
        if path.ends_with('/') {
            crawl(connection, &path, found);
        } else if directory.split('/').count() == 3 && name != "user-data" {
            crawl(connection, &format!("{path}/"), found);
        }
    }
}

#[test]
fn every_listed_name_answers() {
    let mut config = cumulet_metadata::Config::default();
    config.limits.requests_per_second = 0;
    let host = Host::with(config);
    let mut connection = host.connect(GUEST);
    for version in ["1.0", "2009-04-04", "2018-09-24", "2021-03-23", "latest"] {
        let mut found = BTreeSet::new();
        crawl(&mut connection, &format!("/{version}/"), &mut found);
        assert!(found.contains(&format!("/{version}/meta-data/instance-id")));
        let tags = found.contains(&format!("/{version}/meta-data/tags/instance/a%3Db"));
        assert_eq!(tags, version > "2021", "{version}");
    }
    let (status, versions) = get(&mut connection, "/");
    assert_eq!(status, 200);
    for version in std::str::from_utf8(&versions).unwrap().lines() {
        assert_eq!(get(&mut connection, &format!("/{version}")).0, 200, "{version}");
    }
}

#[test]
fn responses_look_like_those_of_ec2() {
    let host = Host::start();
    let mut connection = host.connect(GUEST);
    let reply = connection.ask("GET", "/latest/meta-data/instance-id", &[]);
    assert_eq!((reply.status, reply.text()), (200, "i-00000000000000001"));
    for (name, value) in [
        ("server", "EC2ws"),
        ("content-type", "text/plain"),
        ("content-length", "19"),
        ("accept-ranges", "none"),
    ] {
        assert_eq!(reply.header(name), Some(value), "{name}");
    }
    assert!(reply.header("date").is_some());
    assert_eq!(reply.header("x-aws-ec2-metadata-token-ttl-seconds"), None);

    let reply = connection.ask("GET", "/latest/user-data", &[]);
    assert_eq!(reply.body, b"#!/bin/sh\n\xff\x00\n");
    assert_eq!(reply.header("content-type"), Some("application/octet-stream"));

    let reply = connection.ask("HEAD", "/latest/meta-data/instance-id", &[]);
    assert_eq!((reply.status, reply.header("content-length")), (200, Some("19")));

    for path in [
        "/nowhere",
        "/latest/meta-data/ami-id/x",
        "/2030-01-01/meta-data",
        "/latest/%2e%2e/x",
    ] {
        let reply = connection.ask("GET", path, &[]);
        assert_eq!(reply.status, 404, "{path}");
        assert_eq!(reply.header("content-type"), Some("text/html"));
        assert!(reply.text().contains("<h1>404 - Not Found</h1>"));
    }
}

#[test]
fn absent_user_data_is_not_found() {
    let host = Host::start();
    let mut metadata = instance(1, crate::cloud::VPC, GUEST);
    metadata.revision = 2;
    metadata.user_data = None;
    host.service.put(&metadata);
    assert_eq!(host.get(GUEST, "/latest/user-data").status, 404);
    assert_eq!(host.get(GUEST, "/latest").text(), "dynamic\nmeta-data");
}

#[test]
fn other_methods_are_told_what_is_allowed() {
    let host = Host::start();
    let mut connection = host.connect(GUEST);
    for (method, path, status, allow) in [
        ("GET", "/latest/api/token", 405, "OPTIONS, PUT"),
        ("POST", "/latest/api/token", 405, "OPTIONS, PUT"),
        ("DELETE", "/latest/api/token", 405, "OPTIONS, PUT"),
        ("OPTIONS", "/latest/api/token", 200, "OPTIONS, PUT"),
        ("POST", "/latest/meta-data/", 405, "GET, HEAD"),
        ("PATCH", "/latest/meta-data/", 405, "GET, HEAD"),
    ] {
        let reply = connection.ask(method, path, &[("Content-Length", "0")]);
        assert_eq!(reply.status, status, "{method} {path}");
        assert_eq!(reply.header("allow"), Some(allow), "{method} {path}");
        assert!(reply.body.is_empty());
    }
}

#[test]
fn http_1_0_without_a_host_is_answered() {
    let host = Host::start();
    let mut connection = host.connect(GUEST);
    connection.send("GET /latest/meta-data/instance-type HTTP/1.0\r\n\r\n");
    assert_eq!(connection.receive(false).unwrap().text(), "t3.micro");
    assert!(connection.is_closed());
}

#[test]
fn a_foreign_host_name_is_refused() {
    let host = Host::start();
    for request in [
        "GET /latest/ HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        "GET http://evil.example/latest/ HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n",
    ] {
        let mut connection = host.connect(GUEST);
        connection.send(request);
        assert_eq!(connection.receive(false).unwrap().status, 403, "{request}");
    }
}
