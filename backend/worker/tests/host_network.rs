//! The host network with real packets. Needs root; `CUMULET_SKIP_ROOT_TESTS=1` skips it.

#![allow(clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::unwrap_used)]

#[path = "host/changes.rs"]
mod changes;
#[path = "host/fences.rs"]
mod fences;
mod host;

use std::{
    io::{ErrorKind, Write as _},
    net::{Ipv4Addr, TcpListener, UdpSocket},
    process::Command,
    time::Duration,
};

use cumulet_domain::{
    id::SecurityGroupId,
    network::{
        Direction::{Egress, Ingress},
        Peer, Traffic,
    },
};
use cumulet_worker::network::HostNetwork as _;
use host::{
    HOST, HOST_INSIDE, METADATA, PATIENCE, address, anywhere, connect, connect_from, group, hears, output,
    tcp, udp, within, world,
};

const PUBLIC: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);

/// A DHCP client's script: keeps what it was told, and sets the address.
const SCRIPT: &str = "#!/bin/sh\n[ \"$1\" = bound ] || exit 0\nenv > \"$LEASE\"\nip addr add $ip/$mask dev $interface\nip link set $interface mtu $mtu\n";

fn dhcp(world: &host::World, guest: &host::Guest) -> Option<String> {
    let script = world.dir.path().join("script");
    let lease = world.dir.path().join(format!("lease-{}", guest.name));
    std::fs::write(&script, SCRIPT).unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let status = Command::new("ip")
        .args([
            "netns",
            "exec",
            &guest.name,
            "busybox",
            "udhcpc",
            "-i",
            "eth0",
            "-f",
            "-q",
            "-n",
            "-t",
            "5",
            "-T",
            "1",
        ])
        .args(["-O", "staticroutes", "-O", "mtu", "-O", "hostname", "-s"])
        .arg(&script)
        .env("LEASE", &lease)
        .output()
        .unwrap();
    status
        .status
        .success()
        .then(|| std::fs::read_to_string(lease).unwrap())
}

#[test]
fn leases_and_metadata() {
    world(async |world| {
        let mut policy = world.vpc(1);
        policy.groups = vec![group(1, &[])];
        let first = world.interface(&mut policy, 4, &[SecurityGroupId::new(1)]);
        let a = world.bare_guest(&policy, first).await;
        let lease = dhcp(world, &a).expect("a lease");
        for line in [
            "ip=172.31.16.4",
            "mask=20",
            "router=172.31.16.1",
            "staticroutes=169.254.169.254/32 172.31.16.1 0.0.0.0/0 172.31.16.1",
            "lease=3600",
            "mtu=1500",
            "hostname=guest-4",
        ] {
            assert!(lease.lines().any(|l| l == line), "{line} is not in {lease}");
        }
        // The second guest comes while the server runs.
        let second = world.interface(&mut policy, 5, &[SecurityGroupId::new(1)]);
        let b = world.bare_guest(&policy, second).await;
        assert!(dhcp(world, &b).expect("a lease").contains("ip=172.31.16.5"));

        // A foreign Ethernet address inside of a request: nobody answers, nobody's lease is touched.
        let request = |mac: [u8; 6]| {
            let mut message = vec![1, 1, 6, 0, 9, 9, 9, 9];
            message.resize(28, 0);
            message.extend(mac);
            message.resize(236, 0);
            message.extend([99, 130, 83, 99, 53, 1, 1, 255]);
            message.resize(300, 0);
            message
        };
        a.ip("route add default via 172.31.16.1");
        b.ip("route add 169.254.0.0/16 dev eth0");
        let socket = a.udp(68);
        socket.set_broadcast(true).unwrap();
        socket.send_to(&request(b.mac.0), "255.255.255.255:67").unwrap();
        assert!(socket.recv(&mut [0; 600]).is_err(), "an answer for a neighbour");
        socket.send_to(&request(a.mac.0), "255.255.255.255:67").unwrap();
        assert!(
            socket.recv(&mut [0; 600]).is_ok(),
            "no answer for the guest itself"
        );

        // Metadata: by route, and as a neighbour; the peer is the guest.
        let listener = world.network.listener(policy.vpc).await.unwrap().unwrap();
        for guest in [&a, &b] {
            let _stream = guest.connect(METADATA, 80).expect("metadata");
            assert_eq!(listener.accept().unwrap().1.ip(), guest.ip);
        }
        // Nothing else of the host.
        let _open = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 22)).unwrap();
        for (to, port) in [
            (HOST, 22),
            (METADATA, 22),
            (METADATA, 67),
            (address(1), 22),
            (address(1), 80),
            (address(1), 53),
        ] {
            assert!(a.connect(to, port).is_err(), "{to}:{port}");
        }
        supervision(world, &policy).await;
        let _stream = a.connect(METADATA, 80).expect("metadata after the repairs");
        drop(listener);
        world.network.detach_interface(policy.vpc, first).await.unwrap();
        assert_eq!(
            world
                .network
                .detach_interface(policy.vpc, second)
                .await
                .unwrap()
                .namespace,
            None
        );
    });
}

