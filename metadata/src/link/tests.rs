//! Both sides in one process, over a real socket, with guests on the loopback address.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use cumulet_certs::MasterKey;
use cumulet_domain::{
    id::VpcId,
    time::{Clock, SystemClock},
};

use super::*;
use crate::{Config, MetadataService, TokenSecret, fixture};

fn service() -> MetadataService {
    let secret = TokenSecret {
        master: MasterKey::from_bytes([7; 32]),
        epoch: 0,
    };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    MetadataService::start(Config::default(), secret, clock, &mut rand::rng()).unwrap()
}

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn until(what: impl Fn() -> bool) {
    let began = Instant::now();
    while !what() {
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "it does not come to be"
        );
        std::thread::yield_now();
    }
}

/// What a guest reads as its id; the connection waits for whoever serves.
fn read(address: SocketAddr) -> String {
    let mut guest = TcpStream::connect(address).unwrap();
    guest.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let request =
        b"GET /latest/meta-data/instance-id HTTP/1.1\r\nHost: 169.254.169.254\r\nConnection: close\r\n\r\n";
    guest.write_all(request).unwrap();
    let mut text = String::new();
    guest.read_to_string(&mut text).unwrap();
    text
}

fn link(path: &Path) -> Link {
    let link = Link::start(path).unwrap();
    until(|| link.connected());
    link
}

#[test]
fn a_guest_is_answered_by_the_other_process() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metadata.sock");
    let service = service();
    let _server = listen(&path, service.clone()).unwrap();
    let link = link(&path);
    let snapshot = fixture::instance(9, Ipv4Addr::LOCALHOST);
    let (socket, address) = listener();
    link.put(&snapshot);
    link.serve(fixture::VPC, socket);
    let text = read(address);
    assert!(text.ends_with(&snapshot.instance.to_string()), "{text}");
    link.stop(fixture::VPC);
    assert!(TcpStream::connect(address).is_err(), "nobody holds the socket");
    link.remove(snapshot.instance);
    assert!(service.registered().is_empty() && link.registered().is_empty());
}

#[test]
fn a_guest_waits_for_the_next_metadata_process() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metadata.sock");
    let link = Link::start(&path).unwrap();
    let snapshot = fixture::instance(9, Ipv4Addr::LOCALHOST);
    let (socket, address) = listener();
    link.put(&snapshot);
    link.serve(fixture::VPC, socket);
    assert!(!link.connected());
    let guest = std::thread::spawn(move || read(address));
    let _server = listen(&path, service()).unwrap();
    assert!(guest.join().unwrap().ends_with(&snapshot.instance.to_string()));
}

#[test]
fn what_has_gone_while_nobody_was_linked_is_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metadata.sock");
    let service = service();
    let _server = listen(&path, service.clone()).unwrap();
    let first = link(&path);
    let (socket, address) = listener();
    first.put(&fixture::instance(9, Ipv4Addr::LOCALHOST));
    first.serve(VpcId::new(77 << 32), socket);
    drop(first);
    let second = link(&path);
    second.put(&fixture::instance(10, Ipv4Addr::LOCALHOST));
    assert_eq!(service.registered(), second.registered());
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn the_socket_is_roots_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metadata.sock");
    let server = listen(&path, service()).unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    drop(server);
    assert!(!path.exists());
}
