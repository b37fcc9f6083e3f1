//! One VPC on several hosts, with real packets. Needs root; `CUMULET_SKIP_ROOT_TESTS=1` skips it.

#![allow(clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::unwrap_used)]

#[allow(dead_code)] // the other test has more use for it
mod host;
mod hosts;

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{Ipv4Addr, UdpSocket},
    path::Path,
    process::Command,
    thread,
};

use cumulet_domain::{
    id::SecurityGroupId,
    network::{
        Direction::{Egress, Ingress},
        GroupPolicy, Peer, Traffic, TunnelPeer,
    },
};
use cumulet_worker::network::{HostNetwork as _, tunnel_mtu};
use host::{Guest, METADATA, PATIENCE, address, anywhere, group, hears, ip, output, tcp, within};
use hosts::{Host, PORT, fabric, underlay};

/// A group whose members speak with everybody.
fn open() -> Vec<GroupPolicy> {
    vec![group(
        1,
        &[
            (Ingress, Traffic::All, anywhere()),
            (Egress, Traffic::All, anywhere()),
        ],
    )]
}

#[test]
fn guests_reach_each_other_across_hosts_and_leave_nothing() {
    fabric(3, |fabric| {
        let mut vpc = fabric.vpc(77, open());
        let a = vpc.guest(0, 4, &[1]);
        let id = vpc.whole.vpc;
        let alone = &fabric.hosts[0].inventory();
        assert!(
            !alone.vpcs[&id].tunnel && alone.guarded.is_empty(),
            "nobody to reach"
        );
        let b = vpc.guest(1, 5, &[1]);
        let c = vpc.guest(2, 6, &[1]);
        let d = vpc.guest(0, 7, &[1]);
        for (from, to) in [(&a, &b), (&b, &a), (&a, &c), (&c, &b), (&d, &c), (&a, &d)] {
            assert!(from.pings(to.ip), "{} to {}", from.ip, to.ip);
        }
        // The peer of a connection is who it is, and much goes through.
        let listener = b.listen(7000);
        let mut to = a.connect(b.ip, 7000).expect("a connection across hosts");
        let (mut from, peer) = listener.accept().unwrap();
        assert_eq!(peer.ip(), a.ip);
        let sender = thread::spawn(move || to.write_all(&vec![7; 4 << 20]));
        let mut heard = Vec::new();
        from.read_to_end(&mut heard).unwrap();
        sender.join().unwrap().unwrap();
        assert_eq!(heard.len(), 4 << 20);
        assert!(a.connect(address(99), 7000).is_err(), "nobody");
        for host in &fabric.hosts {
            let found = host.inventory();
            assert!(found.vpcs[&id].tunnel, "{}", host.name);
            assert_eq!(found.guarded, [id].into());
            assert_eq!(host.repaired(), Vec::<String>::new());
        }
        // An instance that ends is out of reach, and its host with it if it was the last one there.
        vpc.remove(6);
        assert!(!a.pings(c.ip));
        assert!(fabric.hosts[2].inventory().vpcs.is_empty());
        assert_eq!(ends(&fabric.hosts[0], id), [underlay(1).to_string()]);
        vpc.remove(5);
        let alone = fabric.hosts[0].inventory();
        assert!(!alone.vpcs[&id].tunnel && alone.guarded.is_empty());
        assert!(a.pings(d.ip));
        vpc.end();
    });
}

/// The hosts in the table of the VPC's device.
fn ends(host: &Host, vpc: cumulet_domain::id::VpcId) -> Vec<String> {
    let text = output(Command::new("ip").args([
        "netns",
        "exec",
        &host.namespace(vpc),
        "bridge",
        "fdb",
        "show",
        "dev",
        "tunnel",
    ]));
    text.lines()
        .map(|line| line.split_whitespace().nth(2).unwrap().to_owned())
        .collect()
}

