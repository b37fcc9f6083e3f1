//! A host of its own in a network namespace, and guests that are namespaces too: a pair of devices
//! takes the place of the tap, so that real packets go through the real kernel without an emulator.

use std::{
    fs::File,
    future::Future,
    io::{self, Read as _},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket},
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use cumulet_domain::{
    id::{NetworkInterfaceId, SecurityGroupId, SubnetId, VpcId},
    network::{
        Cidr, Direction, GroupPolicy, InterfacePolicy, Mac, Peer, Rule, SubnetPolicy, Traffic, VpcPolicy,
    },
};
use cumulet_worker::network::{Applied, Config, HostNetwork as _, LinuxNetwork, device_name};
use nix::{
    sched::{CloneFlags, setns, unshare},
    sys::{
        socket::{AddressFamily, SockFlag, SockType, SockaddrIn, setsockopt, socket, sockopt},
        time::{TimeVal, TimeValLike as _},
    },
};

/// The address of the host, and one that lies in the VPCs' block.
pub(crate) const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub(crate) const HOST_INSIDE: Ipv4Addr = Ipv4Addr::new(172, 31, 40, 40);
pub(crate) const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// Long enough for a packet on a busy machine, short enough for many that must not come.
pub(crate) const PATIENCE: Duration = Duration::from_millis(400);

static NUMBER: AtomicU32 = AtomicU32::new(0);

pub(crate) struct World {
    pub(crate) network: LinuxNetwork,
    pub(crate) cloud: String,
    pub(crate) dir: tempfile::TempDir,
    number: u32,
}

/// Runs a test on a host of its own. Everything must be gone when the test has ended.
pub(crate) fn world<F: Future<Output = ()>>(test: impl FnOnce(&'static World) -> F) {
    world_with(|_| (), test);
}

/// The same on a host that is configured otherwise.
pub(crate) fn world_with<F: Future<Output = ()>>(
    change: impl FnOnce(&mut Config),
    test: impl FnOnce(&'static World) -> F,
) {
    if std::env::var("CUMULET_SKIP_ROOT_TESTS").as_deref() == Ok("1") {
        println!("skipped: CUMULET_SKIP_ROOT_TESTS=1");
        return;
    }
    assert!(
        nix::unistd::geteuid().is_root(),
        "this test makes network namespaces: run it as root, or set CUMULET_SKIP_ROOT_TESTS=1"
    );
    // The runtime's threads are born in the namespace of this one.
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    ip("link set lo up");
    ip(&format!("addr add {HOST}/32 dev lo"));
    ip(&format!("addr add {HOST_INSIDE}/32 dev lo"));
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let cloud = format!("t{:05x}{number:02}", std::process::id() & 0xf_ffff);
    let dir = tempfile::Builder::new()
        .prefix("cumulet-")
        .tempdir_in("/run")
        .unwrap();
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut config = Config::new(cloud.clone(), dir.path().join("net"));
    change(&mut config);
    let network = LinuxNetwork::new(config).unwrap();
    let world: &'static World = Box::leak(Box::new(World {
        network,
        cloud,
        dir,
        number,
    }));
    let _cleaning = Cleaning(world);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(test(world));
    runtime.block_on(world.gone());
}

