//! What a guest sends costs only itself: the host's own addresses, the table of connections, the wire, and the DHCP
//! server that it speaks to.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, TcpListener, UdpSocket},
    os::unix::fs::MetadataExt as _,
    path::Path,
    process::Command,
    time::Instant,
};

use cumulet_domain::{
    id::SecurityGroupId,
    network::{
        Direction::{Egress, Ingress},
        GroupPolicy, Traffic,
    },
};
use cumulet_worker::network::{DHCP_UID, HostNetwork as _};

use crate::{
    PUBLIC, dhcp,
    host::{
        self, Guest, HOST, METADATA, PATIENCE, anywhere, connect, group, ip, output, within, world,
        world_with,
    },
};

const ALL: SecurityGroupId = SecurityGroupId::new(1);
/// The host's address on a network, a machine there, and their broadcast.
const NEAR: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const FAR: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
const EVERYBODY: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 255);
/// An address that the host gets while guests run.
const LATER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 77);

fn open() -> Vec<GroupPolicy> {
    vec![group(
        1,
        &[
            (Ingress, Traffic::All, anywhere()),
            (Egress, Traffic::All, anywhere()),
        ],
    )]
}

/// A machine outside, on a network with the host; gone when dropped.
struct Outside {
    name: String,
}

impl Outside {
    fn new(world: &host::World) -> Outside {
        let name = format!("outside-{}", world.cloud);
        ip(&format!("netns add {name}"));
        ip(&format!("link add wire type veth peer name eth0 netns {name}"));
        ip(&format!("addr add {NEAR}/24 brd + dev wire"));
        ip("link set wire up");
        ip(&format!("-n {name} addr add {FAR}/24 brd + dev eth0"));
        ip(&format!("-n {name} link set eth0 up"));
        ip(&format!("-n {name} route add {PUBLIC}/32 via {NEAR}"));
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        Outside { name }
    }

    fn within<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        within(&Path::new("/run/netns").join(&self.name), work)
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["link", "del", "wire"]).status();
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

/// Says something to everybody on a network; nothing if the network is not to be reached.
fn shout(to: Ipv4Addr) {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    socket.set_broadcast(true).unwrap();
    let _ = socket.send_to(&[7], (to, 5000));
}

/// Who is heard on a socket, until nobody is.
fn heard(socket: &UdpSocket) -> BTreeSet<Ipv4Addr> {
    let mut who = BTreeSet::new();
    while let Ok((_, from)) = socket.recv_from(&mut [0; 8]) {
        if let std::net::IpAddr::V4(address) = from.ip() {
            who.insert(address);
        }
    }
    who
}

#[test]
fn a_guest_that_may_leave_reaches_nothing_of_the_host() {
    world_with(
        |config| config.uplink_egress = true,
        async |world| {
            let outside = Outside::new(world);
            let mut policy = world.vpc(1);
            policy.groups = open();
            let a = world.interface(&mut policy, 4, &[ALL]);
            policy.interfaces[0].public_ip = Some(PUBLIC);
            let a = world.guest(&policy, a).await;
            let _host = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 22)).unwrap();
            let host_hears = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 5000)).unwrap();
            host_hears.set_read_timeout(Some(PATIENCE)).unwrap();
            let far = outside.within(|| TcpListener::bind((FAR, 80)).unwrap());
            closed(&a, &outside, &host_hears, &[HOST, NEAR]);
            // An address that the host gets later is as closed, without anybody hearing of it.
            ip(&format!("addr add {LATER}/24 dev wire"));
            closed(&a, &outside, &host_hears, &[LATER]);
            drop(a.connect(FAR, 80).expect("a way out"));
            // Answers to what the host asks come through, and errors about it.
            let ssh = a.listen(2222);
            connect(PUBLIC, 2222).expect("the guest from the host");
            assert!(connect(PUBLIC, 2223).is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionRefused));
            // Where somebody takes the door away, it is made again.
            output(Command::new("nft").args(["flush", "ruleset"]));
            assert_eq!(world.network.ensure().await.unwrap().len(), 1);
            assert_eq!(world.network.ensure().await.unwrap(), Vec::<String>::new());
            closed(&a, &outside, &host_hears, &[HOST, NEAR, LATER]);
            drop((ssh, far));
            policy.interfaces.clear();
            world.apply(&mut policy).await;
            drop(outside);
        },
    );
}

/// The guest reaches none of the host's addresses, and no broadcast of its networks; others there do.
fn closed(a: &Guest, outside: &Outside, host_hears: &UdpSocket, addresses: &[Ipv4Addr]) {
    for to in addresses {
        assert!(a.connect(*to, 22).is_err(), "{to}");
        assert!(!a.pings(*to), "{to}");
        let to = *to;
        within(&a.path, move || shout(to));
    }
    for to in [EVERYBODY, Ipv4Addr::BROADCAST] {
        within(&a.path, move || shout(to));
    }
    assert_eq!(heard(host_hears), BTreeSet::new(), "the host hears the guest");
    outside.within(|| shout(EVERYBODY));
    assert_eq!(heard(host_hears), [FAR].into(), "the host hears its network");
}

/// Several clouds on one host, as tests have them side by side.
#[test]
fn the_last_uplink_takes_its_own_clouds_door_along() {
    world_with(
        |config| config.uplink_egress = true,
        async |world| {
            let doors = || {
                output(Command::new("nft").args(["list", "tables"]))
                    .matches("_door")
                    .count()
            };
            ip("link add cv000000000000z type bridge");
            let mut policy = world.vpc(1);
            policy.groups = open();
            world.interface(&mut policy, 4, &[ALL]);
            policy.interfaces[0].public_ip = Some(PUBLIC);
            world.apply(&mut policy).await;
            assert_eq!(doors(), 1);
            assert_eq!(world.network.ensure().await.unwrap(), Vec::<String>::new());
            policy.interfaces.clear();
            world.apply(&mut policy).await;
            assert_eq!(doors(), 0, "with another cloud's uplink there");
            ip("link delete cv000000000000z");
        },
    );
}

