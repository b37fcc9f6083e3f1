//! Who is asking: address and VPC, and what happens when they change.

use std::{
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    os::fd::{AsRawFd, OwnedFd},
};

use cumulet_domain::id::InstanceId;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, setsockopt, socket,
    sockopt::ReceiveTimeout,
};
use nix::sys::time::{TimeVal, TimeValLike as _};

use crate::{
    client::Connection,
    cloud::{GUEST, Host, NEIGHBOUR, OTHER_VPC, VPC, instance},
};

const ID: &str = "/latest/meta-data/instance-id";

/// A raw socket that sees the TCP segments which arrive on this machine.
pub(crate) struct Capture {
    socket: OwnedFd,
    from: SocketAddr,
}

impl Capture {
    pub(crate) fn start(from: SocketAddr) -> Capture {
        let socket = socket(
            AddressFamily::Inet,
            SockType::Raw,
            SockFlag::empty(),
            SockProtocol::Tcp,
        )
        .expect("raw sockets need root");
        setsockopt(&socket, ReceiveTimeout, &TimeVal::seconds(10)).unwrap();
        Capture { socket, from }
    }

    /// The IP TTL of the next segment with data from the service.
    pub(crate) fn next(&self) -> u8 {
        let IpAddr::V4(source) = self.from.ip() else {
            panic!()
        };
        let mut packet = [0; 65_536];
        loop {
            let length = recv(self.socket.as_raw_fd(), &mut packet, MsgFlags::empty()).unwrap();
            let ip = &packet[..length];
            let tcp = &ip[usize::from(ip[0] & 15) * 4..];
            let data = &tcp[usize::from(tcp[12] >> 4) * 4..];
            let port = u16::from_be_bytes([tcp[0], tcp[1]]);
            if ip[12..16] == source.octets() && port == self.from.port() && !data.is_empty() {
                return ip[8];
            }
        }
    }
}

#[test]
fn strangers_learn_nothing() {
    let host = Host::start();
    for (method, path) in [("GET", ID), ("GET", "/"), ("PUT", "/latest/api/token")] {
        let mut connection = host.connect(NEIGHBOUR);
        let headers = [
            ("X-aws-ec2-metadata-token-ttl-seconds", "60"),
            ("X-Instance-ID", "i-00000000000000001"),
        ];
        assert_eq!(connection.ask(method, path, &headers).status, 404);
        assert!(connection.is_closed());
    }
    assert_eq!(host.service.counters().not_found, 3);
}

#[test]
fn equal_addresses_in_two_vpcs_stay_apart() {
    let host = Host::start();
    let elsewhere = host.serve(OTHER_VPC);
    host.service.put(&instance(2, OTHER_VPC, GUEST));
    let mut here = Connection::open(GUEST, host.address);
    let mut there = Connection::open(GUEST, elsewhere);
    for _ in 0..3 {
        assert_eq!(here.ask("GET", ID, &[]).text(), "i-00000000000000001");
        assert_eq!(there.ask("GET", ID, &[]).text(), "i-00000000000000002");
    }
    host.service.remove(InstanceId::new(2));
    assert_eq!(there.ask("GET", ID, &[]).status, 404);
    assert_eq!(here.ask("GET", ID, &[]).status, 200);
    assert_eq!(host.service.registered(), [InstanceId::new(1)]);
}

#[test]
fn an_address_that_changes_hands_changes_the_answer_at_once() {
    let host = Host::start();
    let mut old = host.connect(GUEST);
    assert_eq!(old.ask("GET", ID, &[]).text(), "i-00000000000000001");
    host.service.remove(InstanceId::new(1));
    assert_eq!(host.get(GUEST, ID).status, 404);
    host.service.put(&instance(2, VPC, GUEST));
    // The connection was the previous owner's and is of no use to anybody now.
    assert_eq!(old.ask("GET", ID, &[]).status, 404);
    assert!(old.is_closed());
    assert_eq!(host.get(GUEST, ID).text(), "i-00000000000000002");
}

#[test]
fn a_new_revision_is_seen_on_open_connections() {
    let host = Host::start();
    let mut connection = host.connect(GUEST);
    let path = "/latest/meta-data/instance-type";
    assert_eq!(connection.ask("GET", path, &[]).text(), "t3.micro");
    let mut metadata = instance(1, VPC, GUEST);
    metadata.revision = 3;
    metadata.instance_type = "t3.large".into();
    assert!(host.service.put(&metadata));
    assert_eq!(connection.ask("GET", path, &[]).text(), "t3.large");
    metadata.revision = 2;
    metadata.instance_type = "t3.nano".into();
    assert!(!host.service.put(&metadata));
    assert_eq!(connection.ask("GET", path, &[]).text(), "t3.large");
    assert_eq!(host.service.revision(metadata.instance), Some(3));
}

#[test]
fn stopping_closes_listener_and_connections() {
    let config = cumulet_metadata::Config {
        threads: 3,
        ..Default::default()
    };
    let host = Host::with(config);
    let mut open: Vec<_> = (0..8).map(|_| host.connect(GUEST)).collect();
    for connection in &mut open {
        assert_eq!(connection.ask("GET", ID, &[]).status, 200);
    }
    host.service.stop(VPC).unwrap();
    for connection in &mut open {
        assert!(connection.is_closed());
    }
    assert!(TcpStream::connect(host.address).is_err());
    host.service.stop(VPC).unwrap();
    // The same VPC again, as after its namespace was made anew; and replaced while it is served.
    let first = host.serve(VPC);
    assert_eq!(Connection::open(GUEST, first).ask("GET", ID, &[]).status, 200);
    let second = host.serve(VPC);
    assert_eq!(Connection::open(GUEST, second).ask("GET", ID, &[]).status, 200);
    assert!(TcpStream::connect(first).is_err());
}

#[test]
fn dropping_the_handle_frees_the_port() {
    let host = Host::start();
    let address = host.address;
    let idle = host.connect(NEIGHBOUR);
    drop(host);
    assert!(TcpStream::connect(address).is_err());
    drop(idle);
    TcpListener::bind(address).expect("nothing holds the port");
}
