//! Tests of the door with requests as hosts send them.

mod strangers;

use std::{collections::BTreeMap, fs, net::SocketAddr};

use actix_web::{
    App,
    body::to_bytes,
    dev::{Service, ServiceResponse},
    http::{Method, StatusCode},
    test,
};
use bytes::Bytes;
use cumulet_certs::{MasterKey, storage_grant};
use cumulet_domain::{
    id::{HostId, SnapshotId},
    rng::SharedRng,
    storage::{OFFSET, StorageGrant},
    time::{ManualClock, Timestamp},
};

use cumulet_backend::api::snapshots::Digest;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{sleep, timeout},
};

use super::*;

const BLOCK: usize = 512 << 10;

/// Longer than anything takes here.
const LONG: Duration = Duration::from_secs(60);

fn sealer() -> Sealer {
    Sealer::new(MasterKey::from_bytes([7; 32]))
}

/// A store with an image and a snapshot of two blocks.
pub(crate) struct Rig {
    dir: tempfile::TempDir,
    image: String,
    manifest: String,
}

struct Answer {
    status: StatusCode,
    headers: BTreeMap<String, String>,
    body: Bytes,
}

impl Rig {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let bytes = (0..200_000_u32).flat_map(u32::to_be_bytes).collect::<Vec<u8>>();
        let image = Digest::of(&bytes).to_string();
        fs::create_dir(dir.path().join("images")).unwrap();
        fs::write(dir.path().join("images").join(&image), &bytes).unwrap();
        fs::write(dir.path().join("disk"), [[1; BLOCK], [2; BLOCK]].concat()).unwrap();
        let store = SnapshotStore::open(&dir.path().join("snapshots")).unwrap();
        let taken = store.take_file(&dir.path().join("disk"), None, None).unwrap();
        Rig {
            dir,
            image,
            manifest: taken.manifest.to_string(),
        }
    }

    fn grant(&self) -> StorageGrant {
        StorageGrant {
            host: HostId("a".into()),
            until: Timestamp(1000),
            images: vec![self.image.clone()],
            manifests: vec![self.manifest.clone()],
            snapshots: vec![(SnapshotId::new(5), 1 << 30)],
        }
    }

    /// What a host that was granted the image sends for its first bytes, on a connection that stays.
    pub(crate) fn request(&self) -> String {
        let head = format!("GET {PREFIX}/images/{} HTTP/1.1\r\nHost: x\r\n", self.image);
        let grant = sealed(&self.grant());
        format!("{head}Authorization: Bearer {grant}\r\nRange: bytes=0-9\r\n\r\n")
    }

    pub(crate) fn door(&self, now: i64) -> StorageDoor {
        StorageDoor {
            sealer: Arc::new(sealer()),
            clock: Arc::new(ManualClock::new(Timestamp(now))),
            images: self.dir.path().join("images"),
            snapshots: self.dir.path().join("snapshots"),
        }
    }

    fn segments(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir.path().join("snapshots/segments")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect()
    }
}

fn sealed(grant: &StorageGrant) -> String {
    SharedRng::seeded(1)
        .with(|rng| storage_grant::seal(&sealer(), rng, grant))
        .unwrap()
}

/// A request, and what it is answered with by a door of its own at a time.
struct Request<'r> {
    method: Method,
    path: &'r str,
    grant: Option<&'r str>,
    range: Option<&'r str>,
    body: Vec<u8>,
}

async fn ask(door: StorageDoor, requests: Vec<Request<'_>>) -> Vec<Answer> {
    let routes = door.routes();
    let app = test::init_service(App::new().configure(|app| routes(app))).await;
    let mut answers = Vec::new();
    for request in requests {
        let mut made =
            test::TestRequest::with_uri(&format!("{PREFIX}{}", request.path)).method(request.method);
        if let Some(grant) = request.grant {
            made = made.insert_header(("authorization", format!("Bearer {grant}")));
        }
        if let Some(range) = request.range {
            made = made.insert_header(("range", range));
        }
        let answer: ServiceResponse<_> = app
            .call(made.set_payload(request.body).to_request())
            .await
            .unwrap();
        let headers = answer.headers().iter();
        let headers = headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
        answers.push(Answer {
            status: answer.status(),
            headers: headers.collect(),
            body: to_bytes(answer.into_body()).await.unwrap(),
        });
    }
    answers
}

fn get<'r>(path: &'r str, grant: &'r str, range: &'r str) -> Request<'r> {
    Request {
        method: Method::GET,
        path,
        grant: Some(grant),
        range: Some(range),
        body: Vec::new(),
    }
}

