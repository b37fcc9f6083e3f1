//! A service that takes its bodies as they come and answers each piece, behind the same door: what it is given of those
//! that are large, altered, too long, late, given up or unsigned. And its requests over a socket.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::atomic::{AtomicUsize, Ordering},
};

use actix_web::web::{self, Data, ServiceConfig};
use bytes::Bytes;
use cumulet_backend::api::Presence;
use futures::{
    Stream, StreamExt as _,
    stream::{self, LocalBoxStream},
};
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::{
    echo::{Answered, Echo, Signing, Stated, ask},
    *,
};
use crate::{
    Body, Door, Limits, Running,
    auth::{AuthConfig, Dialect, RequestHead},
    mounted::Mounted,
    reply::Reply,
    server::serve,
    service::{BodyLimits, Incoming, Request, Service},
};

/// Bytes that are sent at once.
const PIECE: usize = 30_000;

/// Bytes for all bodies.
const MEMORY: usize = 256 << 10;

/// Longer than anything takes here.
const LONG: Duration = Duration::from_secs(60);

/// What came of a service's bodies.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Bytes that it was given.
    bytes: AtomicUsize,
    /// Bodies that it took for whole.
    whole: AtomicUsize,
}

impl Seen {
    fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    fn whole(&self) -> usize {
        self.whole.load(Ordering::Relaxed)
    }
}

/// The service. It answers each piece with a line that says how long it is, and the body with its digest.
#[derive(Debug, Default)]
pub(crate) struct InPieces {
    seen: Arc<Seen>,
    /// Whether its bodies may be unsigned.
    unsigned: bool,
    /// Whether it keeps the pieces until it has answered.
    keeps: bool,
}

impl Service for InPieces {
    fn scope(&self) -> &'static str {
        "pieces"
    }

    fn limits(&self) -> BodyLimits {
        BodyLimits {
            known: 32 << 20,
            ..BodyLimits::default()
        }
    }

    fn takes_unsigned(&self) -> bool {
        self.unsigned
    }

    fn dialect(&self) -> Dialect {
        Dialect::Json
    }

    fn refuse(&self, answer: &Answer, request_id: &str) -> Reply {
        Echo.refuse(answer, request_id)
    }

    async fn serve(&self, request: Request<'_>) -> Reply {
        let (now, id) = (request.cloud().now(), request.id);
        let streamed = match request.stream(self).await {
            Ok(streamed) => streamed,
            Err(reply) => return reply,
        };
        let admitted = match streamed.caller.admit(1, 1, now) {
            Ok(admitted) => admitted,
            Err(_) => return self.refuse(&Answer::new("SlowDown", 503, ""), id),
        };
        let mut body = streamed.body;
        let (mut digest, mut kept) = (Sha256::new(), Vec::new());
        let mut lines: Vec<io::Result<Bytes>> = Vec::new();
        loop {
            match body.next().await {
                Ok(Some(piece)) => {
                    self.seen.bytes.fetch_add(piece.len(), Ordering::Relaxed);
                    digest.update(&*piece);
                    lines.push(Ok(format!("{}\n", piece.len()).into()));
                    if self.keeps {
                        kept.push(piece);
                    }
                }
                Ok(None) => break,
                Err(refusal) => return self.refuse(&refusal, id),
            }
        }
        self.seen.whole.fetch_add(1, Ordering::Relaxed);
        lines.push(Ok(hex::encode(digest.finalize()).into()));
        let pieces = Body::Pieces(Box::pin(stream::iter(lines)));
        Reply::ok("text/plain", pieces.admitted(admitted.admission))
    }
}

/// A door with this service, and with one that takes its bodies whole.
fn door(world: &World, service: InPieces, memory: usize) -> Door {
    let services = vec![Mounted::Echo(Echo), Mounted::InPieces(service)];
    let auth = AuthConfig::default();
    Door::to(
        services,
        world.cloud.clone(),
        auth,
        RequestLimits::UNLIMITED,
        memory,
    )
}

/// So many bytes, of which no piece is like the one before it.
fn text(bytes: usize) -> String {
    let letters: String = ('a'..='z')
        .map(|letter| letter.to_string().repeat(1000))
        .collect();
    let mut text = letters.repeat(bytes.div_ceil(letters.len()));
    text.truncate(bytes);
    text
}

fn signing(text: &str) -> Signing<'static> {
    Signing::form("pieces", text).stating(Stated::Hash)
}

