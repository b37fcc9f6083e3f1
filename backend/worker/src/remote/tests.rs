//! Tests of the client over a door that behaves badly. With the real one it is tested where both are
//! (`src/wiring/storage/tests.rs`).

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        mpsc::{Receiver, channel},
    },
    time::Duration,
};

use cumulet_domain::{
    id::{SnapshotId, VolumeId},
    message::{Action, Command, SnapshotSource},
    time::Timestamp,
    volume::VolumeStore,
};

use super::{
    client::{Has, StorageClient},
    grants::{Grants, Of},
};
use crate::testing::{policy, spec};

/// A door that gives these answers, one for each connection, and tells what it was asked.
fn door(answers: Vec<String>) -> (SocketAddr, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, (told, heard)) = (listener.local_addr().unwrap(), channel());
    std::thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            told.send(request(&mut stream)).ok();
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    (address, heard)
}

/// A request with its body: an answer before all of it was read may be lost with the connection.
fn request(stream: &mut TcpStream) -> String {
    let (mut asked, mut buffer) = (String::new(), [0; 4096]);
    loop {
        if let Some((head, body)) = asked.split_once("\r\n\r\n") {
            let head = head.to_ascii_lowercase();
            let mut lines = head.lines();
            let length = lines.find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
            if body.len() >= length.unwrap_or(0) {
                return asked;
            }
        }
        match stream.read(&mut buffer).unwrap() {
            0 => return asked,
            count => asked += &String::from_utf8_lossy(&buffer[..count]),
        }
    }
}

fn client(address: SocketAddr, patience: Duration) -> StorageClient {
    StorageClient::new(&format!("http://{address}/"), None)
        .unwrap()
        .with_patience(patience)
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}")
}

const SOON: Duration = Duration::from_secs(20);

#[test]
fn what_is_not_answered_is_asked_again() {
    let (address, heard) = door(vec![
        String::new(),
        answer(
            "503 Service Unavailable",
            "",
            "the host has too many requests under way",
        ),
        answer("206 Partial Content", "content-range: bytes 3-5/9\r\n", "def"),
    ]);
    let (bytes, all) = client(address, SOON).get("grant", "/images/x", 3, 3).unwrap();
    assert_eq!((bytes.as_slice(), all), (&b"def"[..], 9));
    let asked: Vec<String> = heard.iter().collect();
    assert_eq!(asked.len(), 3);
    assert!(
        asked[2].starts_with("GET /cumulet/storage/v1/images/x HTTP/1.1\r\n"),
        "{}",
        asked[2]
    );
    let lower = asked[2].to_ascii_lowercase();
    assert!(
        lower.contains("\r\nauthorization: bearer grant\r\n") && lower.contains("\r\nrange: bytes=3-5\r\n")
    );
}

/// The server's own trouble, and a piece that was too long on its way: neither says anything of the request.
#[test]
fn what_may_go_well_the_next_time_is_asked_again() {
    for status in [
        "408 Request Timeout",
        "500 Internal Server Error",
        "502 Bad Gateway",
        "503 Service Unavailable",
        "504 Gateway Timeout",
    ] {
        let (address, heard) = door(vec![
            answer(status, "", "not now"),
            answer("200 OK", "upload-offset: 8\r\n", ""),
        ]);
        let has = client(address, SOON).put("grant", "/snapshots/x", 5, b"abc");
        assert_eq!(has.unwrap(), Has(8), "{status}");
        assert_eq!(heard.iter().count(), 2, "{status}");
        // And for a while only.
        let (address, heard) = door(vec![answer(status, "", "not now")]);
        let error = client(address, Duration::ZERO).put("grant", "/snapshots/x", 5, b"abc");
        assert_eq!(error.unwrap_err().kind(), ErrorKind::HostUnreachable, "{status}");
        assert_eq!(heard.iter().count(), 1, "{status}");
    }
}