/// What dies or is taken away comes back.
async fn supervision(world: &host::World, policy: &cumulet_domain::network::VpcPolicy) {
    assert_eq!(world.network.ensure().await.unwrap(), Vec::<String>::new());
    let pid = std::fs::read_to_string(
        world
            .dir
            .path()
            .join(format!("net/{}/own/dnsmasq.pid", policy.vpc)),
    )
    .unwrap();
    output(Command::new("kill").args(["-9", pid.trim()]));
    let proc = std::path::PathBuf::from(format!("/proc/{}/cmdline", pid.trim()));
    while std::fs::read(&proc).is_ok_and(|text| !text.is_empty()) {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.network.ensure().await.unwrap().len(), 1);
    let namespace = &world.namespaces("vpc")[0];
    output(Command::new("ip").args(["netns", "exec", namespace, "nft", "flush", "ruleset"]));
    output(Command::new("ip").args(["-n", namespace, "route", "del", "172.31.16.4/32"]));
    assert_eq!(world.network.ensure().await.unwrap().len(), 1);
    assert_eq!(world.network.ensure().await.unwrap(), Vec::<String>::new());
    let found = &world.network.inventory().await.unwrap().vpcs[&policy.vpc];
    assert!(found.dhcp && found.firewall && !found.uplink && found.interfaces.len() == 2);
    // A worker that starts again keeps what is right.
    let pid = std::fs::read_to_string(
        world
            .dir
            .path()
            .join(format!("net/{}/own/dnsmasq.pid", policy.vpc)),
    )
    .unwrap();
    let config = cumulet_worker::network::Config::new(world.cloud.clone(), world.dir.path().join("net"));
    let again = cumulet_worker::network::LinuxNetwork::new(config).unwrap();
    again.apply(policy).await.unwrap();
    let kept = std::fs::read_to_string(
        world
            .dir
            .path()
            .join(format!("net/{}/own/dnsmasq.pid", policy.vpc)),
    )
    .unwrap();
    assert_eq!(pid, kept);
    // A server whose files are lost gives way to another one.
    std::fs::remove_dir_all(world.dir.path().join(format!("net/{}", policy.vpc))).unwrap();
    assert_eq!(world.network.ensure().await.unwrap().len(), 1);
    let old = std::fs::read(format!("/proc/{}/cmdline", pid.trim()));
    assert!(old.unwrap_or_default().is_empty(), "two would run");
    assert_eq!(world.network.ensure().await.unwrap(), Vec::<String>::new());
}

