//! The server on a socket, with requests signed as the Rust SDK signs them.

use std::net::{SocketAddr, TcpListener};

use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4::SigningParams,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::*;
use crate::{Gateway, Limits, Running};

async fn serve(world: &World) -> (Running, SocketAddr) {
    serve_with(world, Limits::default()).await
}

pub(super) async fn serve_with(world: &World, limits: Limits) -> (Running, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut gateway = Gateway::new(vec![listener]);
    gateway.workers = 1;
    gateway.limits = limits;
    (gateway.start(world.cloud.clone()).unwrap(), address)
}

/// Sends bytes and answers the whole response.
pub(super) async fn send(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut response = Vec::new();
    // The server may cut the connection off after its answer to what it does not want to read.
    let _ = stream.read_to_end(&mut response).await;
    String::from_utf8(response).unwrap()
}

pub(super) fn post(world: &World, address: SocketAddr, service: &str, body: &str) -> Vec<u8> {
    signed(world, address, service, ("POST", "/"), body)
}

/// The same parameters in the query.
pub(super) fn get(world: &World, address: SocketAddr, query: &str) -> Vec<u8> {
    signed(world, address, "ec2", ("GET", &format!("/?{query}")), "")
}

fn signed(
    world: &World,
    address: SocketAddr,
    service: &str,
    (method, target): (&str, &str),
    body: &str,
) -> Vec<u8> {
    let identity = Credentials::new(&world.access_key_id, &world.secret, None, None, "test").into();
    let params = SigningParams::builder()
        .identity(&identity)
        .region("us-east-1")
        .name(service)
        .time(std::time::UNIX_EPOCH + Duration::from_millis(NOW.0 as u64))
        .settings(SigningSettings::default())
        .build()
        .unwrap()
        .into();
    let kind = "application/x-www-form-urlencoded; charset=utf-8";
    let uri = format!("http://{address}{target}");
    let signable = SignableRequest::new(
        method,
        uri,
        std::iter::once(("content-type", kind)),
        SignableBody::Bytes(body.as_bytes()),
    );
    let (instructions, _) = sign(signable.unwrap(), &params).unwrap().into_parts();
    let mut head = format!(
        "{method} {target} HTTP/1.1\r\nHost: {address}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n",
        body.len()
    );
    for (name, value) in instructions.headers() {
        head += &format!("{name}: {value}\r\n");
    }
    [head.as_bytes(), b"\r\n", body.as_bytes()].concat()
}

#[actix_web::test]
async fn every_service_behind_one_address() {
    let world = World::new().await;
    let (running, address) = serve(&world).await;
    let ec2 = send(
        address,
        &post(
            &world,
            address,
            "ec2",
            "Action=DescribeRegions&Version=2016-11-15",
        ),
    )
    .await;
    assert!(ec2.starts_with("HTTP/1.1 200 OK\r\n"), "{ec2}");
    assert!(
        ec2.to_lowercase()
            .contains("content-type: text/xml;charset=utf-8"),
        "{ec2}"
    );
    let id = one(&ec2, "requestId");
    assert!(
        ec2.to_lowercase().contains(&format!("x-amzn-requestid: {id}")),
        "{ec2}"
    );
    let sts = send(
        address,
        &post(
            &world,
            address,
            "sts",
            "Action=GetCallerIdentity&Version=2011-06-15",
        ),
    )
    .await;
    assert_eq!(one(&sts, "Account"), world.who.account.to_string());
    let iam = send(
        address,
        &post(&world, address, "iam", "Action=GetUser&Version=2010-05-08"),
    )
    .await;
    assert_eq!(one(&iam, "UserName"), world.who.user_name);
    let nobody = send(
        address,
        &post(
            &world,
            address,
            "iam",
            "Action=GetUser&Version=2010-05-08&UserName=nobody",
        ),
    )
    .await;
    assert!(
        nobody.starts_with("HTTP/1.1 404") && nobody.contains("<Code>NoSuchEntity</Code>"),
        "{nobody}"
    );
    // Signed for one service, no use for another.
    let wrong = send(
        address,
        &post(
            &world,
            address,
            "sts",
            "Action=DescribeRegions&Version=2016-11-15",
        ),
    )
    .await;
    assert!(wrong.contains("<Code>InvalidAction</Code>"), "{wrong}");
    running.stop().await.unwrap();
}