#[test]
fn groups_hold_across_hosts_and_a_revoked_rule_cuts() {
    fabric(2, |fabric| {
        let clients = SecurityGroupId::new(2);
        let mut vpc = fabric.vpc(
            77,
            vec![
                group(1, &[(Ingress, tcp(7000), Peer::Group(clients))]),
                group(2, &[(Egress, Traffic::All, anywhere())]),
                group(3, &[(Egress, tcp(7001), anywhere())]),
            ],
        );
        let server = vpc.guest(0, 4, &[1]);
        let client = vpc.guest(1, 5, &[2]);
        let other = vpc.guest(1, 6, &[3]);
        let listener = server.listen(7000);
        let mut to = client
            .connect(server.ip, 7000)
            .expect("a member of the group elsewhere");
        let (mut from, peer) = listener.accept().unwrap();
        assert_eq!(peer.ip(), client.ip);
        from.set_read_timeout(Some(PATIENCE)).unwrap();
        assert!(client.connect(server.ip, 7001).is_err(), "a port without a rule");
        assert!(
            other.connect(server.ip, 7000).is_err(),
            "no member, and no egress"
        );
        assert!(!server.pings(client.ip), "no egress");

        to.write_all(b"1").unwrap();
        from.write_all(b"1").unwrap();
        assert!(hears(&mut from) && hears(&mut to));
        let rule = vpc.whole.groups[0].rules.remove(0);
        vpc.tell();
        to.write_all(b"2").unwrap();
        from.write_all(b"2").unwrap();
        assert!(
            !hears(&mut from),
            "the opener's packets pass after the rule was revoked"
        );
        assert!(!hears(&mut to), "the answers pass after the rule was revoked");
        vpc.whole.groups[0].rules.push(rule);
        vpc.tell();
        from.set_read_timeout(Some(PATIENCE * 10)).unwrap();
        assert!(hears(&mut from), "the connection goes on");
        // The sender's own rules: egress goes, and with it what it let out.
        from.set_read_timeout(Some(PATIENCE)).unwrap();
        let rule = vpc.whole.groups[1].rules.remove(0);
        vpc.tell();
        to.write_all(b"3").unwrap();
        assert!(!hears(&mut from), "packets leave after egress was revoked");
        vpc.whole.groups[1].rules.push(rule);
        // Membership decides: the client leaves its group.
        vpc.whole.interfaces[1].groups = vec![SecurityGroupId::new(3)];
        vpc.tell();
        assert!(client.connect(server.ip, 7000).is_err());
        vpc.end();
    });
}

/// A host that is told to be at an address that can't be one's costs itself alone: the others reach each other, and a
/// rule that is revoked is closed.
#[test]
fn a_host_that_lies_about_its_address_keeps_no_rule_open() {
    fabric(2, |fabric| {
        let mut vpc = fabric.vpc(
            77,
            vec![group(
                1,
                &[
                    (Ingress, tcp(7000), anywhere()),
                    (Egress, Traffic::All, anywhere()),
                ],
            )],
        );
        let server = vpc.guest(0, 4, &[1]);
        let client = vpc.guest(1, 5, &[1]);
        let _listener = server.listen(7000);
        let lies = [
            Ipv4Addr::UNSPECIFIED,
            Ipv4Addr::LOCALHOST,
            METADATA,
            Ipv4Addr::new(224, 0, 0, 1),
            Ipv4Addr::BROADCAST,
            underlay(0),
            underlay(1),
        ];
        let rule = vpc.whole.groups[0].rules.remove(0);
        for lie in lies {
            for open in [true, false] {
                vpc.whole.groups[0].rules.retain(|kept| *kept != rule);
                vpc.whole.groups[0].rules.extend(open.then_some(rule));
                vpc.whole.generation += 1;
                for (number, host) in fabric.hosts.iter().enumerate() {
                    let mut policy = vpc.policy(number);
                    let liar = TunnelPeer {
                        host: lie,
                        addresses: vec![address(9)],
                    };
                    policy.tunnel.as_mut().unwrap().peers.push(liar);
                    let generation = policy.generation;
                    assert_eq!(host.apply(policy).generation, generation, "{lie}");
                    assert_eq!(host.problems().len(), 1, "{lie}: {:?}", host.problems());
                    assert_eq!(host.repaired(), Vec::<String>::new(), "{lie}");
                }
                assert_eq!(client.connect(server.ip, 7000).is_ok(), open, "{lie}");
            }
        }
        vpc.whole.groups[0].rules.push(rule);
        vpc.tell();
        assert_eq!(fabric.hosts[0].problems(), Vec::<String>::new());
        vpc.end();
    });
}