fn cut(bytes: &[u8], each: usize) -> Vec<Bytes> {
    bytes.chunks(each).map(Bytes::copy_from_slice).collect()
}

/// How a body comes to its end.
#[derive(Clone, Copy, Debug)]
enum End {
    Well,
    Broken,
    Never,
}

fn sent(parts: Vec<Bytes>, end: End) -> LocalBoxStream<'static, io::Result<Bytes>> {
    let parts = stream::iter(parts.into_iter().map(io::Result::Ok));
    match end {
        End::Well => parts.boxed_local(),
        End::Broken => {
            let broken = io::Error::from(io::ErrorKind::ConnectionReset);
            parts.chain(stream::iter([Err(broken)])).boxed_local()
        }
        End::Never => parts.chain(stream::pending()).boxed_local(),
    }
}

/// Sends a request whose body has this length, as far as its head tells, and may take so long.
async fn take(
    world: &World,
    door: &Door,
    signing: &Signing<'_>,
    (announced, time): (Option<usize>, Duration),
    mut pieces: impl Stream<Item = io::Result<Bytes>> + Unpin,
) -> Answered {
    let headers = signing.headers(world);
    let headers: Vec<(&str, &[u8])> = headers.iter().map(|(k, v)| (&**k, v.as_bytes())).collect();
    let head = RequestHead {
        method: "POST",
        path: "/",
        query: "",
        headers: &headers,
    };
    let body = Incoming {
        pieces: &mut pieces,
        client: Ipv4Addr::LOCALHOST.into(),
        announced: announced.map(|length| length as u64),
        time,
        work: None,
    };
    Answered::of(door.take(head, body, Presence::default(), "req-1").await).await
}

/// That it is the answer to this body.
fn answers(answer: &Answered, body: &[u8]) {
    assert_eq!(answer.status, 200, "{}", answer.text);
    let (lines, digest) = answer.text.rsplit_once('\n').unwrap_or(("", &*answer.text));
    let bytes: usize = lines.lines().map(|line| line.parse::<usize>().unwrap()).sum();
    assert_eq!((bytes, digest), (body.len(), &*hex::encode(Sha256::digest(body))));
}

fn refuses(what: &str, answer: &Answered, refusal: (u16, &str)) {
    assert_eq!((answer.status, &*answer.text), refusal, "{what}");
}

#[tokio::test]
async fn a_body_of_many_mib_goes_through_little_memory() {
    let world = World::new().await;
    let door = door(&world, InPieces::default(), MEMORY);
    let bodies = &door.gate().bodies;
    let text = text(24 << 20);
    for announced in [Some(text.len()), None] {
        let most = AtomicUsize::new(0);
        let pieces = sent(cut(text.as_bytes(), PIECE), End::Well).inspect(|_| {
            most.fetch_max(bodies.used(), Ordering::Relaxed);
        });
        let answer = take(&world, &door, &signing(&text), (announced, LONG), pieces).await;
        answers(&answer, text.as_bytes());
        // When another one comes, one is there that may be the last.
        assert_eq!(most.into_inner(), PIECE);
        assert_eq!(bodies.used(), 0);
    }
    // One that takes its bodies whole has no room for it.
    let small = &text[..1 << 20];
    let whole = Signing::form("echo", small);
    let pieces = sent(cut(small.as_bytes(), PIECE), End::Well);
    let answer = take(&world, &door, &whole, (Some(small.len()), LONG), pieces).await;
    refuses("a whole one", &answer, (503, "Unavailable"));
}

#[tokio::test]
async fn what_a_service_keeps_of_a_body_counts_and_a_small_body_does_not() {
    let world = World::new().await;
    for (keeps, bytes, memory, fits) in [
        (true, 1 << 20, MEMORY, false),
        (true, 100_000, MEMORY, true),
        (true, 16 << 10, 0, true),
        (false, 16 << 10, 0, true),
        (false, 17 << 10, 0, false),
    ] {
        let service = InPieces {
            keeps,
            ..InPieces::default()
        };
        let door = door(&world, service, memory);
        let text = text(bytes);
        let pieces = sent(cut(text.as_bytes(), PIECE), End::Well);
        let answer = take(&world, &door, &signing(&text), (Some(bytes), LONG), pieces).await;
        if fits {
            answers(&answer, text.as_bytes());
        } else {
            refuses("too much", &answer, (503, "Unavailable"));
        }
        assert_eq!(door.gate().bodies.used(), 0);
    }
}