#[actix_web::test]
async fn a_host_reads_what_it_was_granted_piece_by_piece() {
    let rig = Rig::new();
    let grant = sealed(&rig.grant());
    let image = format!("/images/{}", rig.image);
    let [segment] = <[String; 1]>::try_from(rig.segments()).unwrap();
    let (manifest, segment) = (
        format!("/manifests/{}", rig.manifest),
        format!("/manifests/{}/segments/{segment}", rig.manifest),
    );
    let answers = ask(
        rig.door(0),
        vec![
            get(&image, &grant, "bytes=0-9"),
            get(&image, &grant, "bytes=799990-900000"),
            get(&image, &grant, "bytes=800000-800001"),
            get(&manifest, &grant, "bytes=0-4194303"),
            get(&segment, &grant, "bytes=524288-1048575"),
        ],
    )
    .await;
    let file = fs::read(rig.dir.path().join("images").join(&rig.image)).unwrap();
    for (answer, (range, content)) in answers.iter().zip([
        ("bytes 0-9/800000", &file[..10]),
        ("bytes 799990-799999/800000", &file[799_990..]),
    ]) {
        assert_eq!(answer.status, StatusCode::PARTIAL_CONTENT);
        assert_eq!(answer.headers["content-range"], range);
        assert_eq!(answer.body, content);
    }
    assert_eq!(answers[2].status, StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(answers[2].headers["content-range"], "bytes */800000");
    assert_eq!(Digest::of(&answers[3].body).to_string(), rig.manifest);
    assert_eq!(answers[4].body, vec![2; BLOCK]);
}

/// The next answer on a connection, in lower case; none where it is closed before one is whole.
pub(crate) async fn answer(stream: &mut TcpStream) -> Option<String> {
    let (mut come, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&come).to_ascii_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            if length.is_none_or(|length| body.len() >= length.parse::<usize>().unwrap()) {
                return Some(text);
            }
        }
        let read = timeout(LONG, stream.read(&mut buffer)).await.expect("an answer");
        match read {
            Ok(count @ 1..) => come.extend_from_slice(&buffer[..count]),
            _ => return None,
        }
    }
}

