//! The door against hosts that the test plays.

use std::{net::SocketAddr, sync::Mutex};

use actix_codec::{Decoder as _, Encoder as _};
use actix_http::ws::{Codec, Frame, Message};
use bytes::{Bytes, BytesMut};
use cumulet_certs::ConsoleSigner;
use cumulet_domain::{
    console::{ConsoleGrant, ConsoleKind},
    id::InstanceId,
    time::{ManualClock, Timestamp},
};
use rand::SeedableRng as _;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream},
    net::TcpStream,
    task::JoinHandle,
};

use super::*;

const NOW: Timestamp = Timestamp(1_000_000);

/// A host that answers every token with a line and echoes after an OK; where it was looked for is kept.
struct Played {
    answer: &'static str,
    asked: Mutex<Vec<(String, String)>>,
}

#[async_trait]
impl Hosts for Arc<Played> {
    async fn connect(&self, address: &str) -> io::Result<Box<dyn HostStream>> {
        if self.answer == "refuse" {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let (ours, theirs) = tokio::io::duplex(1024);
        let (this, address) = (self.clone(), address.to_owned());
        tokio::spawn(async move { this.play(address, BufReader::new(ours)).await });
        Ok(Box::new(theirs))
    }
}

impl Played {
    async fn play(&self, address: String, mut end: BufReader<DuplexStream>) {
        let mut token = String::new();
        end.read_line(&mut token).await.unwrap();
        self.asked
            .lock()
            .unwrap()
            .push((address, token.trim().to_owned()));
        end.write_all(self.answer.as_bytes()).await.unwrap();
        let mut bytes = [0; 512];
        while self.answer.starts_with("OK\n") {
            match end.read(&mut bytes).await {
                Ok(count) if count > 0 => end.write_all(&bytes[..count]).await.unwrap(),
                _ => return,
            }
        }
    }
}

struct Rig {
    address: SocketAddr,
    host: Arc<Played>,
    stop: watch::Sender<bool>,
    task: JoinHandle<io::Result<()>>,
}

async fn rig(answer: &'static str, sessions: usize) -> Rig {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let host = Arc::new(Played {
        answer,
        asked: Mutex::default(),
    });
    let door = ConsoleDoor {
        verifier: signer(1).verifier(),
        clock: Arc::new(ManualClock::new(NOW)),
        hosts: Arc::new(host.clone()),
        limits: ConsoleLimits {
            sessions,
            idle: Duration::from_secs(600),
        },
    };
    let (stop, stopped) = watch::channel(false);
    let task = tokio::spawn(door.serve(listener, stopped));
    Rig {
        address,
        host,
        stop,
        task,
    }
}

fn signer(seed: u64) -> ConsoleSigner {
    ConsoleSigner::generate(&mut rand::rngs::StdRng::seed_from_u64(seed))
}

fn token(seed: u64, expires: i64) -> String {
    signer(seed).sign(&ConsoleGrant {
        instance: InstanceId::new(1 << 40),
        kind: ConsoleKind::Serial,
        address: "10.0.0.1:6081".into(),
        issued: NOW,
        expires: Timestamp(NOW.0 + expires),
        nonce: [1; 16],
    })
}

const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

impl Rig {
    /// Sends a request; the connection, and the head of the answer.
    async fn ask(&self, line: &str, headers: &str) -> (BufReader<TcpStream>, String) {
        let mut stream = BufReader::new(TcpStream::connect(self.address).await.unwrap());
        let text = format!("{line} HTTP/1.1\r\nHost: here:6080\r\n{headers}\r\n");
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") && stream.read_line(&mut head).await.unwrap() > 0 {}
        (stream, head.to_ascii_lowercase())
    }

    /// The status of an answer and its text.
    async fn refused(&self, line: &str, headers: &str) -> (u16, String) {
        let (mut stream, head) = self.ask(line, headers).await;
        let status = head.split(' ').nth(1).unwrap_or_default().parse().unwrap();
        assert!(head.contains("connection: close") || status == 101, "{head}");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        (status, text)
    }

    async fn console(&self) -> (BufReader<TcpStream>, String) {
        self.ask(&format!("GET /?token={}", token(1, 1)), UPGRADE).await
    }
}

async fn send(stream: &mut BufReader<TcpStream>, message: Message) {
    let mut bytes = BytesMut::new();
    Codec::new().client_mode().encode(message, &mut bytes).unwrap();
    stream.write_all(&bytes).await.unwrap();
}

/// The next frame; `None` at the end.
async fn next(stream: &mut BufReader<TcpStream>, buffer: &mut BytesMut) -> Option<Frame> {
    let mut codec = Codec::new().client_mode();
    loop {
        if let Some(frame) = codec.decode(buffer).unwrap() {
            return Some(frame);
        }
        if stream.read_buf(buffer).await.unwrap() == 0 {
            return None;
        }
    }
}

