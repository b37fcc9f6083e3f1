//! Clients that keep the server waiting: each is cut in time, and none keeps another from its answer.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use super::{
    http::{post, serve_with},
    *,
};
use crate::Limits;

/// Longer than anything takes here, on the slowest machine.
const LONG: Duration = Duration::from_secs(60);

const SHORT: Limits = Limits {
    connections: 1000,
    // A client of these tests must not be slower than this between an answer and its next request.
    idle: Duration::from_secs(3),
    head: Duration::from_millis(300),
    body: Duration::from_millis(300),
    stall: Duration::from_millis(300),
};

/// Only a full house ends a connection.
const PATIENT: Limits = Limits {
    connections: 8,
    idle: Duration::from_secs(600),
    head: Duration::from_secs(600),
    body: Duration::from_secs(600),
    stall: Duration::from_secs(600),
};

const HEALTH: &[u8] = b"GET /cumulet/health HTTP/1.1\r\nHost: x\r\n\r\n";

/// A request of which another may follow on the connection.
fn ask(world: &World, address: SocketAddr, body: &str) -> String {
    let request = String::from_utf8(post(world, address, "ec2", body)).unwrap();
    request.replace("Connection: close\r\n", "")
}

async fn connected(address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream
}

/// Reads until `end` is there.
async fn answer(stream: &mut TcpStream, end: &str) -> String {
    let mut found = Vec::new();
    while !String::from_utf8_lossy(&found).contains(end) {
        let count = timeout(LONG, stream.read_buf(&mut found))
            .await
            .expect("an answer");
        assert!(count.unwrap() > 0, "{}", String::from_utf8_lossy(&found));
    }
    String::from_utf8(found).unwrap()
}

/// What comes until the server closes the connection, which it must do.
async fn rest(stream: &mut TcpStream, what: &str) -> String {
    let mut found = Vec::new();
    let ended = timeout(LONG, stream.read_to_end(&mut found)).await;
    // Whether with a reset or without does not matter.
    let _ = ended.unwrap_or_else(|_| panic!("still open: {what}"));
    String::from_utf8(found).unwrap()
}

#[actix_web::test]
async fn what_is_left_unfinished_is_cut() {
    let world = World::new().await;
    let (running, address) = serve_with(&world, SHORT).await;
    let form = "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n";
    let cases = [
        ("nothing", String::new(), ""),
        ("half a head", "POST / HTT".into(), ""),
        (
            "a body that never comes",
            format!("{form}Content-Length: 9\r\n\r\n"),
            "HTTP/1.1 408",
        ),
        (
            "half a body",
            format!("{form}Content-Length: 9\r\n\r\nAction="),
            "HTTP/1.1 408",
        ),
        (
            "half a chunk",
            format!("{form}Transfer-Encoding: chunked\r\n\r\n9\r\nAct"),
            "HTTP/1.1 408",
        ),
    ];
    let cases = cases
        .iter()
        .map(|(what, begin, status)| left_unfinished(address, what, begin, status));
    futures::future::join_all(cases).await;
    running.stop().await.unwrap();
}

async fn left_unfinished(address: SocketAddr, what: &str, begin: &str, status: &str) {
    let begin = begin.as_bytes();
    // As a connection's first request, and as one after another.
    let mut first = connected(address, begin).await;
    let seen = rest(&mut first, what).await;
    assert!(seen.starts_with(status), "{what}: {seen}");
    let mut later = connected(address, HEALTH).await;
    answer(&mut later, "ok\n").await;
    later.write_all(begin).await.unwrap();
    rest(&mut later, &format!("{what}, later")).await;
    // Both at once.
    let mut both = connected(address, &[HEALTH, begin].concat()).await;
    let seen = rest(&mut both, &format!("{what}, at once")).await;
    assert!(seen.starts_with("HTTP/1.1 200"), "{what}: {seen}");
}