/// A connection on which this was sent.
async fn sent(address: SocketAddr, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// A host's request has the time that its work and its body take: it is not cut when a head would be, nor for others.
#[actix_web::test]
async fn what_takes_longer_than_a_head_may_is_answered() {
    const HEAD: Duration = Duration::from_millis(300);
    let rig = Rig::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let limits = Limits {
        connections: 16,
        head: HEAD,
        ..Limits::default()
    };
    let running = rig.door(0).start_within(vec![listener], limits).unwrap();
    // As many pieces as a host may have under way at once, half of each.
    let (grant, mut pieces) = (sealed(&rig.grant()), Vec::new());
    let id = "snap-00000000000000005";
    for number in 0..4 {
        let head = format!(
            "PUT {PREFIX}/snapshots/{id}/manifest/{number}?offset=0 HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n"
        );
        pieces.push(
            sent(
                address,
                &format!("{head}Authorization: Bearer {grant}\r\n\r\n01234"),
            )
            .await,
        );
    }
    // Connections are taken in their order: when this one is answered, those have their turns.
    let mut other = sent(address, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(answer(&mut other).await.is_some());
    let mut waiting = sent(address, &rig.request()).await;
    sleep(2 * HEAD).await;
    let mut crowd = Vec::new();
    for _ in 0..40 {
        crowd.push(TcpStream::connect(address).await.unwrap());
    }
    sleep(HEAD).await;
    let mut first = [0; 1];
    let early = timeout(Duration::from_millis(1), waiting.read(&mut first)).await;
    assert!(early.is_err(), "it waits for its turn: {early:?}");
    for mut piece in pieces {
        piece.write_all(b"56789").await.unwrap();
        let answer = answer(&mut piece).await.expect("a piece is answered");
        assert!(
            answer.starts_with("http/1.1 200") && answer.contains("upload-offset: 10"),
            "{answer}"
        );
    }
    let answer = answer(&mut waiting).await.expect("who waits is answered");
    assert!(answer.starts_with("http/1.1 206"), "{answer}");
    drop((crowd, other, waiting));
    running.stop().await.unwrap();
}

/// The time of a body is its own: who sends half a piece has that, and no more.
#[actix_web::test]
async fn half_a_piece_is_not_waited_for_for_ever() {
    let rig = Rig::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let limits = Limits {
        body: Duration::from_millis(100),
        ..Limits::default()
    };
    let running = rig.door(0).start_within(vec![listener], limits).unwrap();
    let head = format!(
        "PUT {PREFIX}/snapshots/snap-00000000000000005/manifest/1?offset=0 HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n"
    );
    let grant = sealed(&rig.grant());
    let mut half = sent(
        address,
        &format!("{head}Authorization: Bearer {grant}\r\n\r\n01234"),
    )
    .await;
    let answer = answer(&mut half).await.expect("it is told");
    assert!(
        answer.starts_with("http/1.1 408") && answer.contains("did not come in time"),
        "{answer}"
    );
    drop(half);
    running.stop().await.unwrap();
}

/// A request with its grant and range, the status of its answer, and what that says.
type Case<'c> = (Method, String, Option<&'c str>, &'c str, u16, &'c str);

#[actix_web::test]
async fn nothing_else_is_read_or_written() {
    let rig = Rig::new();
    let (good, nothing) = (
        sealed(&rig.grant()),
        sealed(&StorageGrant {
            images: Vec::new(),
            manifests: Vec::new(),
            snapshots: Vec::new(),
            ..rig.grant()
        }),
    );
    let digest = |name: &str| format!("{name}/{}", "a".repeat(64));
    let segment = &rig.segments()[0];
    let put = "/snapshots/snap-00000000000000005/segment/1?offset=0";
    let whole = "bytes=0-9";
    let cases: Vec<Case> = vec![
        (
            Method::GET,
            format!("/images/{}", rig.image),
            None,
            whole,
            401,
            "not of this cloud",
        ),
        (
            Method::GET,
            format!("/images/{}", rig.image),
            Some("x"),
            whole,
            401,
            "not of this cloud",
        ),
        (
            Method::GET,
            format!("/images/{}", rig.image),
            Some(&nothing),
            whole,
            403,
            "does not name",
        ),
        (
            Method::GET,
            digest("/images"),
            Some(&good),
            whole,
            403,
            "does not name",
        ),
        (
            Method::GET,
            digest("/manifests"),
            Some(&good),
            whole,
            403,
            "does not name",
        ),
        (
            Method::GET,
            format!("/manifests/{}", rig.manifest),
            Some(&nothing),
            whole,
            403,
            "does not name",
        ),
        (
            Method::GET,
            format!("/manifests/{}/segments/{segment}", rig.manifest),
            Some(&nothing),
            whole,
            403,
            "does not name",
        ),
        (
            Method::GET,
            digest(&format!("/manifests/{}/segments", rig.manifest)),
            Some(&good),
            whole,
            403,
            "does not name the segment",
        ),
        (
            Method::GET,
            "/images/..%2Fdisk".into(),
            Some(&good),
            whole,
            400,
            "\"../disk\" is no SHA-256",
        ),
        (
            Method::GET,
            format!("/images/{}", rig.image),
            Some(&good),
            "",
            400,
            "expecting Range: bytes=FIRST-LAST",
        ),
        (
            Method::GET,
            format!("/images/{}", rig.image),
            Some(&good),
            "bytes=5-1",
            400,
            "expecting Range",
        ),
        (
            Method::GET,
            format!("/images/{}", rig.image),
            Some(&good),
            "bytes=0-4194304",
            400,
            "4194304 bytes at the most",
        ),
        (Method::PUT, put.into(), None, "", 401, "not of this cloud"),
        (
            Method::PUT,
            put.into(),
            Some(&nothing),
            "",
            403,
            "does not name snap-00000000000000005",
        ),
        (
            Method::PUT,
            put.replace("5/", "6/"),
            Some(&good),
            "",
            403,
            "does not name snap-00000000000000006",
        ),
        (Method::PUT, put.replace("snap-", "../"), Some(&good), "", 404, ""),
        (
            Method::PUT,
            put.replace("/1", "/x"),
            Some(&good),
            "",
            400,
            "\"x\" is no upload's number",
        ),
        (
            Method::PUT,
            put.replace("segment", "disk"),
            Some(&good),
            "",
            400,
            "\"disk\" is no part",
        ),
        (
            Method::PUT,
            put.replace("offset=0", "offset=-1"),
            Some(&good),
            "",
            400,
            "?offset=-1",
        ),
        (
            Method::POST,
            "/snapshots/snap-00000000000000005?name=x&manifest=1".into(),
            Some(&good),
            "",
            400,
            "\"x\" is no SHA-256",
        ),
        (
            Method::POST,
            format!(
                "/snapshots/snap-00000000000000005?name={}&manifest=1",
                "a".repeat(64)
            ),
            Some(&good),
            "",
            404,
            "",
        ),
        (
            Method::POST,
            digest("/snapshots/snap-00000000000000006?manifest=1&name="),
            Some(&good),
            "",
            403,
            "does not name",
        ),
        (
            Method::DELETE,
            "/snapshots/snap-00000000000000005/segment/1".into(),
            Some(&nothing),
            "",
            403,
            "does not name",
        ),
    ];
    for (method, path, grant, range, status, says) in cases {
        let request = Request {
            method: method.clone(),
            path: &path,
            grant,
            range: Some(range).filter(|range| !range.is_empty()),
            body: Vec::new(),
        };
        let answer = ask(rig.door(0), vec![request]).await.remove(0);
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!(answer.status.as_u16(), status, "{method} {path}: {text}");
        assert!(text.contains(says), "{method} {path}: {text}");
    }
    let late = ask(
        rig.door(1000),
        vec![get(&format!("/images/{}", rig.image), &good, whole)],
    )
    .await;
    assert_eq!(late[0].status, StatusCode::FORBIDDEN);
    assert_eq!(late[0].body, "the grant has expired");
    assert_eq!(rig.segments().len(), 1, "nothing was written");
}

#[actix_web::test]
async fn a_snapshot_comes_whole_or_not_at_all() {
    let (rig, host) = (Rig::new(), tempfile::tempdir().unwrap());
    let grant = sealed(&rig.grant());
    // A host takes one over what it was granted, elsewhere.
    let own = SnapshotStore::open(&host.path().join("own")).unwrap();
    let base = own.take_file(&rig.dir.path().join("disk"), None, None).unwrap();
    fs::write(
        host.path().join("disk"),
        [[1; BLOCK], [3; BLOCK], [4; BLOCK]].concat(),
    )
    .unwrap();
    let taken = own
        .take_file(&host.path().join("disk"), None, Some(base.manifest))
        .unwrap();
    let mut manifest = Vec::new();
    std::io::Read::read_to_end(&mut own.manifest_file(taken.manifest).unwrap(), &mut manifest).unwrap();
    let id = "/snapshots/snap-00000000000000005";
    let put = |part: &str, offset: usize| format!("{id}/{part}/a?offset={offset}");
    let finish = format!("{id}?name={}&manifest=a&segment=a", taken.manifest);
    let request = |method: Method, path, body: Vec<u8>| Request {
        method,
        path,
        grant: Some(&grant),
        range: None,
        body,
    };
    let (first, second, beyond) = (
        put("segment", 0),
        put("segment", BLOCK),
        put("segment", 9 * BLOCK),
    );
    let (whole, torn) = (put("manifest", 0), put("segment", 2 * BLOCK));
    let answers = ask(
        rig.door(0),
        vec![
            request(Method::PUT, &first, vec![3; BLOCK]),
            request(Method::PUT, &beyond, vec![4; BLOCK]),
            request(Method::PUT, &torn, vec![4; 9]),
            request(Method::PUT, &whole, manifest.clone()),
            request(Method::POST, &finish, Vec::new()),
            request(Method::PUT, &second, vec![4; BLOCK]),
            request(Method::POST, &finish, Vec::new()),
            request(Method::POST, &finish, Vec::new()),
        ],
    )
    .await;
    let told: Vec<(u16, Option<&str>)> = answers
        .iter()
        .map(|answer| {
            (
                answer.status.as_u16(),
                answer.headers.get(OFFSET).map(String::as_str),
            )
        })
        .collect();
    let length = manifest.len().to_string();
    let wanted = [
        (200, Some("524288")),
        (409, Some("524288")),
        (422, None),
        (200, Some(length.as_str())),
        (422, None),
        (200, Some("1048576")),
        (204, None),
        (204, None),
    ];
    assert_eq!(told, wanted);
    let store = SnapshotStore::at(&rig.dir.path().join("snapshots"));
    let back = host.path().join("back");
    store.restore_file(taken.manifest, None, &back, 0).unwrap();
    assert_eq!(
        fs::read(back).unwrap(),
        fs::read(host.path().join("disk")).unwrap()
    );
    assert_eq!(rig.segments().len(), 2);
}

/// What a host brings for one snapshot takes no more room than that, by whatever numbers and however often.
#[actix_web::test]
async fn a_grant_is_room_for_one_snapshot() {
    let rig = Rig::new();
    let grant = sealed(&StorageGrant {
        snapshots: vec![(SnapshotId::new(5), BLOCK as u64)],
        ..rig.grant()
    });
    let id = "/snapshots/snap-00000000000000005";
    let paths: Vec<String> = (1..=20_u64)
        .map(|number| format!("{id}/segment/{number:x}?offset=0"))
        .chain([format!("{id}/segment/14?offset={}", 9 * BLOCK)])
        .collect();
    let request = |path| Request {
        method: Method::PUT,
        path,
        grant: Some(&grant),
        range: None,
        body: vec![7; BLOCK],
    };
    let answers = ask(
        rig.door(0),
        paths.iter().map(|path| request(path.as_str())).collect(),
    )
    .await;
    let (beyond, good) = answers.split_last().unwrap();
    assert!(good.iter().all(|answer| answer.status == StatusCode::OK));
    // A segment may be a little larger than the disk, and no more.
    assert_eq!(beyond.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(rig.segments().len(), 2, "the store's own, and the newest");
}
