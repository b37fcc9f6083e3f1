//! Every listener of the crate, by the same table: whoever opens connections and says nothing keeps nobody out.

use std::{io, net::SocketAddr, path::Path};

use async_trait::async_trait;
use cumulet_certs::ConsoleSigner;
use rand::SeedableRng as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::watch,
    time::timeout,
};

use super::{http::serve_with, *};
use crate::{
    Limits,
    console::{ConsoleDoor, ConsoleLimits, HostStream, Hosts},
    serve_metrics,
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
    for (address, path, says) in [
        (api_address, "/cumulet/health", "200 ok"),
        (metrics_address, "/metrics", "counted 1"),
        // The version that a WebSocket would have to have is told, too.
        (console_address, "/", "sec-websocket-version: 13"),
    ] {
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
    }
    stop.send_replace(true);
    console.await.unwrap().unwrap();
    metrics.stop().await.unwrap();
    api.stop().await.unwrap();
}

/// That there is one function which makes servers is what the table above goes by.
#[test]
fn nothing_else_in_the_crate_makes_a_server() {
    fn makers(folder: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                makers(&path, found);
            } else {
                let text = std::fs::read_to_string(&path).unwrap();
                let makes = ["Server::build", "HttpServer::new", "TcpListener::accept"];
                let made = makes.iter().filter(|made| text.contains(**made)).count();
                if made > 0 && !path.ends_with("tests/listeners.rs") {
                    found.push(path.file_name().unwrap().to_string_lossy().into_owned());
                }
            }
        }
    }
    let mut found = Vec::new();
    let here = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    makers(&Path::new(&here).join("src"), &mut found);
    assert_eq!(found, ["server.rs"]);
}
