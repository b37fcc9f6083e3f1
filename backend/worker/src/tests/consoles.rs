//! Consoles of a host: who gets one, and how it ends.

use cumulet_certs::ConsoleSigner;
use cumulet_domain::console::{ConsoleGrant, ConsoleKind};
use rand::SeedableRng as _;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream},
    net::{TcpListener as Listener, TcpStream},
};

use super::*;
use crate::console::{ConsoleHost, ConsoleLimits};

const LIMITS: ConsoleLimits = ConsoleLimits {
    sessions: 8,
    idle: Duration::from_secs(600),
};

fn signer(seed: u64) -> ConsoleSigner {
    ConsoleSigner::generate(&mut rand::rngs::StdRng::seed_from_u64(seed))
}

fn consoles(host: &Host) -> Arc<ConsoleHost> {
    let workers = vec![host.worker.clone()];
    ConsoleHost::new(workers, signer(1).verifier(), host.clock.clone(), LIMITS)
}

fn grant(host: &Host, n: u8, nonce: u8) -> ConsoleGrant {
    let now = host.clock.now();
    ConsoleGrant {
        instance: instance(n),
        kind: ConsoleKind::Serial,
        address: "local".into(),
        issued: now,
        expires: now.after(Duration::from_secs(60)),
        nonce: [nonce; 16],
    }
}

type Session = BufReader<DuplexStream>;

/// Sends a line; what is answered, and the session.
async fn say(consoles: &Arc<ConsoleHost>, text: &str) -> (String, Session) {
    let mut session = BufReader::new(consoles.connect());
    session.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    session.read_line(&mut answer).await.unwrap();
    (answer, session)
}

async fn come(consoles: &Arc<ConsoleHost>, grant: &ConsoleGrant) -> (String, Session) {
    say(consoles, &format!("{}\n", signer(1).sign(grant))).await
}

async fn read(session: &mut Session, wanted: &str) {
    let mut bytes = vec![0; wanted.len()];
    session.read_exact(&mut bytes).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&bytes), wanted);
}

async fn host_with_guest() -> Host {
    let mut host = Host::start().await;
    assert_eq!(host.order(run(1, 1, &[1])).await.failure, None);
    host
}

#[tokio::test]
async fn a_token_opens_the_console_once_and_its_guest_ends_it() {
    let mut host = host_with_guest().await;
    let consoles = consoles(&host);
    let (answer, mut session) = come(&consoles, &grant(&host, 1, 1)).await;
    assert_eq!(answer, "OK\n");
    read(
        &mut session,
        &format!("cumulet-fake console: {}\r\n", instance(1)),
    )
    .await;
    session.write_all(b"hello").await.unwrap();
    read(&mut session, "hello").await;
    assert_eq!(come(&consoles, &grant(&host, 1, 1)).await.0, "NO used\n");
    assert_eq!(come(&consoles, &grant(&host, 1, 2)).await.0, "NO busy\n");
    host.order(destroy(1, 2)).await;
    assert_eq!(session.read_to_end(&mut Vec::new()).await.unwrap(), 0);
    assert_eq!(come(&consoles, &grant(&host, 1, 3)).await.0, "NO no-instance\n");
}

#[tokio::test]
async fn a_client_that_goes_gives_its_place_back() {
    let host = host_with_guest().await;
    let consoles = consoles(&host);
    let (answer, session) = come(&consoles, &grant(&host, 1, 1)).await;
    assert_eq!(answer, "OK\n");
    drop(session);
    let again = async {
        // The place is free when the session's task has seen the end. A token that found none is still good.
        while come(&consoles, &grant(&host, 1, 2)).await.0 != "OK\n" {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), again)
        .await
        .unwrap();
}

#[tokio::test]
async fn what_is_no_token_opens_nothing() {
    let host = host_with_guest().await;
    let consoles = consoles(&host);
    let mut late = grant(&host, 1, 1);
    late.expires = host.clock.now();
    let mut screen = grant(&host, 1, 2);
    screen.kind = ConsoleKind::Vnc;
    let mut old = grant(&host, 1, 3);
    old.issued = Timestamp(host.clock.now().0 - 1);
    for (grant, answer) in [
        (late, "NO expired\n"),
        (screen, "NO unsupported\n"),
        (old, "NO used\n"),
        (grant(&host, 2, 4), "NO no-instance\n"),
    ] {
        assert_eq!(come(&consoles, &grant).await.0, answer);
    }
    let foreign = signer(2).sign(&grant(&host, 1, 5));
    for line in ["\n", "GET / HTTP/1.1\r\n", &format!("{foreign}\n")] {
        assert_eq!(say(&consoles, line).await.0, "NO invalid\n", "{line}");
    }
    // Too long a line, and one that is no text: closed without a word.
    assert_eq!(say(&consoles, &"a".repeat(2000)).await.0, "");
    let mut raw = consoles.connect();
    raw.write_all(b"\xff\xfe\n").await.unwrap();
    assert_eq!(raw.read(&mut [0; 1]).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_is_cut() {
    let host = host_with_guest().await;
    let consoles = consoles(&host);
    let mut silent = consoles.connect();
    assert_eq!(silent.read(&mut [0; 1]).await.unwrap(), 0);
}

#[tokio::test]
async fn the_listener_serves_until_it_is_told_to_end() {
    let host = host_with_guest().await;
    let consoles = consoles(&host);
    let listener = Listener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = watch::channel(false);
    let serving = tokio::spawn(async move { consoles.serve(listener, stopped).await });
    let mut session = TcpStream::connect(address).await.unwrap();
    let line = format!("{}\n", signer(1).sign(&grant(&host, 1, 1)));
    session.write_all(line.as_bytes()).await.unwrap();
    let mut answer = [0; 3];
    session.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"OK\n");
    stop.send_replace(true);
    serving.await.unwrap().unwrap();
    // What the guest had said, and the end.
    let _ = session.read_to_end(&mut Vec::new()).await;
}
