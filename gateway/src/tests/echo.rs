//! A service that is none of AWS's protocols, behind the same door: it answers what it is sent, in pieces. And
//! requests signed as clients sign them, without a server.

use bytes::Bytes;
use futures::stream;

use super::*;
use crate::{
    Body, Door,
    auth::{AuthConfig, Dialect, RequestHead},
    fault::Answer,
    mounted::Mounted,
    reply::Reply,
    service::{BodyLimits, Request, Service},
};
use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{PayloadChecksumKind, SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4::SigningParams,
};

/// What it answers in one piece.
const PIECE: usize = 100_000;

/// The service.
#[derive(Debug)]
pub(crate) struct Echo;

impl Service for Echo {
    fn scope(&self) -> &'static str {
        "echo"
    }

    fn limits(&self) -> BodyLimits {
        BodyLimits {
            known: 4 << 20,
            ..BodyLimits::default()
        }
    }

    fn dialect(&self) -> Dialect {
        Dialect::Json
    }

    fn refuse(&self, answer: &Answer, _: &str) -> Reply {
        Reply {
            status: answer.status,
            content_type: "text/plain",
            body: Body::Whole(answer.code.clone().into_owned()),
            error_type: None,
            held_back: false,
        }
    }

    async fn serve(&self, request: Request<'_>) -> Reply {
        let (now, id) = (request.cloud().now(), request.id);
        let proven = match request.with_document().whole(self).await {
            Ok(proven) => proven,
            Err(reply) => return reply,
        };
        let admitted = match proven.caller.admit(1, 1, now) {
            Ok(admitted) => admitted,
            Err(_) => return self.refuse(&Answer::new("SlowDown", 503, ""), id),
        };
        let pieces: Vec<_> = proven
            .parameters
            .bytes()
            .chunks(PIECE)
            .map(|piece| Ok(Bytes::copy_from_slice(piece)))
            .collect();
        let pieces = Body::Pieces(Box::pin(stream::iter(pieces)));
        Reply::ok("application/octet-stream", pieces.admitted(admitted.admission))
    }
}

/// What the head of a request states of its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stated {
    Nothing,
    Hash,
    /// That it is not signed.
    Unsigned,
}

/// A request, and with what it is signed.
#[derive(Clone)]
pub(crate) struct Signing<'a> {
    service: String,
    content_type: String,
    target: Option<String>,
    body: String,
    stated: Stated,
    key: Option<&'a str>,
    secret: Option<&'a str>,
}

impl<'a> Signing<'a> {
    pub(crate) fn form(service: &str, body: &str) -> Self {
        Signing {
            service: service.into(),
            content_type: "application/x-www-form-urlencoded; charset=utf-8".into(),
            target: None,
            body: body.into(),
            stated: Stated::Nothing,
            key: None,
            secret: None,
        }
    }

    pub(crate) fn json(service: &str, content_type: &str, target: &str, body: &str) -> Self {
        Signing {
            content_type: content_type.into(),
            target: Some(target.into()),
            ..Signing::form(service, body)
        }
    }

    pub(crate) fn with_key(mut self, key: &'a str) -> Self {
        self.key = Some(key);
        self
    }

    pub(crate) fn with_secret(mut self, secret: &'a str) -> Self {
        self.secret = Some(secret);
        self
    }

    pub(crate) fn with_body(mut self, body: &str) -> Self {
        self.body = body.into();
        self
    }

    pub(crate) fn stating(mut self, stated: Stated) -> Self {
        self.stated = stated;
        self
    }

    /// The headers, with the signature's.
    pub(crate) fn headers(&self, world: &World) -> Vec<(String, String)> {
        let (key, secret) = (
            self.key.unwrap_or(&world.access_key_id),
            self.secret.unwrap_or(&world.secret),
        );
        let identity = Credentials::new(key, secret, None, None, "test").into();
        let mut settings = SigningSettings::default();
        if self.stated != Stated::Nothing {
            settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        }
        let body = match self.stated {
            Stated::Nothing | Stated::Hash => SignableBody::Bytes(self.body.as_bytes()),
            Stated::Unsigned => SignableBody::UnsignedPayload,
        };
        let params = SigningParams::builder()
            .identity(&identity)
            .region("us-east-1")
            .name(&self.service)
            .time(std::time::UNIX_EPOCH + Duration::from_millis(NOW.0 as u64))
            .settings(settings)
            .build()
            .unwrap()
            .into();
        let mut headers = vec![("content-type".to_owned(), self.content_type.clone())];
        headers.extend(
            self.target
                .clone()
                .map(|target| ("x-amz-target".to_owned(), target)),
        );
        let signable = SignableRequest::new(
            "POST",
            "http://127.0.0.1:8773/",
            headers.iter().map(|(name, value)| (&**name, &**value)),
            body,
        );
        let (instructions, _) = sign(signable.unwrap(), &params).unwrap().into_parts();
        let made = instructions.headers();
        let made: Vec<_> = made
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        headers.extend(made);
        headers.push(("host".into(), "127.0.0.1:8773".into()));
        headers
    }
}