#[tokio::test]
async fn a_token_is_a_console() {
    let rig = rig("OK\nfirst", 2).await;
    let (mut stream, head) = rig.console().await;
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    // RFC 6455, section 1.3.
    assert!(
        head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="),
        "{head}"
    );
    assert!(!head.contains("sec-websocket-protocol"), "{head}");
    let mut buffer = BytesMut::new();
    assert_eq!(
        next(&mut stream, &mut buffer).await,
        Some(Frame::Binary(Bytes::from("first")))
    );
    for text in ["typed", "and more"] {
        send(&mut stream, Message::Binary(text.into())).await;
        assert_eq!(
            next(&mut stream, &mut buffer).await,
            Some(Frame::Binary(text.into()))
        );
    }
    send(&mut stream, Message::Ping("p".into())).await;
    assert_eq!(
        next(&mut stream, &mut buffer).await,
        Some(Frame::Pong("p".into()))
    );
    let asked = rig.host.asked.lock().unwrap().clone();
    assert_eq!(asked, [("10.0.0.1:6081".to_owned(), token(1, 1))]);
    send(&mut stream, Message::Close(None)).await;
    assert!(matches!(
        next(&mut stream, &mut buffer).await,
        Some(Frame::Close(_))
    ));
    assert_eq!(next(&mut stream, &mut buffer).await, None);
    rig.stop.send_replace(true);
    rig.task.await.unwrap().unwrap();
}

#[tokio::test]
async fn more_than_pipes_hold_goes_both_ways() {
    let rig = rig("OK\n", 2).await;
    let (mut stream, _) = rig.console().await;
    let (mut buffer, mut echoed) = (BytesMut::new(), 0);
    let many = 40;
    for _ in 0..many {
        send(&mut stream, Message::Binary(Bytes::from(vec![b'x'; 10_000]))).await;
    }
    while echoed < many * 10_000 {
        match next(&mut stream, &mut buffer).await {
            Some(Frame::Binary(bytes)) => echoed += bytes.len(),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn what_is_no_token_is_refused_here() {
    let rig = rig("OK\n", 2).await;
    for (line, headers, status, text) in [
        (
            format!("GET /?token={}", token(2, 1)),
            UPGRADE.to_owned(),
            401,
            "not valid",
        ),
        (
            format!("GET /?token={}", token(1, 0)),
            UPGRADE.to_owned(),
            401,
            "expired",
        ),
        ("GET /".to_owned(), UPGRADE.to_owned(), 401, "not valid"),
        (
            format!("GET /x?token={}", token(1, 1)),
            UPGRADE.to_owned(),
            404,
            "nothing",
        ),
        (
            format!("GET /?token={}", token(1, 1)),
            format!("{UPGRADE}Origin: http://elsewhere\r\n"),
            403,
            "another site",
        ),
        (
            format!("GET /?token={}", token(1, 1)),
            String::new(),
            426,
            "WebSocket",
        ),
        (
            format!("GET /?token={}", token(1, 1)),
            UPGRADE.replace("Version: 13", "Version: 7"),
            426,
            "WebSocket",
        ),
        (
            format!("DELETE /?token={}", token(1, 1)),
            UPGRADE.to_owned(),
            405,
            "GET",
        ),
        ("GET /other".to_owned(), String::new(), 404, "nothing"),
    ] {
        let (found, said) = rig.refused(&line, &headers).await;
        assert_eq!(found, status, "{line} {said}");
        assert!(said.contains(text), "{line}: {said}");
    }
    assert!(rig.host.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn what_the_host_says_is_told() {
    for (answer, status) in [
        ("NO used\n", 401),
        ("NO no-instance\n", 404),
        ("NO unsupported\n", 501),
        ("NO busy\n", 503),
        ("refuse", 503),
        ("what is this\n", 503),
        ("OK", 503),
    ] {
        let rig = rig(answer, 2).await;
        let (found, said) = rig
            .refused(&format!("GET /?token={}", token(1, 1)), UPGRADE)
            .await;
        assert_eq!(found, status, "{answer}: {said}");
    }
}

#[tokio::test]
async fn there_are_so_many_places_and_large_frames_end_a_console() {
    let rig = rig("OK\n", 1).await;
    let binary = format!("{UPGRADE}Sec-WebSocket-Protocol: base64, binary\r\nOrigin: http://here\r\n");
    let line = format!("GET /websockify?token={}", token(1, 1));
    let (mut stream, head) = rig.ask(&line, &binary).await;
    assert!(head.contains("sec-websocket-protocol: binary"), "{head}");
    let (status, said) = rig.refused(&line, UPGRADE).await;
    assert!(status == 503 && said.contains("too many"), "{status} {said}");
    // A head that tells of more than a frame may have is enough.
    stream
        .write_all(&[0x82, 0xff, 0, 0, 0, 0, 0x10, 0, 0, 0, 1, 2, 3, 4])
        .await
        .unwrap();
    let closed = next(&mut stream, &mut BytesMut::new()).await;
    assert!(
        matches!(closed, Some(Frame::Close(Some(ref why))) if why.code == ws_size()),
        "{closed:?}"
    );
}

fn ws_size() -> actix_http::ws::CloseCode {
    actix_http::ws::CloseCode::Size
}