#[test]
fn a_guest_fills_its_own_share_of_the_connections_and_no_more() {
    world_with(
        |config| config.guest_connections = 20,
        async |world| {
            let mut policy = world.vpc(1);
            policy.groups = open();
            let [a, b, c, d] = [4, 5, 6, 7].map(|n| world.interface(&mut policy, n, &[ALL]));
            let (a, b, c, d) = (
                world.guest(&policy, a).await,
                world.guest(&policy, b).await,
                world.guest(&policy, c).await,
                world.guest(&policy, d).await,
            );
            let metadata = world.network.listener(policy.vpc).await.unwrap().unwrap();
            let listener = b.udp(7000);
            let flood = || {
                for _ in 0..200 {
                    drop(a.udp(0).send_to(&[1], (b.ip, 7000)));
                }
                let mut flows = BTreeSet::new();
                while let Ok((_, from)) = listener.recv_from(&mut [0; 8]) {
                    flows.insert(from.port());
                }
                flows.len()
            };
            assert_eq!(flood(), 20, "new connections beside 20");
            assert_eq!(flood(), 0);
            assert!(a.connect(METADATA, 80).is_err(), "to the host's services, too");
            // Nobody else's are fewer: neither from another guest, nor to one.
            let open = d.listen(7001);
            drop(c.connect(d.ip, 7001).expect("others' connections"));
            drop(c.connect(METADATA, 80).expect("others' metadata"));
            assert!(
                c.connect(b.ip, 7000)
                    .is_err_and(|e| e.kind() != std::io::ErrorKind::ConnectionRefused),
                "the flooded guest's own share"
            );
            // A change of the policy gives nothing back.
            policy.groups[0]
                .rules
                .push(group(0, &[(Ingress, host::udp(9), anywhere())]).rules[0]);
            world.apply(&mut policy).await;
            world.apply(&mut policy).await;
            assert_eq!(flood(), 0, "a new edition of the rules counts on");
            drop((open, metadata));
            policy.interfaces.clear();
            world.apply(&mut policy).await;
        },
    );
}

#[test]
fn a_guest_sends_and_receives_what_it_may() {
    // A mebibyte a second, or so.
    world_with(
        |config| config.guest_mbit = 8,
        async |world| {
            let mut policy = world.vpc(1);
            policy.groups = open();
            let [a, b] = [4, 5].map(|n| world.interface(&mut policy, n, &[ALL]));
            let (a, b) = (world.guest(&policy, a).await, world.guest(&policy, b).await);
            let (from, to) = (a.udp(0), b.udp(7000));
            let began = Instant::now();
            for _ in 0..4000 {
                drop(from.send_to(&[0; 1200], (b.ip, 7000)));
            }
            let mut bytes = 0_f64;
            while to.recv(&mut [0; 1500]).is_ok() {
                bytes += 1228.0;
            }
            // A second's worth at once, and what comes meanwhile.
            let most = f64::from(128 << 10) + 1.0e6 * (1.0 + began.elapsed().as_secs_f64());
            assert!(
                (64_000.0..most * 1.2).contains(&bytes),
                "{bytes} of at most {most}"
            );
            policy.interfaces.clear();
            world.apply(&mut policy).await;
        },
    );
}

/// What of a directory is others' to read or to write, as far as they get.
fn open_to_others(dir: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let seen = std::fs::symlink_metadata(&path).unwrap();
        if seen.mode() & 0o006 != 0 && !seen.is_symlink() {
            found.push(format!("{} {:o}", path.display(), seen.mode()));
        }
        if seen.is_dir() && seen.mode() & 0o001 != 0 {
            open_to_others(&path, found);
        }
    }
}

#[test]
fn a_dhcp_server_is_nobody_who_sees_nothing() {
    world(async |world| {
        let null = || {
            std::fs::metadata("/dev/null")
                .map(|m| (m.uid(), m.gid(), m.mode()))
                .unwrap()
        };
        let before = null();
        let mut policy = world.vpc(1);
        policy.groups = open();
        let a = world.interface(&mut policy, 4, &[ALL]);
        let a = world.bare_guest(&policy, a).await;
        assert!(dhcp(world, &a).expect("a lease").contains("ip=172.31.16.4"));
        let pid = world
            .dir
            .path()
            .join(format!("net/{}/own/dnsmasq.pid", policy.vpc));
        let pid = std::fs::read_to_string(pid).unwrap();
        let status = std::fs::read_to_string(format!("/proc/{}/status", pid.trim())).unwrap();
        let line = |name: &str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .unwrap()
                .to_owned()
        };
        let uids: Vec<u32> = line("Uid:")
            .split_whitespace()
            .map(|uid| uid.parse().unwrap())
            .collect();
        assert_eq!(uids, [DHCP_UID; 4]);
        assert_eq!(line("Groups:").trim(), "");
        // CAP_NET_BIND_SERVICE, CAP_NET_ADMIN, CAP_NET_RAW, and nothing to be had beside them.
        assert_eq!(
            (line("CapEff:").trim(), line("CapBnd:").trim()),
            ("0000000000003400", "0000000000003400")
        );
        let mut open = Vec::new();
        open_to_others(&world.dir.path().join("net"), &mut open);
        assert_eq!(open, Vec::<String>::new());
        assert_eq!(null(), before, "/dev/null is given to nobody");
        policy.interfaces.clear();
        world.apply(&mut policy).await;
    });
}