/// Bodies that are not this one.
fn others(text: &str) -> Vec<Vec<Bytes>> {
    let good = cut(text.as_bytes(), PIECE);
    let altered = |at: usize| {
        let mut bytes = text.as_bytes().to_vec();
        bytes[at] ^= 1;
        bytes
    };
    let last = altered(text.len() - 1);
    let mut swapped = good.clone();
    swapped.swap(0, 1);
    // What has nothing in it must not pass for the last piece.
    let mut padded = cut(&last, PIECE);
    padded.extend([Bytes::new(), Bytes::new()]);
    vec![
        cut(&altered(0), PIECE),
        cut(&altered(text.len() / 2), PIECE),
        cut(&last, PIECE),
        cut(&last, text.len()),
        padded,
        swapped,
        good[1..].to_vec(),
        good[..good.len() - 1].to_vec(),
        [&good[..], &good[..1]].concat(),
        Vec::new(),
    ]
}

#[tokio::test]
async fn another_body_is_refused_at_its_end_and_never_seen_whole() {
    let world = World::new().await;
    let service = InPieces::default();
    let seen = service.seen.clone();
    let door = door(&world, service, MEMORY);
    let text = text(100_000);
    for (n, parts) in others(&text).into_iter().enumerate() {
        let length: usize = parts.iter().map(Bytes::len).sum();
        let last = parts.iter().rev().find(|part| !part.is_empty());
        let last = last.map_or(0, Bytes::len);
        for announced in [Some(length), None] {
            let before = seen.bytes();
            let pieces = sent(parts.clone(), End::Well);
            let answer = take(&world, &door, &signing(&text), (announced, LONG), pieces).await;
            refuses(&n.to_string(), &answer, (400, "InvalidSignatureException"));
            assert_eq!(seen.bytes() - before, length - last, "{n}");
        }
    }
    assert_eq!(seen.whole(), 0);
    // The body itself, in whatever pieces it comes.
    for each in [999, PIECE, 50_000, text.len()] {
        let mut parts = cut(text.as_bytes(), each);
        parts.insert(1, Bytes::new());
        parts.push(Bytes::new());
        let pieces = sent(parts, End::Well);
        let answer = take(&world, &door, &signing(&text), (None, LONG), pieces).await;
        answers(&answer, text.as_bytes());
    }
    let nothing = take(
        &world,
        &door,
        &signing(""),
        (Some(0), LONG),
        sent(Vec::new(), End::Well),
    )
    .await;
    answers(&nothing, b"");
    assert_eq!(seen.whole(), 5);
    assert_eq!(door.gate().bodies.used(), 0);
}

#[tokio::test]
async fn a_refusal_has_the_code_that_it_has_of_a_whole_body() {
    let world = World::new().await;
    let service = InPieces::default();
    let seen = service.seen.clone();
    let door = door(&world, service, 32 << 20);
    let text = text(100_000);
    let good = cut(text.as_bytes(), PIECE);
    let other = others(&text).swap_remove(0);
    let endless = vec![Bytes::from(vec![b'x'; 1 << 20]); 34];
    let all = Some(text.len());
    let soon = Duration::from_millis(50);
    let (key, secret) = (&*world.access_key_id, &*world.secret);
    let nobody = "AKIAIOSFODNN7EXAMPLE";
    for (what, signed, announced, parts, end, refusal) in [
        (
            "another body",
            (key, secret),
            all,
            &other,
            End::Well,
            (400, "InvalidSignatureException"),
        ),
        (
            "longer than announced",
            (key, secret),
            Some(60_000),
            &good,
            End::Well,
            (413, "RequestEntityTooLarge"),
        ),
        (
            "longer than it may be",
            (key, secret),
            None,
            &endless,
            End::Well,
            (413, "RequestEntityTooLarge"),
        ),
        (
            "announced as longer than it may be",
            (key, secret),
            Some(64 << 20),
            &good,
            End::Never,
            (413, "RequestEntityTooLarge"),
        ),
        (
            "broken off",
            (key, secret),
            all,
            &good,
            End::Broken,
            (400, "InvalidRequest"),
        ),
        (
            "late",
            (key, secret),
            all,
            &good,
            End::Never,
            (408, "RequestTimeout"),
        ),
        (
            "signed with another secret",
            (key, "wrong"),
            all,
            &good,
            End::Well,
            (400, "InvalidSignatureException"),
        ),
        (
            "signed by nobody",
            (nobody, secret),
            all,
            &good,
            End::Well,
            (400, "UnrecognizedClientException"),
        ),
    ] {
        for service in ["echo", "pieces"] {
            let signing = Signing::form(service, &text).stating(Stated::Hash);
            let signing = signing.with_key(signed.0).with_secret(signed.1);
            let time = if matches!(end, End::Never) { soon } else { LONG };
            let pieces = sent(parts.clone(), end);
            let answer = take(&world, &door, &signing, (announced, time), pieces).await;
            refuses(&format!("{what}, {service}"), &answer, refusal);
            assert_eq!(door.gate().bodies.used(), 0, "{what}, {service}");
        }
    }
    assert_eq!(seen.whole(), 0);
}