#[actix_web::test]
async fn a_byte_now_and_then_gains_no_time() {
    let world = World::new().await;
    let (running, address) = serve_with(&world, SHORT).await;
    let form = "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n";
    for begin in [
        "POST / HTTP/1.1\r\nX: ".to_owned(),
        format!("{form}Content-Length: 100000\r\n\r\n"),
        format!("{form}Transfer-Encoding: chunked\r\n\r\nffff\r\n"),
    ] {
        let mut stream = connected(address, HEALTH).await;
        answer(&mut stream, "ok\n").await;
        stream.write_all(begin.as_bytes()).await.unwrap();
        let (mut read, mut write) = stream.split();
        let dripping = async {
            while write.write_all(b"a").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let mut seen = Vec::new();
        let reading = async {
            let _ = read.read_to_end(&mut seen).await;
        };
        // Both end only with the connection.
        let both = async { tokio::join!(dripping, reading) };
        timeout(LONG, both)
            .await
            .unwrap_or_else(|_| panic!("still open: {begin}"));
    }
    running.stop().await.unwrap();
}

#[actix_web::test]
async fn who_reads_no_answers_is_cut() {
    let world = World::new().await;
    let (running, address) = serve_with(&world, SHORT).await;
    let request = ask(&world, address, "Action=DescribeInstanceTypes&Version=2016-11-15");
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    let asking = async { while stream.write_all(request.as_bytes()).await.is_ok() {} };
    timeout(LONG, asking).await.expect("still open");
    running.stop().await.unwrap();
}

#[actix_web::test]
async fn a_request_in_pieces_is_answered() {
    let world = World::new().await;
    let (running, address) = serve_with(&world, Limits::default()).await;
    let request = ask(&world, address, "Action=DescribeRegions&Version=2016-11-15");
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for _ in 0..2 {
        for piece in request.as_bytes().chunks(50) {
            stream.write_all(piece).await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let seen = answer(&mut stream, "</DescribeRegionsResponse>").await;
        assert!(seen.starts_with("HTTP/1.1 200"), "{seen}");
    }
    running.stop().await.unwrap();
}

#[actix_web::test]
async fn a_crowd_that_says_nothing_keeps_nobody_out() {
    let world = World::new().await;
    let (running, address) = serve_with(&world, PATIENT).await;
    let request = ask(&world, address, "Action=DescribeRegions&Version=2016-11-15");
    let end = "</DescribeRegionsResponse>";
    let mut known = connected(address, request.as_bytes()).await;
    answer(&mut known, end).await;
    let mut crowd = Vec::new();
    for begin in [
        &b""[..],
        b"POST / HTTP/1.1\r\nHo",
        HEALTH,
        b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n",
    ]
    .iter()
    .cycle()
    .take(400)
    {
        crowd.push(connected(address, begin).await);
        // Another new one, in the middle of it.
        let mut stream = connected(address, request.as_bytes()).await;
        answer(&mut stream, end).await;
    }
    // Who has been served before is still connected.
    known.write_all(request.as_bytes()).await.unwrap();
    answer(&mut known, end).await;
    drop(crowd);
    running.stop().await.unwrap();
}

/// A signature makes a connection known when it holds: who names a key and signs with another secret goes before a
/// client that was there earlier.
#[actix_web::test]
async fn who_signs_wrongly_stays_a_stranger() {
    let world = World::new().await;
    let (running, address) = serve_with(&world, PATIENT).await;
    let request = ask(&world, address, "Action=DescribeRegions&Version=2016-11-15");
    let end = "</DescribeRegionsResponse>";
    let (before, after) = request.split_once("Signature=").unwrap();
    let forged = format!("{before}Signature={}{}", "0".repeat(64), &after[64..]);
    let mut known = connected(address, request.as_bytes()).await;
    answer(&mut known, end).await;
    let mut other = connected(address, forged.as_bytes()).await;
    let refused = answer(&mut other, "</Response>").await;
    assert!(refused.starts_with("HTTP/1.1 401"), "{refused}");
    let mut crowd = Vec::new();
    for _ in 0..2 * PATIENT.connections {
        crowd.push(connected(address, b"").await);
    }
    rest(&mut other, "who has signed wrongly").await;
    known.write_all(request.as_bytes()).await.unwrap();
    answer(&mut known, end).await;
    drop(crowd);
    running.stop().await.unwrap();
}