/// A packet as it goes through a tunnel: from one guest to another's port 5000, by UDP.
fn forged(vni: u32, host: Ipv4Addr, to_host: Ipv4Addr, source: Ipv4Addr, to: Ipv4Addr) -> Vec<u8> {
    let mut packet = vec![0x08, 0, 0, 0];
    packet.extend(&(vni << 8).to_be_bytes());
    for end in [to_host, host] {
        packet.extend([0x0a, 0x17]);
        packet.extend(end.octets());
    }
    packet.extend([0x08, 0x00]);
    let mut header = vec![0x45, 0, 0, 29, 0, 1, 0, 0, 64, 17, 0, 0];
    header.extend(source.octets());
    header.extend(to.octets());
    let sum: u32 = header
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]))
        .sum();
    let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(header);
    packet.extend([0x13, 0x88, 0x13, 0x88, 0, 9, 0, 0, 7]);
    packet
}

fn send(namespace: &Path, from: Ipv4Addr, to: Ipv4Addr, packet: Vec<u8>) {
    within(namespace, move || {
        let socket = UdpSocket::bind((from, 0)).unwrap();
        socket.send_to(&packet, (to, PORT)).unwrap();
    });
}

#[test]
fn nobody_speaks_for_a_guest_of_another_host() {
    fabric(3, |fabric| {
        let mut vpc = fabric.vpc(77, open());
        let [a, b, c] = [(0, 4), (1, 5), (2, 6)].map(|(host, n)| vpc.guest(host, n, &[1]));
        let heard = b.udp(5000);
        let hears_from = |guest: Ipv4Addr| {
            heard
                .recv_from(&mut [0])
                .is_ok_and(|(_, peer)| peer.ip() == guest)
        };
        let third = fabric.hosts[2].path();
        let (one, two, three) = (underlay(0), underlay(1), underlay(2));
        // The third host may say what its own guest says.
        send(&third, three, two, forged(77, three, two, c.ip, b.ip));
        assert!(hears_from(c.ip), "the packet is well formed and passes");
        // It may not speak for the first one's, whatever Ethernet address it uses; nor for a guest that is
        // not there, for the receiver's own, for the gateway; nor with another VPC's number.
        for (vni, host, source) in [
            (77, three, a.ip),
            (77, one, a.ip),
            (77, one, c.ip),
            (77, three, address(99)),
            (77, three, b.ip),
            (77, three, address(1)),
            (77, three, METADATA),
            (78, three, c.ip),
        ] {
            send(&third, three, two, forged(vni, host, two, source, b.ip));
            assert!(
                heard.recv(&mut [0]).is_err(),
                "heard {source} from {host} in {vni}"
            );
        }
        // A stranger on the wire speaks for nobody.
        ip(&format!("-n {} addr add 10.200.0.99/24 dev br0", fabric.wire));
        let wire = Path::new("/run/netns").join(&fabric.wire);
        send(
            &wire,
            Ipv4Addr::new(10, 200, 0, 99),
            two,
            forged(77, three, two, c.ip, b.ip),
        );
        assert!(heard.recv(&mut [0]).is_err(), "a stranger was heard");
        // Nothing of the namespace itself is reached through the tunnel.
        let id = vpc.whole.vpc;
        let listener =
            fabric.hosts[1].with(|network| async move { network.listener(id).await.unwrap().unwrap() });
        listener.set_nonblocking(true).unwrap();
        let metadata = within(&c.path, || host::connect(METADATA, 80));
        assert!(metadata.is_err(), "nobody listens on the third host");
        assert!(listener.accept().is_err());
        drop(listener);
        // And the guests themselves are still held to their own.
        a.ip(&format!("addr add {}/32 dev eth0", c.ip));
        within(&a.path, {
            let (from, to) = (c.ip, b.ip);
            move || drop(UdpSocket::bind((from, 0)).unwrap().send_to(&[7], (to, 5000)))
        });
        assert!(heard.recv(&mut [0]).is_err(), "a guest spoke for one elsewhere");
        a.ip(&format!("addr del {}/32 dev eth0", c.ip));
        assert!(a.pings(b.ip) && c.pings(b.ip));
        vpc.end();
    });
}