/// Leaves the machine clean even if the test failed.
struct Cleaning(&'static World);

impl Drop for Cleaning {
    fn drop(&mut self) {
        for entry in std::fs::read_dir(self.0.dir.path().join("net"))
            .into_iter()
            .flatten()
            .flatten()
        {
            if let Ok(pid) = std::fs::read_to_string(entry.path().join("own/dnsmasq.pid")) {
                let cmdline =
                    std::fs::read_to_string(format!("/proc/{}/cmdline", pid.trim())).unwrap_or_default();
                if cmdline.contains(&*entry.path().to_string_lossy()) {
                    let _ = Command::new("kill").arg(pid.trim()).status();
                }
            }
        }
        for name in self.0.namespaces("") {
            let _ = Command::new("ip").args(["netns", "del", &name]).status();
        }
        let _ = std::fs::remove_dir_all(self.0.dir.path());
    }
}

impl World {
    /// The namespaces of this test with something in the name.
    pub(crate) fn namespaces(&self, part: &str) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir("/run/netns") else {
            return Vec::new();
        };
        entries
            .filter_map(|e| e.ok()?.file_name().into_string().ok())
            .filter(|n| n.contains(&self.cloud) && n.contains(part))
            .collect()
    }

    /// A VPC of one subnet.
    pub(crate) fn vpc(&self, number: u64) -> VpcPolicy {
        VpcPolicy {
            vpc: VpcId::new(self.unique(number)),
            generation: 1,
            cidr: "172.31.0.0/16".parse().unwrap(),
            subnets: vec![SubnetPolicy {
                id: SubnetId::new(number),
                cidr: "172.31.16.0/20".parse().unwrap(),
            }],
            interfaces: Vec::new(),
            groups: Vec::new(),
            tunnel: None,
        }
    }

    fn unique(&self, number: u64) -> u64 {
        (u64::from(std::process::id()) << 32) + (u64::from(self.number) << 16) + number
    }

    /// Adds an interface to the policy: `number` is the last byte of the address.
    pub(crate) fn interface(
        &self,
        policy: &mut VpcPolicy,
        number: u8,
        groups: &[SecurityGroupId],
    ) -> NetworkInterfaceId {
        let id =
            NetworkInterfaceId::new(self.unique(u64::from(number) + ((policy.vpc.number() & 0xff) << 8)));
        policy.interfaces.push(InterfacePolicy {
            id,
            subnet: policy.subnets[0].id,
            mac: Mac::of(id),
            private_ip: address(number),
            public_ip: None,
            hostname: format!("guest-{number}"),
            groups: groups.to_vec(),
        });
        members(policy);
        id
    }

    /// A guest with the interface, configured by hand.
    pub(crate) async fn guest(&self, policy: &VpcPolicy, id: NetworkInterfaceId) -> Guest {
        let guest = self.bare_guest(policy, id).await;
        guest.configure();
        guest
    }

    /// A guest with the interface, which has no address yet.
    pub(crate) async fn bare_guest(&self, policy: &VpcPolicy, id: NetworkInterfaceId) -> Guest {
        let interface = policy.interfaces.iter().find(|i| i.id == id).unwrap();
        let name = format!("guest-{}-{}", self.cloud, id.short());
        let device = device_name(id);
        ip(&format!("netns add {name}"));
        ip(&format!(
            "link add {device} type veth peer name eth0 address {} netns {name}",
            interface.mac
        ));
        ip(&format!("-n {name} link set lo up"));
        ip(&format!("-n {name} link set eth0 up"));
        self.network.attach_interface(policy, id).await.unwrap();
        Guest {
            path: Path::new("/run/netns").join(&name),
            name,
            ip: interface.private_ip,
            mac: interface.mac,
        }
    }

    pub(crate) async fn apply(&self, policy: &mut VpcPolicy) -> Applied {
        policy.generation += 1;
        members(policy);
        self.network.apply(policy).await.unwrap()
    }

    /// Waits for nothing: what was removed is gone.
    async fn gone(&self) {
        assert_eq!(self.network.inventory().await.unwrap(), Default::default());
        assert_eq!(self.namespaces("vpc"), Vec::<String>::new());
        let links = output(Command::new("ip").args(["-o", "link"]));
        assert!(!links.contains(": cu") && !links.contains(": cv"), "{links}");
        assert_eq!(output(Command::new("ip").args(["route"])), "", "routes are left");
        assert_eq!(
            output(Command::new("nft").args(["list", "tables"])),
            "",
            "tables are left"
        );
        assert_eq!(std::fs::read_dir(self.dir.path().join("net")).unwrap().count(), 0);
    }
}