#[test]
fn groups_allow_and_revoke() {
    world(async |world| {
        let (servers, clients) = (SecurityGroupId::new(1), SecurityGroupId::new(2));
        let ping = Traffic::Icmp {
            kind: Some(8),
            code: None,
        };
        let mut policy = world.vpc(1);
        policy.groups = vec![
            group(
                1,
                &[
                    (Ingress, tcp(7000), Peer::Group(clients)),
                    (Ingress, ping, anywhere()),
                ],
            ),
            group(2, &[(Egress, Traffic::All, anywhere())]),
        ];
        let [a, b, c] =
            [(4, clients), (5, servers), (6, servers)].map(|(n, g)| world.interface(&mut policy, n, &[g]));
        let (a, b, c) = (
            world.guest(&policy, a).await,
            world.guest(&policy, b).await,
            world.guest(&policy, c).await,
        );
        let (open, closed) = (b.listen(7000), b.listen(7001));
        let mut to = a.connect(b.ip, 7000).expect("what the rules allow");
        let (mut from, peer) = open.accept().unwrap();
        from.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(peer.ip(), a.ip);
        assert!(a.pings(b.ip) && a.pings(c.ip));
        assert!(a.connect(b.ip, 7001).is_err(), "a port without a rule");
        assert!(
            c.connect(b.ip, 7000).is_err(),
            "a peer without egress, in no group of the rule"
        );
        assert!(!b.pings(a.ip), "no egress");
        assert!(!a.pings(address(9)), "nobody");
        assert!(!a.pings(HOST));
        // An ICMP error about an allowed connection comes through: a closed port of an allowed protocol.
        policy.groups[0]
            .rules
            .push(group(0, &[(Ingress, udp(9), anywhere())]).rules[0]);
        world.apply(&mut policy).await;
        let probe = a.udp(0);
        probe.connect((b.ip, 9)).unwrap();
        probe.send(&[1]).unwrap();
        assert_eq!(
            probe.recv(&mut [0]).unwrap_err().kind(),
            ErrorKind::ConnectionRefused
        );

        // Established in both directions, then revoked: neither passes; then allowed again.
        to.write_all(b"1").unwrap();
        from.write_all(b"1").unwrap();
        assert!(hears(&mut from) && hears(&mut to));
        let rule = policy.groups[0].rules.remove(0);
        world.apply(&mut policy).await;
        to.write_all(b"2").unwrap();
        from.write_all(b"2").unwrap();
        assert!(
            !hears(&mut from),
            "the opener's packets pass after the rule was revoked"
        );
        assert!(!hears(&mut to), "the answers pass after the rule was revoked");
        assert!(a.connect(b.ip, 7000).is_err());
        policy.groups[0].rules.insert(0, rule);
        world.apply(&mut policy).await;
        from.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        assert!(hears(&mut from), "the connection goes on");
        // Membership decides, not the rules alone.
        policy.interfaces[0].groups = vec![servers];
        world.apply(&mut policy).await;
        assert!(a.connect(b.ip, 7000).is_err());
        // An older policy changes nothing.
        let mut older = policy.clone();
        older.generation -= 1;
        older.interfaces[0].groups = vec![clients];
        assert_eq!(
            world.network.apply(&older).await.unwrap().generation,
            policy.generation
        );
        assert!(a.connect(b.ip, 7000).is_err());
        drop(closed);
        policy.interfaces.clear();
        assert_eq!(world.apply(&mut policy).await.namespace, None);
    });
}

#[test]
fn nobody_speaks_for_another() {
    world(async |world| {
        let all = SecurityGroupId::new(1);
        let mut policy = world.vpc(1);
        policy.groups = vec![group(
            1,
            &[
                (Ingress, Traffic::All, anywhere()),
                (Egress, Traffic::All, anywhere()),
            ],
        )];
        let [a, b, c] = [4, 5, 6].map(|n| world.interface(&mut policy, n, &[all]));
        let (a, b, c) = (
            world.guest(&policy, a).await,
            world.guest(&policy, b).await,
            world.guest(&policy, c).await,
        );
        let listener = world.network.listener(policy.vpc).await.unwrap().unwrap();
        let heard = b.udp(5000);
        let speak = |guest: &host::Guest, source: Ipv4Addr| {
            within(&guest.path, move || {
                let socket = UdpSocket::bind((source, 0)).unwrap();
                // What cannot be sent is not heard either.
                let _ = socket.send_to(&[7], (address(5), 5000));
            });
        };
        speak(&a, a.ip);
        assert_eq!(heard.recv_from(&mut [0]).unwrap().1.ip(), a.ip);
        // A neighbour's address, a free one, the gateway's, the metadata service's, the loopback's.
        for forged in [c.ip, address(77), address(1), METADATA, HOST] {
            a.ip(&format!("addr add {forged}/32 dev eth0"));
            speak(&a, forged);
            assert!(heard.recv_from(&mut [0]).is_err(), "heard as {forged}");
            let metadata = within(&a.path, move || connect_from(forged, METADATA, 80));
            assert!(metadata.is_err(), "metadata as {forged}");
            a.ip(&format!("addr del {forged}/32 dev eth0"));
        }
        // Nobody took over the neighbour's address meanwhile.
        assert!(c.pings(b.ip) && b.pings(c.ip));
        // A foreign Ethernet address.
        a.ip("link set eth0 address 02:16:99:99:99:99");
        speak(&a, a.ip);
        assert!(
            heard.recv_from(&mut [0]).is_err(),
            "heard with a foreign Ethernet address"
        );
        a.ip(&format!("link set eth0 address {}", a.mac));
        // A guest that calls itself through the gateway hears itself, and nothing breaks.
        assert!(a.pings(a.ip) && a.pings(b.ip));
        drop(listener);
        policy.interfaces.clear();
        world.apply(&mut policy).await;
    });
}