#[test]
fn equal_blocks_do_not_meet_between_hosts() {
    fabric(2, |fabric| {
        let mut vpcs: Vec<_> = [77, 78].map(|vni| fabric.vpc(vni, open())).into();
        let mut guests: Vec<[Guest; 2]> = Vec::new();
        for vpc in &mut vpcs {
            guests.push([vpc.guest(0, 4, &[1]), vpc.guest(1, 5, &[1])]);
        }
        let [[a1, b1], [a2, b2]] = &guests[..] else {
            panic!()
        };
        assert!(a1.pings(b1.ip) && a2.pings(b2.ip));
        let open = b2.listen(7000);
        let refused = a1.connect(b1.ip, 7000).unwrap_err();
        assert_eq!(
            refused.kind(),
            ErrorKind::ConnectionRefused,
            "the other VPC's guest"
        );
        assert!(a2.connect(b2.ip, 7000).is_ok());
        open.accept().unwrap();
        // One goes, the other stays.
        let second = vpcs.pop().unwrap();
        vpcs.pop().unwrap().end();
        assert!(a2.pings(b2.ip));
        assert!(!a1.pings(b1.ip));
        second.end();
    });
}

/// Counts from now on what comes into a namespace: packets of tunnels, pieces, packets that must stay whole.
fn probe(namespace: &str) {
    let nft = |words: &str| {
        let words = words.split_whitespace();
        output(
            Command::new("ip")
                .args(["netns", "exec", namespace, "nft", "add"])
                .args(words),
        );
    };
    nft("table ip probe");
    nft("chain ip probe in { type filter hook prerouting priority -500 ; }");
    for (name, rule) in [
        ("tunnel", format!("udp dport {PORT}")),
        ("pieces", "ip frag-off & 0x3fff != 0".to_owned()),
        ("whole", "ip frag-off & 0x4000 != 0 ip length 1450".to_owned()),
    ] {
        nft(&format!("counter ip probe {name}"));
        nft(&format!("rule ip probe in {rule} counter name {name}"));
    }
}

/// Packets that a namespace has counted since.
fn counted(namespace: &str, what: &str) -> u64 {
    let text = output(Command::new("ip").args([
        "netns", "exec", namespace, "nft", "-j", "list", "counters", "table", "ip", "probe",
    ]));
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let counters = json["nftables"].as_array().unwrap();
    let mut named = counters.iter().filter(|c| c["counter"]["name"] == what);
    named.next().unwrap()["counter"]["packets"].as_u64().unwrap()
}

