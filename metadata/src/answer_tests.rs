//! The matrix of methods, tokens, options and paths.

use std::sync::Arc;

use bytes::Bytes;
use cumulet_certs::MasterKey;
use cumulet_domain::metadata::MetadataOptions;
use rand::{SeedableRng, rngs::StdRng};

use super::*;
use crate::{config::TokenSecret, fixture, instance::Snapshot};

const NOW: Timestamp = Timestamp(1_767_323_045_000);

const GET: Request<'static> = Request {
    method: Method::Read,
    path: "/latest/meta-data/instance-type",
    host: Some(b"169.254.169.254"),
    forwarded: false,
    token: None,
    ttl: None,
    crowded: false,
};

const PUT: Request<'static> = Request {
    method: Method::Put,
    path: "/latest/api/token",
    ttl: Some(b"21600"),
    ..GET
};

fn instance(number: u64, options: MetadataOptions) -> Arc<Instance> {
    let mut metadata = fixture::full(number, [10, 0, 0, 5].into());
    metadata.options = options;
    let secret = TokenSecret {
        master: MasterKey::from_bytes([7; 32]),
        epoch: 0,
    };
    let snapshot = Snapshot::new(&metadata, &Config::default());
    Instance::new(metadata.instance, snapshot, &secret)
}

fn plain() -> Arc<Instance> {
    instance(1, MetadataOptions::default())
}

fn ask(instance: &Instance, request: Request<'_>, now: Timestamp) -> Answer {
    let mut rng = StdRng::seed_from_u64(1);
    answer(&request, instance, &Config::default(), now, &mut rng)
}

fn token(instance: &Instance) -> String {
    match ask(instance, PUT, NOW) {
        Answer::Token { text, .. } => text,
        other => panic!("{other:?}"),
    }
}

fn value(remaining: Option<u64>) -> Answer {
    Answer::Value(Found::Text(Bytes::from_static(b"t3.micro")), remaining)
}

#[test]
fn token_requests() {
    let instance = plain();
    assert!(matches!(
        ask(&instance, PUT, NOW),
        Answer::Token { ttl: 21_600, hop_limit: 1, text } if text.len() == 56
    ));
    let at = |path| Request { path, ..PUT };
    let ttl = |ttl| Request {
        ttl: Some(ttl),
        ..PUT
    };
    for (request, expected) in [
        (Request { ttl: None, ..PUT }, Answer::BadRequest),
        (ttl(b""), Answer::BadRequest),
        (ttl(b"0"), Answer::BadRequest),
        (ttl(b"21601"), Answer::BadRequest),
        (ttl(b"-1"), Answer::BadRequest),
        (ttl(b"+60"), Answer::BadRequest),
        (ttl(b"060"), Answer::BadRequest),
        (ttl(b"six"), Answer::BadRequest),
        (ttl(b"1.5"), Answer::BadRequest),
        (ttl(b"99999999999999999999"), Answer::BadRequest),
        (
            Request {
                forwarded: true,
                ..PUT
            },
            Answer::Forbidden,
        ),
        (at("/latest/api/token/"), Answer::Forbidden),
        (at("//latest/api/token"), Answer::Forbidden),
        (at("/2021-03-23/api/token"), Answer::Forbidden),
        (at("/latest/meta-data/instance-id"), Answer::NotFound),
        (at("/"), Answer::NotFound),
        (at("/nowhere"), Answer::NotFound),
    ] {
        assert_eq!(ask(&instance, request, NOW), expected, "{request:?}");
    }
}

#[test]
fn methods() {
    let instance = plain();
    let at_token = |method| Request {
        method,
        path: TOKEN_PATH,
        ..GET
    };
    let at_data = |method| Request { method, ..GET };
    for (request, expected) in [
        (at_token(Method::Read), Answer::MethodNotAllowed("OPTIONS, PUT")),
        (at_token(Method::Other), Answer::MethodNotAllowed("OPTIONS, PUT")),
        (at_token(Method::Options), Answer::Allowed("OPTIONS, PUT")),
        (at_data(Method::Other), Answer::MethodNotAllowed("GET, HEAD")),
        (at_data(Method::Options), Answer::MethodNotAllowed("GET, HEAD")),
        (at_data(Method::Read), value(None)),
    ] {
        assert_eq!(ask(&instance, request, NOW), expected, "{request:?}");
    }
}