/// A head that does not prove the body is refused without a look at that.
#[tokio::test]
async fn an_unsigned_body_is_taken_where_the_service_says_so_and_nowhere_else() {
    let world = World::new().await;
    let text = text(100_000);
    let good = cut(text.as_bytes(), PIECE);
    let strict = door(&world, InPieces::default(), MEMORY);
    let service = InPieces {
        unsigned: true,
        ..InPieces::default()
    };
    let seen = service.seen.clone();
    let lax = door(&world, service, MEMORY);
    for (door, service, stated) in [
        (&strict, "pieces", Stated::Unsigned),
        (&strict, "pieces", Stated::Nothing),
        (&lax, "pieces", Stated::Nothing),
        // Another service of the same door.
        (&lax, "echo", Stated::Unsigned),
    ] {
        let read = AtomicUsize::new(0);
        let pieces = sent(good.clone(), End::Well).inspect(|_| {
            read.fetch_add(1, Ordering::Relaxed);
        });
        let signing = Signing::form(service, &text).stating(stated);
        let answer = take(&world, door, &signing, (Some(text.len()), LONG), pieces).await;
        let what = format!("{service} {stated:?}");
        refuses(&what, &answer, (400, "InvalidSignatureException"));
        assert_eq!(read.into_inner(), 0, "{what}");
    }
    assert_eq!(seen.whole(), 0);
    let unsigned = Signing::form("pieces", "").stating(Stated::Unsigned);
    let other = others(&text).swap_remove(0);
    let pieces = sent(other.clone(), End::Well);
    let answer = take(&world, &lax, &unsigned, (Some(text.len()), LONG), pieces).await;
    let bytes: Vec<u8> = other.iter().flat_map(|part| part.to_vec()).collect();
    answers(&answer, &bytes);
    // Its length still holds.
    for (announced, refusal) in [
        (99_999, (413, "RequestEntityTooLarge")),
        (100_001, (400, "InvalidRequest")),
    ] {
        let pieces = sent(good.clone(), End::Well);
        let answer = take(&world, &lax, &unsigned, (Some(announced), LONG), pieces).await;
        refuses("of another length", &answer, refusal);
    }
    assert_eq!(seen.whole(), 1);
}