#[test]
fn each_answer_is_the_error_that_it_is() {
    for (status, kind) in [
        ("400 Bad Request", ErrorKind::InvalidInput),
        ("401 Unauthorized", ErrorKind::PermissionDenied),
        ("403 Forbidden", ErrorKind::PermissionDenied),
        ("404 Not Found", ErrorKind::NotFound),
        ("422 Unprocessable Entity", ErrorKind::InvalidInput),
        ("507 Insufficient Storage", ErrorKind::StorageFull),
        ("301 Moved Permanently", ErrorKind::InvalidInput),
        // Whoever it is, it is no storage door.
        ("200 OK", ErrorKind::InvalidData),
    ] {
        let (address, _heard) = door(vec![answer(status, "location: http://192.0.2.1/\r\n", "why")]);
        let error = client(address, SOON).get("grant", "/images/x", 0, 3).unwrap_err();
        assert_eq!(error.kind(), kind, "{status}: {error}");
    }
    // Fewer bytes than were there, and more than were asked for.
    for body in ["ab", "abcd"] {
        let (address, _heard) = door(vec![answer(
            "206 Partial Content",
            "content-range: bytes 0-2/9\r\n",
            body,
        )]);
        let error = client(address, SOON).get("grant", "/images/x", 0, 3).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData, "{body}");
    }
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = client(nobody, Duration::ZERO)
        .get("grant", "/images/x", 0, 3)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::HostUnreachable);
    assert!(
        crate::failure::Failure::from(error).unanswered,
        "it is looked at again"
    );
}

#[test]
fn who_sends_hears_what_is_there() {
    let (address, heard) = door(vec![
        answer("409 Conflict", "upload-offset: 5\r\n", "a gap"),
        answer("200 OK", "upload-offset: 8\r\n", ""),
    ]);
    let client = client(address, SOON);
    assert_eq!(client.put("grant", "/snapshots/x", 7, b"abc").unwrap(), Has(5));
    assert_eq!(client.put("grant", "/snapshots/x", 5, b"abc").unwrap(), Has(8));
    let first = heard.recv().unwrap();
    assert!(
        first.starts_with("PUT /cumulet/storage/v1/snapshots/x?offset=7 "),
        "{first}"
    );
}

#[test]
fn a_command_brings_the_grants_of_what_it_names() {
    let grants = Grants::new();
    let source = SnapshotSource {
        store: VolumeStore::Local,
        snapshot: SnapshotId::new(5),
        volume: VolumeId::new(1),
        root_of: None,
        base: Some("b".repeat(64)),
        encrypted: false,
        of: None,
    };
    let command = |action, storage: Option<&str>| Command {
        operation: None,
        deadline: Timestamp(0),
        action,
        keys: Vec::new(),
        storage: storage.map(str::to_owned),
    };
    let spec = spec(1, 1);
    assert!(!grants.has_all(&spec) && Grants::unneeded().has_all(&spec));
    grants.take(&command(Action::TakeSnapshots(vec![source]), Some("one")));
    let given = |of: Of| {
        grants
            .of(&of)
            .map(|grant| grant.to_string())
            .map_err(|error| error.kind())
    };
    assert_eq!(given(Of::Snapshot(SnapshotId::new(5))), Ok("one".into()));
    assert_eq!(given(Of::Manifest("b".repeat(64))), Ok("one".into()));
    assert_eq!(
        given(Of::Snapshot(SnapshotId::new(6))),
        Err(ErrorKind::PermissionDenied)
    );
    let run = Action::Run {
        spec: Box::new(spec.clone()),
        policy: Arc::new(policy(1, &[1])),
    };
    grants.take(&command(run.clone(), None));
    assert!(!grants.has_all(&spec), "it came without a grant");
    grants.take(&command(run, Some("two")));
    assert!(grants.has_all(&spec));
    let image = spec.disks[0].image().unwrap().sha256.clone();
    assert_eq!(given(Of::Image(image)), Ok("two".into()));
}
