//! Strangers at the door: who has no grant, or none that counts, is refused by a request's head. Nothing that they send
//! is waited for or kept, and when connections have to go, theirs go first.

use futures::future::join_all;

use super::*;

/// Strangers at once, and what each of them sends.
const MANY: usize = 200;
const BODY: usize = 1_000_000;

/// Only a full house ends a connection.
const PATIENT: Limits = Limits {
    connections: 4,
    idle: Duration::from_secs(600),
    head: Duration::from_secs(600),
    body: Duration::from_secs(600),
    stall: Duration::from_secs(600),
};

/// The time at which the door of these tests is asked.
const NOW: i64 = 500;

/// What strangers show for a grant, and what each is answered with.
fn shown(rig: &Rig) -> Vec<(&'static str, Option<String>, &'static str)> {
    let elsewhere = Sealer::new(MasterKey::from_bytes([8; 32]));
    let elsewhere = SharedRng::seeded(1).with(|rng| storage_grant::seal(&elsewhere, rng, &rig.grant()));
    let expired = StorageGrant {
        until: Timestamp(NOW),
        ..rig.grant()
    };
    vec![
        ("nothing", None, "http/1.1 401"),
        ("a word", Some("x".into()), "http/1.1 401"),
        (
            "a grant, backwards",
            Some(sealed(&rig.grant()).chars().rev().collect()),
            "http/1.1 401",
        ),
        ("another cloud's", Some(elsewhere.unwrap()), "http/1.1 401"),
        ("one that has expired", Some(sealed(&expired)), "http/1.1 403"),
    ]
}

/// The head of a request with a body, or of one without.
fn head(method: &str, path: &str, grant: Option<&str>, body: Option<usize>) -> String {
    let grant = grant.map(|grant| format!("Authorization: Bearer {grant}\r\n"));
    let length = body.map(|bytes| format!("Content-Length: {bytes}\r\n"));
    let (grant, length) = (grant.unwrap_or_default(), length.unwrap_or_default());
    format!("{method} {PREFIX}{path} HTTP/1.1\r\nHost: x\r\n{grant}{length}\r\n")
}

fn served(rig: &Rig, limits: Limits) -> (Running, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let running = rig.door(NOW).start_within(vec![listener], limits).unwrap();
    (running, address)
}

/// Bytes of this process that are in memory.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.unwrap().trim().trim_end_matches(" kB");
    kib.parse::<usize>().unwrap() << 10
}

/// A6: the head alone is sent, and is answered.
#[actix_web::test]
async fn a_strangers_body_is_not_waited_for() {
    let rig = Rig::new();
    let (running, address) = served(&rig, Limits::default());
    let id = "/snapshots/snap-00000000000000005";
    for (what, grant, status) in shown(&rig) {
        for (method, path) in [
            ("PUT", format!("{id}/segment/1?offset=0")),
            ("PUT", format!("{id}/manifest/1?offset=0")),
            ("DELETE", format!("{id}/segment/1")),
            ("POST", format!("{id}?name={}&manifest=1", rig.manifest)),
            ("GET", format!("/images/{}", rig.image)),
            ("GET", format!("/manifests/{}", rig.manifest)),
        ] {
            let head = head(method, &path, grant.as_deref(), Some(BODY));
            let mut stream = sent(address, &head).await;
            let answer = answer(&mut stream).await.unwrap_or_default();
            assert!(
                answer.starts_with(status),
                "{method} {path} with {what}: {answer}"
            );
        }
    }
    // Nor is it where there is nothing.
    let mut nowhere = sent(address, &head("PUT", "/nowhere", None, Some(BODY))).await;
    let answer = answer(&mut nowhere).await.unwrap_or_default();
    assert!(answer.starts_with("http/1.1 404"), "{answer}");
    running.stop().await.unwrap();
}

/// A6: all but the last byte of so many bodies is sent at once.
#[actix_web::test]
async fn what_strangers_send_takes_no_memory() {
    let rig = Rig::new();
    let (running, address) = served(&rig, Limits::default());
    let (shown, body) = (shown(&rig), vec![b'x'; BODY - 1]);
    let before = resident();
    let strangers = (0..MANY).map(|n| {
        let (_, grant, status) = &shown[n % shown.len()];
        let path = format!("/snapshots/snap-00000000000000005/segment/{n:x}?offset=0");
        let (head, body) = (head("PUT", &path, grant.as_deref(), Some(BODY)), &body);
        async move {
            let mut stream = sent(address, &head).await;
            // It may be cut off in the middle, with an answer or without.
            let _ = stream.write_all(body).await;
            (stream, *status)
        }
    });
    let crowd = timeout(LONG, join_all(strangers)).await.expect("all is taken");
    let grown = resident().saturating_sub(before);
    assert!(
        grown < MANY * BODY / 2,
        "{grown} bytes are kept of {}",
        MANY * BODY
    );
    let mut told = 0;
    for (mut stream, status) in crowd {
        if let Some(answer) = answer(&mut stream).await {
            assert!(answer.starts_with(status), "{answer}");
            told += 1;
        }
    }
    assert!(told > MANY / 2, "{told} of {MANY} were told why");
    let mut host = sent(address, &rig.request()).await;
    let answer = answer(&mut host).await.expect("a host is answered");
    assert!(answer.starts_with("http/1.1 206"), "{answer}");
    running.stop().await.unwrap();
}

/// A grant makes a connection known when it holds, and not by being shown: who has shown another one goes before a host
/// which was there earlier.
#[actix_web::test]
async fn who_shows_a_grant_that_does_not_hold_stays_a_stranger() {
    let rig = Rig::new();
    for (what, grant, status) in shown(&rig) {
        let (running, address) = served(&rig, PATIENT);
        let mut host = sent(address, &rig.request()).await;
        let first = answer(&mut host).await.expect("a host is answered");
        assert!(first.starts_with("http/1.1 206"), "{first}");
        let asks = head("GET", &format!("/images/{}", rig.image), grant.as_deref(), None);
        let mut other = sent(address, &asks).await;
        let refused = answer(&mut other).await.expect("a stranger is answered");
        assert!(refused.starts_with(status), "{what}: {refused}");
        let mut crowd = Vec::new();
        for _ in 0..2 * PATIENT.connections {
            crowd.push(TcpStream::connect(address).await.unwrap());
        }
        let mut byte = [0; 1];
        let over = timeout(LONG, other.read(&mut byte)).await;
        let over = over.unwrap_or_else(|_| panic!("who has shown {what} is still there"));
        assert!(matches!(over, Ok(0) | Err(_)), "{what}: {over:?}");
        host.write_all(rig.request().as_bytes()).await.unwrap();
        let again = answer(&mut host).await.expect("the host is still there");
        assert!(again.starts_with("http/1.1 206"), "{again}");
        drop(crowd);
        running.stop().await.unwrap();
    }
}
