//! Every listener of the crate, by the same table: whoever opens connections and says nothing keeps nobody out, and cuts
//! nobody off who is no stranger.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use cumulet_certs::ConsoleSigner;
use rand::SeedableRng as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::watch,
    time::timeout,
};

use super::{
    http::{post, serve_with},
    *,
};
use crate::{
    Limits,
    console::{ConsoleDoor, ConsoleLimits, HostStream, Hosts},
    serve_metrics,
    storage::tests::{Rig, answer},
};

/// More than any listener takes.
const CROWD: usize = 300;

/// Longer than anything takes here.
const LONG: Duration = Duration::from_secs(60);

struct Nowhere;

#[async_trait]
impl Hosts for Nowhere {
    async fn connect(&self, _: &str) -> io::Result<Box<dyn HostStream>> {
        Err(io::ErrorKind::ConnectionRefused.into())
    }
}

fn bound() -> (std::net::TcpListener, SocketAddr) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Asks on a new connection, and answers all that comes.
async fn ask(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let read = timeout(LONG, stream.read_to_string(&mut answer)).await;
    read.expect("an answer").unwrap();
    answer.to_ascii_lowercase()
}

#[actix_web::test]
async fn a_crowd_of_silent_strangers_shuts_no_listener() {
    let world = World::new().await;
    let limits = Limits {
        connections: 64,
        // Nothing but the crowd itself ends a connection.
        idle: Duration::from_secs(600),
        head: Duration::from_secs(600),
        ..Limits::default()
    };
    let (api, api_address) = serve_with(&world, limits).await;
    let (listener, metrics_address) = bound();
    let metrics = serve_metrics(listener, Arc::new(|| "counted 1\n".into())).unwrap();
    let (listener, console_address) = bound();
    let signer = ConsoleSigner::generate(&mut rand::rngs::StdRng::seed_from_u64(1));
    let console = ConsoleDoor {
        verifier: signer.verifier(),
        clock: world.clock.clone(),
        hosts: Arc::new(Nowhere),
        limits: ConsoleLimits {
            sessions: 2,
            idle: LONG,
        },
    };
    let (stop, stopped) = watch::channel(false);
    let console = tokio::spawn(console.serve(listener, stopped));
    let rig = Rig::new();
    let (listener, storage_address) = bound();
    let storage = rig.door(0).start_within(vec![listener], limits).unwrap();
    let regions = post(&world, api_address, "ec2", "Action=DescribeRegions");
    let regions = String::from_utf8(regions).unwrap();
    // How a stranger asks, and what a client sends again and again over one connection.
    for (address, path, says, kept) in [
        (
            api_address,
            "/cumulet/health",
            "200 ok",
            Some(regions.replace("Connection: close\r\n", "")),
        ),
        (
            metrics_address,
            "/metrics",
            "counted 1",
            Some("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".to_owned()),
        ),
        // The version that a WebSocket would have to have is told, too.
        (console_address, "/", "sec-websocket-version: 13", None),
        (
            storage_address,
            "/cumulet/storage/v1/images/x",
            "not of this cloud",
            Some(rig.request()),
        ),
    ] {
        let mut client = TcpStream::connect(address).await.unwrap();
        if let Some(request) = &kept {
            again(&mut client, request).await;
        }
        let mut crowd = Vec::new();
        for n in 0..CROWD {
            let mut silent = TcpStream::connect(address).await.unwrap();
            if n % 2 == 0 {
                silent.write_all(b"GET / HTTP/1.1\r\nHo").await.unwrap();
            }
            crowd.push(silent);
            if n % 50 == 49 {
                let answer = ask(address, path).await;
                assert!(answer.contains(says), "{path} after {n}: {answer}");
            }
        }
        // Whoever was there before them, and is no stranger, is there still.
        if let Some(request) = &kept {
            again(&mut client, request).await;
        }
    }
    stop.send_replace(true);
    console.await.unwrap().unwrap();
    metrics.stop().await.unwrap();
    api.stop().await.unwrap();
    storage.stop().await.unwrap();
}

/// Asks on a connection, which stays.
async fn again(client: &mut TcpStream, request: &str) {
    client.write_all(request.as_bytes()).await.unwrap();
    let answer = answer(client).await.expect("the connection is there");
    assert!(answer.starts_with("http/1.1 20"), "{request}: {answer}");
}

/// The files of the crate, but for this one, in which one of these is.
fn files_with(texts: &[&str]) -> Vec<String> {
    fn look(folder: &Path, texts: &[&str], found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                look(&path, texts, found);
            } else if !path.ends_with("tests/listeners.rs") {
                let file = std::fs::read_to_string(&path).unwrap();
                found.extend(texts.iter().any(|text| file.contains(*text)).then_some(path));
            }
        }
    }
    let here = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    let (sources, mut found) = (Path::new(&here).join("src"), Vec::new());
    look(&sources, texts, &mut found);
    found.sort();
    let names = found.iter().map(|path| path.strip_prefix(&sources).unwrap());
    names.map(|name| name.to_string_lossy().into_owned()).collect()
}

/// That there is one function which makes servers is what the table above goes by.
#[test]
fn nothing_else_in_the_crate_makes_a_server() {
    let makers = files_with(&["Server::build", "HttpServer::new", "TcpListener::accept"]);
    assert_eq!(makers, ["server.rs"]);
}

/// And that there is one around everything that answers, which tells whom a connection waits for.
#[test]
fn nothing_else_in_the_crate_answers_without_being_known_to_the_crowd() {
    // Consoles are no requests any more once they are open; they begin by themselves, and wait for nothing before.
    assert_eq!(files_with(&["server::listen("]), ["console/mod.rs"]);
    assert_eq!(
        files_with(&["Member::begin"]),
        ["console/relay.rs", "under_way.rs"]
    );
}