#[test]
fn reads_with_and_without_tokens() {
    let optional = plain();
    let options = |tokens_required, enabled| MetadataOptions {
        tokens_required,
        enabled,
        ..MetadataOptions::default()
    };
    let required = instance(1, options(true, true));
    let disabled = instance(1, options(false, false));
    let own = token(&optional);
    let foreign = token(&instance(2, MetadataOptions::default()));
    let padded = format!(" {own} ");
    let cases: [(Option<&str>, Answer, Answer); 6] = [
        (None, value(None), Answer::Unauthorized),
        (Some(&own), value(Some(21_600)), value(Some(21_600))),
        (Some(&padded), value(Some(21_600)), value(Some(21_600))),
        (Some(&foreign), Answer::Unauthorized, Answer::Unauthorized),
        (Some("garbage"), Answer::Unauthorized, Answer::Unauthorized),
        (Some(""), Answer::Unauthorized, Answer::Unauthorized),
    ];
    for (token, when_optional, when_required) in cases {
        let request = Request {
            token: token.map(str::as_bytes),
            ..GET
        };
        assert_eq!(ask(&optional, request, NOW), when_optional, "{token:?}");
        assert_eq!(ask(&required, request, NOW), when_required, "{token:?}");
        assert_eq!(ask(&disabled, request, NOW), Answer::Forbidden, "{token:?}");
    }
    assert_eq!(ask(&disabled, PUT, NOW), Answer::Forbidden);
    // Where the path leads isn't told to those who may not read.
    let nowhere = Request {
        path: "/latest/nowhere",
        ..GET
    };
    assert_eq!(ask(&required, nowhere, NOW), Answer::Unauthorized);
    assert_eq!(ask(&optional, nowhere, NOW), Answer::NotFound);
}

#[test]
fn tokens_expire() {
    let instance = plain();
    let Answer::Token { text, .. } = ask(
        &instance,
        Request {
            ttl: Some(b"1"),
            ..PUT
        },
        NOW,
    ) else {
        panic!("no token");
    };
    let read = Request {
        token: Some(text.as_bytes()),
        ..GET
    };
    assert_eq!(ask(&instance, read, Timestamp(NOW.0 + 999)), value(Some(1)));
    assert_eq!(
        ask(&instance, read, Timestamp(NOW.0 + 1000)),
        Answer::Unauthorized
    );
}

#[test]
fn hosts() {
    let instance = plain();
    for (host, allowed) in [
        (None, true),
        (Some(""), true),
        (Some("169.254.169.254"), true),
        (Some("169.254.169.254:80"), true),
        (Some("[fd00:ec2::254]"), true),
        (Some("[FD00:EC2::254]:80"), true),
        (Some("169.254.169.254:8080"), false),
        (Some("evil.example"), false),
        (Some("169.254.169.254.evil.example"), false),
    ] {
        let request = Request {
            host: host.map(str::as_bytes),
            ..GET
        };
        let expected = if allowed { value(None) } else { Answer::Forbidden };
        assert_eq!(ask(&instance, request, NOW), expected, "{host:?}");
    }
}

#[test]
fn too_many_reads_are_put_off_but_tokens_are_not() {
    let instance = plain();
    let read = || ask(&instance, GET, NOW);
    assert!((0..400).all(|_| read() == value(None)));
    assert_eq!(read(), Answer::Busy);
    assert!(matches!(ask(&instance, PUT, NOW), Answer::Token { .. }));
    let crowded = Request { crowded: true, ..GET };
    let later = Timestamp(NOW.0 + 1000);
    assert_eq!(ask(&instance, crowded, later), Answer::Busy);
    assert_eq!(ask(&instance, GET, later), value(None));
    let crowded = Request { crowded: true, ..PUT };
    assert!(matches!(ask(&instance, crowded, later), Answer::Token { .. }));
}