/// An answer.
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) content_type: String,
    pub(crate) error_type: Option<String>,
    pub(crate) text: String,
}

impl Answered {
    /// All of a reply, which must have an end.
    pub(crate) async fn of(reply: Reply) -> Answered {
        Answered {
            status: reply.status,
            content_type: reply.content_type.into(),
            error_type: reply.error_type.map(|kind| kind.into_owned()),
            text: reply
                .body
                .text()
                .await
                .unwrap_or_else(|_| panic!("it has no end")),
        }
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The status, and the code where the protocol has it.
    pub(crate) fn code(&self) -> (u16, String) {
        let code = match &self.error_type {
            Some(kind) => {
                assert_eq!(self.json()["__type"].as_str(), Some(&**kind));
                assert!(self.json()["message"].is_string(), "{}", self.text);
                kind.clone()
            }
            None => one(&self.text, "Code"),
        };
        (self.status, code)
    }
}

/// Asks a door.
pub(crate) async fn ask(world: &World, door: &Door, signing: &Signing<'_>) -> Answered {
    let headers = signing.headers(world);
    let headers: Vec<(&str, &[u8])> = headers.iter().map(|(k, v)| (&**k, v.as_bytes())).collect();
    let head = RequestHead {
        method: "POST",
        path: "/",
        query: "",
        headers: &headers,
    };
    Answered::of(door.answer(head, signing.body.clone().into(), "req-1").await).await
}

fn echo(world: &World, limits: RequestLimits, memory: usize) -> Door {
    let services = vec![Mounted::Echo(Echo)];
    Door::to(
        services,
        world.cloud.clone(),
        AuthConfig::default(),
        limits,
        memory,
    )
}

fn sent(bytes: usize) -> Signing<'static> {
    Signing::form("echo", "").with_body(&"é".repeat(bytes / 2))
}

/// What the door does for every service, this one has without having said anything.
#[tokio::test]
async fn any_service_has_the_doors_fences() {
    let world = World::new().await;
    let door = echo(&world, RequestLimits::UNLIMITED, 8 << 20);
    let answer = ask(&world, &door, &sent(3 << 20)).await;
    assert_eq!((answer.status, answer.text.len()), (200, 3 << 20));
    assert_eq!(door.gate().bodies.used(), 0);
    for (signing, status, code) in [
        (sent(5 << 20), 413, "RequestEntityTooLarge"),
        (sent(10).with_secret("wrong"), 400, "InvalidSignatureException"),
        (
            sent(10).with_key("AKIAIOSFODNN7EXAMPLE"),
            400,
            "UnrecognizedClientException",
        ),
    ] {
        let answer = ask(&world, &door, &signing).await;
        assert_eq!((answer.status, &*answer.text), (status, code));
    }
    // Its bodies have the memory of all.
    let small = echo(&world, RequestLimits::UNLIMITED, 1 << 20);
    let answer = ask(&world, &small, &sent(3 << 20)).await;
    assert_eq!((answer.status, &*answer.text), (503, "Unavailable"));
    // And its requests the share of their account.
    let share = crate::Share {
        in_flight: 0,
        rate: crate::Rate {
            per_second: 1,
            burst: 2,
        },
    };
    let limits = RequestLimits {
        account: share,
        ..RequestLimits::UNLIMITED
    };
    let few = echo(&world, limits, 1 << 20);
    for expected in [200, 200, 503] {
        assert_eq!(ask(&world, &few, &sent(10)).await.status, expected);
    }
}

/// A request that asks for nothing that there is takes from its account's share too.
#[tokio::test]
async fn what_is_not_there_costs_as_well() {
    let world = World::new().await;
    let share = crate::Share {
        in_flight: 0,
        rate: crate::Rate {
            per_second: 1,
            burst: 3,
        },
    };
    for (signing, code, throttled) in [
        (
            Signing::form("ec2", "Action=MakeCoffee"),
            "InvalidAction",
            "RequestLimitExceeded",
        ),
        (
            Signing::form("ec2", "Action=CreateVpc"),
            "UnsupportedOperation",
            "RequestLimitExceeded",
        ),
        (
            Signing::form("iam", "Action=CreateUser"),
            "UnsupportedOperation",
            "Throttling",
        ),
        (
            Signing::form("sts", "X=%ff"),
            "MalformedQueryString",
            "Throttling",
        ),
        (
            Signing::json(
                "servicequotas",
                "application/x-amz-json-1.1",
                "ServiceQuotasV20190624.X",
                "{}",
            ),
            "UnknownOperationException",
            "TooManyRequestsException",
        ),
    ] {
        let limits = RequestLimits {
            key: share,
            ..RequestLimits::UNLIMITED
        };
        let door = Door::with_limits(world.cloud.clone(), AuthConfig::default(), limits, 1 << 20);
        for expected in [code, code, code, throttled] {
            assert_eq!(ask(&world, &door, &signing).await.code().1, expected);
        }
    }
}