#[actix_web::test]
async fn what_is_refused_before_any_action() {
    let world = World::new().await;
    let (running, address) = serve(&world).await;
    let body = "Action=DescribeRegions";
    let head = format!("Host: {address}\r\nConnection: close\r\n");
    let form = format!("{head}Content-Type: application/x-www-form-urlencoded\r\n");
    let signed = String::from_utf8(post(&world, address, "ec2", body)).unwrap();
    for (request, status, code) in [
        (
            format!("GET /?{body} HTTP/1.1\r\n{head}\r\n"),
            "403",
            "MissingAuthenticationToken",
        ),
        (
            format!(
                "POST / HTTP/1.1\r\n{form}Content-Length: {}\r\n\r\n{body}",
                body.len()
            ),
            "403",
            "MissingAuthenticationToken",
        ),
        (
            signed.replace("DescribeRegions", "DescribeVpcs\n\n\n"),
            "401",
            "AuthFailure",
        ),
        (
            signed.replace(&world.access_key_id, "AKIAIOSFODNN7EXAMPLE"),
            "401",
            "AuthFailure",
        ),
        (
            format!("DELETE / HTTP/1.1\r\n{head}\r\n"),
            "405",
            "MethodNotAllowed",
        ),
        (
            format!("POST / HTTP/1.1\r\n{form}Content-Length: 9999999\r\n\r\n"),
            "413",
            "RequestEntityTooLarge",
        ),
        (
            format!("POST http://{address}/ HTTP/1.1\r\n{form}Content-Length: 0\r\n\r\n"),
            "403",
            "MissingAuthenticationToken",
        ),
        (
            format!("POST http://elsewhere/ HTTP/1.1\r\n{form}Content-Length: 0\r\n\r\n"),
            "400",
            "InvalidRequest",
        ),
        (
            signed.replace("application/x-www-form-urlencoded; charset=utf-8", "text/plain"),
            "400",
            "MalformedQueryString",
        ),
    ] {
        let response = send(address, request.as_bytes()).await;
        assert!(
            response.starts_with(&format!("HTTP/1.1 {status}")),
            "{request}\n{response}"
        );
        assert!(response.contains(code), "{request}\n{response}");
        assert!(response.contains("<RequestID>"), "{request}\n{response}");
    }
    // Two lengths, or a length and chunks: nobody may understand it differently than we do.
    for lengths in [
        "Content-Length: 3\r\nTransfer-Encoding: chunked",
        "Content-Length: 3\r\nContent-Length: 4",
    ] {
        let response = send(
            address,
            format!("POST / HTTP/1.1\r\n{form}{lengths}\r\n\r\n0\r\n\r\n").as_bytes(),
        )
        .await;
        assert!(response.starts_with("HTTP/1.1 4"), "{lengths}: {response}");
    }
    let health = send(
        address,
        format!("GET /cumulet/health HTTP/1.1\r\n{head}\r\n").as_bytes(),
    )
    .await;
    assert!(health.starts_with("HTTP/1.1 200"), "{health}");
    running.stop().await.unwrap();
}

/// B20: a client behind a proxy sends the absolute form of the target.
#[actix_web::test]
async fn a_target_in_the_absolute_form_is_answered() {
    let world = World::new().await;
    let (running, address) = serve(&world).await;
    let body = "Action=DescribeRegions&Version=2016-11-15";
    for request in [post(&world, address, "ec2", body), get(&world, address, body)] {
        let request = String::from_utf8(request).unwrap();
        let absolute = request.replacen(" /", &format!(" http://{address}/"), 1);
        assert_ne!(absolute, request);
        let answer = send(address, absolute.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        // Signed for one host and sent to another.
        let other = request.replacen(" /", " http://127.0.0.2:1/", 1);
        let answer = send(address, other.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
    let health = format!(
        "GET http://{address}/cumulet/health HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    );
    assert!(send(address, health.as_bytes()).await.starts_with("HTTP/1.1 200"));
    running.stop().await.unwrap();
}