#[tokio::test]
async fn services_of_forms_and_documents_take_a_hash_and_no_unsigned_body() {
    let world = World::new().await;
    let door = Door::with_limits(
        world.cloud.clone(),
        AuthConfig::default(),
        RequestLimits::UNLIMITED,
        MEMORY,
    );
    let json = |service, target, body| Signing::json(service, "application/x-amz-json-1.1", target, body);
    let form = (403, "SignatureDoesNotMatch");
    let document = (400, "InvalidSignatureException");
    for (signing, refusal) in [
        (
            Signing::form("ec2", "Action=DescribeRegions&Version=2016-11-15"),
            form,
        ),
        (
            Signing::form("sts", "Action=GetCallerIdentity&Version=2011-06-15"),
            form,
        ),
        (Signing::form("iam", "Action=GetUser&Version=2010-05-08"), form),
        (
            json("servicequotas", "ServiceQuotasV20190624.ListServices", "{}"),
            document,
        ),
        (
            json("ssm", "AmazonSSM.GetParameters", r#"{"Names":["/a"]}"#),
            document,
        ),
    ] {
        let answer = ask(&world, &door, &signing.clone().stating(Stated::Hash)).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let (status, code) = ask(&world, &door, &signing.stating(Stated::Unsigned))
            .await
            .code();
        assert_eq!((status, &*code), refusal);
    }
}

#[tokio::test]
async fn a_key_that_is_revoked_while_a_body_comes_does_not_sign_it() {
    let world = World::new().await;
    let service = InPieces::default();
    let seen = service.seen.clone();
    let door = door(&world, service, MEMORY);
    let text = text(100_000);
    let here = &world;
    let pieces = sent(cut(text.as_bytes(), PIECE), End::Well).enumerate();
    let pieces = pieces.then(move |(n, part)| async move {
        if n == 2 {
            here.advance(2);
            let (parts, cache) = (here.cloud.parts(), &here.cloud.credentials);
            let revoked = accounts::set_access_key_enabled(&parts, cache, &here.access_key_id, false);
            revoked.await.unwrap();
        }
        part
    });
    let pieces = Box::pin(pieces);
    let answer = take(&world, &door, &signing(&text), (None, LONG), pieces).await;
    refuses("revoked", &answer, (400, "UnrecognizedClientException"));
    assert_eq!((seen.bytes(), seen.whole()), (3 * PIECE, 0));
}

#[tokio::test]
async fn who_goes_away_gives_the_memory_back() {
    let world = World::new().await;
    let service = InPieces::default();
    let seen = service.seen.clone();
    let door = door(&world, service, MEMORY);
    let text = text(100_000);
    let signing = signing(&text);
    let parts = cut(&text.as_bytes()[..3 * PIECE], PIECE);
    let pieces = sent(parts, End::Never);
    let mut taking = Box::pin(take(&world, &door, &signing, (Some(text.len()), LONG), pieces));
    while seen.bytes() < 2 * PIECE {
        assert!(futures::poll!(taking.as_mut()).is_pending());
        tokio::task::yield_now().await;
    }
    assert_eq!(door.gate().bodies.used(), PIECE);
    drop(taking);
    assert_eq!(door.gate().bodies.used(), 0);
    assert_eq!((seen.bytes(), seen.whole()), (2 * PIECE, 0));
}

fn served(door: &Data<Door>) -> (Running, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let door = door.clone();
    let routes = move |app: &mut ServiceConfig| {
        app.app_data(door.clone())
            .default_service(web::to(crate::http::handle));
    };
    let running = serve("test", vec![listener], 1, Limits::default(), Arc::new(routes));
    (running.unwrap(), address)
}

/// A request's head on a connection of its own.
async fn begun(world: &World, address: SocketAddr, signing: &Signing<'_>, length: usize) -> TcpStream {
    let headers = signing.headers(world);
    let headers: String = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    let head = format!("POST / HTTP/1.1\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n");
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LONG, waiting).await.unwrap_or_else(|_| panic!("{what}"));
}

#[actix_web::test]
async fn over_a_socket_a_large_body_goes_through_and_one_that_is_cut_off_holds_nothing() {
    let world = World::new().await;
    let service = InPieces::default();
    let seen = service.seen.clone();
    let door = Data::new(door(&world, service, 1 << 20));
    let (running, address) = served(&door);
    let text = text(16 << 20);
    let signing = signing(&text);
    let mut stream = begun(&world, address, &signing, text.len()).await;
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let read = timeout(LONG, stream.read_to_string(&mut answer)).await;
    read.expect("an answer").unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains(&hex::encode(Sha256::digest(&text))), "{answer}");
    assert_eq!((seen.bytes(), seen.whole()), (text.len(), 1));
    assert_eq!(door.gate().bodies.used(), 0);

    let mut stream = begun(&world, address, &signing, text.len()).await;
    stream.write_all(&text.as_bytes()[..200_000]).await.unwrap();
    let used = || door.gate().bodies.used();
    until("something is held", || used() > 0).await;
    drop(stream);
    until("nothing is held", || used() == 0).await;
    assert_eq!(seen.whole(), 1);

    // Another body, of the same length: it is refused at its end, in time to be told.
    let mut altered = text.clone().into_bytes();
    altered[0] ^= 1;
    let mut stream = begun(&world, address, &signing, text.len()).await;
    stream.write_all(&altered).await.unwrap();
    let mut answer = String::new();
    let read = timeout(LONG, stream.read_to_string(&mut answer)).await;
    read.expect("an answer").unwrap();
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(answer.contains("InvalidSignatureException"), "{answer}");
    assert_eq!(seen.whole(), 1);
    running.stop().await.unwrap();
}