/// Sets the members of every group.
fn members(policy: &mut VpcPolicy) {
    for group in &mut policy.groups {
        let of_group = policy.interfaces.iter().filter(|i| i.groups.contains(&group.id));
        group.members = of_group.map(|i| i.private_ip).collect();
    }
}

pub(crate) fn address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(172, 31, 16, number)
}

pub(crate) fn anywhere() -> Peer {
    Peer::Cidr(Cidr::new(Ipv4Addr::UNSPECIFIED, 0))
}

pub(crate) fn group(number: u64, rules: &[(Direction, Traffic, Peer)]) -> GroupPolicy {
    GroupPolicy {
        id: SecurityGroupId::new(number),
        rules: rules
            .iter()
            .map(|(direction, traffic, peer)| Rule {
                direction: *direction,
                traffic: *traffic,
                peer: *peer,
            })
            .collect(),
        members: Vec::new(),
    }
}

pub(crate) fn tcp(port: u16) -> Traffic {
    Traffic::Tcp { from: port, to: port }
}

pub(crate) fn udp(port: u16) -> Traffic {
    Traffic::Udp { from: port, to: port }
}

pub(crate) fn ip(command: &str) {
    output(Command::new("ip").args(command.split_whitespace()));
}

pub(crate) fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Runs `work` in a namespace, on a thread that ends with it.
pub(crate) fn within<T: Send + 'static>(path: &Path, work: impl FnOnce() -> T + Send + 'static) -> T {
    let file = File::open(path).unwrap();
    thread::spawn(move || {
        setns(file, CloneFlags::CLONE_NEWNET).unwrap();
        work()
    })
    .join()
    .unwrap()
}

pub(crate) struct Guest {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) ip: Ipv4Addr,
    pub(crate) mac: Mac,
}

impl Guest {
    pub(crate) fn configure(&self) {
        self.ip(&format!("addr add {}/20 dev eth0", self.ip));
        self.ip("route add default via 172.31.16.1");
    }

    pub(crate) fn ip(&self, command: &str) {
        ip(&format!("-n {} {command}", self.name));
    }

    pub(crate) fn run(&self, program: &str, args: &[&str]) -> bool {
        Command::new("ip")
            .args(["netns", "exec", &self.name, program])
            .args(args)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .status()
            .unwrap()
            .success()
    }

    pub(crate) fn pings(&self, to: Ipv4Addr) -> bool {
        self.run("busybox", &["ping", "-c", "1", "-W", "1", &to.to_string()])
    }

    pub(crate) fn listen(&self, port: u16) -> TcpListener {
        within(&self.path, move || {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap()
        })
    }

    pub(crate) fn udp(&self, port: u16) -> UdpSocket {
        let socket = within(&self.path, move || {
            UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap()
        });
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        // On a busy machine a receiver may not have its turn for a while: what comes meanwhile is not lost.
        setsockopt(&socket, sockopt::RcvBufForce, &(16 << 20)).unwrap();
        socket
    }

    pub(crate) fn connect(&self, to: Ipv4Addr, port: u16) -> io::Result<TcpStream> {
        within(&self.path, move || connect(to, port))
    }
}

pub(crate) fn connect(to: Ipv4Addr, port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&SocketAddr::V4(SocketAddrV4::new(to, port)), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A connection that says it comes from `source`; the answer must come within [`PATIENCE`].
pub(crate) fn connect_from(source: Ipv4Addr, to: Ipv4Addr, port: u16) -> io::Result<TcpStream> {
    let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::empty(), None)?;
    let time = TimeVal::milliseconds(i64::try_from(PATIENCE.as_millis()).unwrap());
    setsockopt(&socket, sockopt::SendTimeout, &time)?;
    nix::sys::socket::bind(
        socket.as_raw_fd(),
        &SockaddrIn::from(SocketAddrV4::new(source, 0)),
    )?;
    nix::sys::socket::connect(socket.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(to, port)))?;
    Ok(socket.into())
}

/// Whether one byte comes through.
pub(crate) fn hears(stream: &mut TcpStream) -> bool {
    stream.read_exact(&mut [0]).is_ok()
}