#[test]
fn public_addresses() {
    world(async |world| {
        let web = SecurityGroupId::new(1);
        let host = Peer::Cidr("192.0.2.0/24".parse().unwrap());
        let mut policy = world.vpc(1);
        policy.groups = vec![group(
            1,
            &[
                (Ingress, tcp(22), host),
                (Ingress, tcp(23), anywhere()),
                (Egress, Traffic::All, anywhere()),
            ],
        )];
        let [a, b] = [4, 5].map(|n| world.interface(&mut policy, n, &[web]));
        policy.interfaces[0].public_ip = Some(PUBLIC);
        let (a, b) = (world.guest(&policy, a).await, world.guest(&policy, b).await);
        let (ssh, telnet, closed) = (a.listen(22), a.listen(23), a.listen(24));
        let mut to = connect(PUBLIC, 22).expect("the public address from the host");
        let (mut from, peer) = ssh.accept().unwrap();
        from.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(peer.ip(), HOST);
        from.write_all(b"x").unwrap();
        to.write_all(b"x").unwrap();
        assert!(hears(&mut to) && hears(&mut from));
        assert!(connect(PUBLIC, 24).is_err(), "a port without a rule");
        // The host's address may lie in the VPC's block; the group's rule for 22 does not have it.
        let from_inside = |port| connect_from(HOST_INSIDE, PUBLIC, port).is_ok();
        assert!(from_inside(23));
        assert_eq!(telnet.accept().unwrap().1.ip(), HOST_INSIDE);
        assert!(!from_inside(22));
        // Nothing of the host for the guest, not even with a public address.
        let _open = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 80)).unwrap();
        for to in [HOST, HOST_INSIDE, PUBLIC] {
            assert!(a.connect(to, 80).is_err(), "{to}");
            assert!(!a.pings(to), "{to}");
        }
        // Only what is addressed to a public address gets in.
        output(Command::new("ip").args(["route", "add", "172.31.16.5/32", "dev", &uplink(policy.vpc)]));
        let secret = b.listen(23);
        assert!(connect(b.ip, 23).is_err(), "a private address from the host");
        output(Command::new("ip").args(["route", "del", "172.31.16.5/32"]));

        // The address moves to another guest: the old one hears no more, the new one does.
        policy.interfaces[0].public_ip = None;
        policy.interfaces[1].public_ip = Some(PUBLIC);
        world.apply(&mut policy).await;
        to.write_all(b"y").unwrap();
        assert!(!hears(&mut from), "a connection outlived its address");
        let _stream = connect(PUBLIC, 23).expect("the public address at its new guest");
        assert_eq!(secret.accept().unwrap().1.ip(), HOST);
        policy.interfaces[1].public_ip = None;
        world.apply(&mut policy).await;
        assert!(connect(PUBLIC, 23).is_err());
        drop(closed);
        policy.interfaces.clear();
        world.apply(&mut policy).await;
    });
}

fn uplink(vpc: cumulet_domain::id::VpcId) -> String {
    format!("cv{}", vpc.short())
}

#[test]
fn equal_blocks_do_not_meet() {
    world(async |world| {
        let all = [
            (Ingress, Traffic::All, anywhere()),
            (Egress, Traffic::All, anywhere()),
        ];
        let mut guests = Vec::new();
        for number in [1, 2] {
            let mut policy = world.vpc(number);
            policy.groups = vec![group(1, &all)];
            let [a, b] = [4, 5].map(|n| world.interface(&mut policy, n, &[SecurityGroupId::new(1)]));
            let (a, b) = (world.guest(&policy, a).await, world.guest(&policy, b).await);
            let listener = world.network.listener(policy.vpc).await.unwrap().unwrap();
            listener.set_nonblocking(true).unwrap();
            guests.push((policy, a, b, listener));
        }
        let [(first, a1, b1, metadata1), (second, a2, _b2, metadata2)] = &guests[..] else {
            panic!()
        };
        let open = b1.listen(7000);
        assert!(a1.connect(b1.ip, 7000).is_ok());
        let refused = a2.connect(b1.ip, 7000).unwrap_err();
        assert_eq!(
            refused.kind(),
            ErrorKind::ConnectionRefused,
            "the other VPC's guest has no such port"
        );
        let _stream = a1.connect(METADATA, 80).unwrap();
        assert_eq!(metadata1.accept().unwrap().1.ip(), a1.ip);
        assert!(metadata2.accept().is_err(), "the other VPC's listener heard it");
        drop(open);
        let vpcs = [first.clone(), second.clone()];
        drop(guests);
        for mut policy in vpcs {
            policy.interfaces.clear();
            world.apply(&mut policy).await;
        }
    });
}