#[test]
fn nothing_is_flooded_and_packets_fit() {
    fabric(3, |fabric| {
        let mut vpc = fabric.vpc(77, open());
        let a = vpc.bare_guest(0, 4, &[1]);
        let b = vpc.guest(1, 5, &[1]);
        let c = vpc.guest(2, 6, &[1]);
        assert!(c.pings(b.ip));
        let [host, second, third] = &fabric.hosts[..] else {
            panic!()
        };
        for name in [&second.name, &third.name, &b.name] {
            probe(name);
        }
        let mtu = host.with(|_| async { tunnel_mtu(underlay(0)).await.unwrap() });
        assert_eq!(mtu, 1450, "what the tunnel leaves of 1500");
        let stranger = host.with(|_| async { tunnel_mtu(underlay(9)).await });
        assert!(stranger.is_err(), "an address that is not the host's");
        // What DHCP says.
        let told = host
            .config
            .run_dir
            .join(vpc.whole.vpc.to_string())
            .join("dnsmasq.conf");
        assert!(
            std::fs::read_to_string(told)
                .unwrap()
                .contains("option:mtu,1450\n")
        );
        a.ip("addr add 172.31.16.4/20 dev eth0");
        a.ip("link set eth0 mtu 1450");
        a.ip("route add default via 172.31.16.1");
        // 28 bytes of headers make 1450: it goes in one piece, and says that it must.
        let heard = b.udp(5000);
        a.udp(0).send_to(&[1; 1422], (b.ip, 5000)).unwrap();
        assert_eq!(heard.recv(&mut [0; 2000]).unwrap(), 1422);
        assert_eq!(counted(&b.name, "whole"), 1);
        assert_eq!(counted(&b.name, "pieces"), 0);
        // More than that the guest itself sends in pieces.
        a.udp(0).send_to(&[1; 1423], (b.ip, 5000)).unwrap();
        assert_eq!(heard.recv(&mut [0; 2000]).unwrap(), 1423);
        assert_eq!(counted(&b.name, "pieces"), 2);
        assert_eq!(
            counted(&second.name, "pieces"),
            0,
            "the tunnel's own packets are whole"
        );
        // To a guest, to nobody, to everybody, ARP: the third host hears nothing of it.
        assert!(a.pings(b.ip));
        assert!(!a.pings(address(99)) && !a.pings(Ipv4Addr::new(172, 31, 31, 255)));
        assert!(!a.run(
            "busybox",
            &["arping", "-c", "2", "-w", "2", "-I", "eth0", "172.31.16.99"]
        ));
        assert!(counted(&second.name, "tunnel") > 0);
        assert_eq!(counted(&third.name, "tunnel"), 0, "something was flooded");
        assert!(a.pings(c.ip));
        assert!(counted(&third.name, "tunnel") > 0);
        for host in [second, third] {
            host.run("nft delete table ip probe");
        }
        vpc.end();
    });
}

#[test]
fn what_breaks_is_repaired_and_a_restart_keeps_what_is_right() {
    fabric(2, |fabric| {
        let mut vpc = fabric.vpc(77, open());
        let (a, b) = (vpc.guest(0, 4, &[1]), vpc.guest(1, 5, &[1]));
        let (host, id) = (&fabric.hosts[0], vpc.whole.vpc);
        let inside = host.namespace(id);
        assert!(a.pings(b.ip));
        let breaks = [
            format!("netns exec {inside} ip link del tunnel"),
            format!("netns exec {inside} ip link set tunnel down"),
            format!("netns exec {inside} ip link set tunnel mtu 1400"),
            format!("netns exec {inside} ip route del {}/32", b.ip),
            format!("netns exec {inside} ip neigh del {} dev tunnel", b.ip),
            format!("netns exec {inside} bridge fdb del 0a:17:0a:c8:00:02 dev tunnel dst 10.200.0.2 self"),
            format!(
                "netns exec {inside} bridge fdb append 00:00:00:00:00:00 dev tunnel dst 10.200.0.9 self permanent"
            ),
            format!("netns exec {} nft flush ruleset", host.name),
            format!(
                "netns exec {} nft flush chain ip cumulet_{} door",
                host.name, host.config.cloud
            ),
        ];
        for command in &breaks {
            ip(command);
            assert_eq!(host.repaired().len(), 1, "{command}");
            assert!(a.pings(b.ip) && b.pings(a.ip), "after {command}");
            assert_eq!(host.repaired(), Vec::<String>::new(), "after {command}");
        }
        // The worker begins anew, with nothing but the policy from its file: the device stays.
        let index = || output(Command::new("ip").args(["-n", &inside, "-o", "link", "show", "tunnel"]));
        let (before, policy) = (index(), vpc.policy(0));
        let again = host.restarted();
        host.with(|_| async move { again.apply(&policy).await.unwrap() });
        assert_eq!(before, index());
        assert!(a.pings(b.ip) && b.pings(a.ip));
        // Nothing at all is left, and only the file knows: everything comes back.
        ip(&format!("netns exec {} nft flush ruleset", host.name));
        ip(&format!("netns exec {inside} ip link del tunnel"));
        let (again, policy) = (host.restarted(), vpc.policy(0));
        host.with(|_| async move { again.apply(&policy).await.unwrap() });
        assert!(a.pings(b.ip) && b.pings(a.ip));
        vpc.end();
    });
}
