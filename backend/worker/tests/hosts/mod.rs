//! Several hosts on one machine: each is a network namespace with its own [`LinuxNetwork`], whose threads
//! were born in there; a bridge in another namespace is the wire between them.

use std::{
    collections::BTreeMap,
    future::Future,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use cumulet_domain::{
    id::{NetworkInterfaceId, SecurityGroupId, SubnetId, VpcId},
    network::{GroupPolicy, InterfacePolicy, Mac, SubnetPolicy, TunnelPeer, TunnelPolicy, VpcPolicy},
};
use cumulet_worker::network::{
    Applied, Config, HostNetwork as _, Inventory, LinuxNetwork, Tunnel, device_name,
};
use tokio::runtime::Runtime;

use crate::host::{Guest, address, ip, output, within};

/// The tunnels' port.
pub(crate) const PORT: u16 = 4789;

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// The address of a host on the wire.
pub(crate) fn underlay(host: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 200, 0, u8::try_from(host + 1).unwrap())
}

/// One host.
pub(crate) struct Host {
    pub(crate) number: usize,
    /// Its network namespace.
    pub(crate) name: String,
    pub(crate) config: Config,
    runtime: Runtime,
    network: Arc<LinuxNetwork>,
}

/// The hosts and the wire.
pub(crate) struct Fabric {
    pub(crate) hosts: Vec<Host>,
    pub(crate) wire: String,
    dir: tempfile::TempDir,
    number: u32,
    mark: String,
}

/// Runs a test with this many hosts. Everything must be gone when the test has ended.
pub(crate) fn fabric(count: usize, test: impl FnOnce(&Fabric)) {
    if std::env::var("CUMULET_SKIP_ROOT_TESTS").as_deref() == Ok("1") {
        println!("skipped: CUMULET_SKIP_ROOT_TESTS=1");
        return;
    }
    assert!(
        nix::unistd::geteuid().is_root(),
        "this test makes network namespaces: run it as root, or set CUMULET_SKIP_ROOT_TESTS=1"
    );
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let mark = format!("f{:05x}{number}", std::process::id() & 0xf_ffff);
    let dir = tempfile::Builder::new()
        .prefix("cumulet-")
        .tempdir_in("/run")
        .unwrap();
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut fabric = Fabric {
        hosts: Vec::new(),
        wire: format!("wire-{mark}"),
        dir,
        number,
        mark,
    };
    ip(&format!("netns add {}", fabric.wire));
    ip(&format!("-n {} link add br0 type bridge", fabric.wire));
    ip(&format!("-n {} link set br0 up", fabric.wire));
    for number in 0..count {
        let host = fabric.add(number);
        fabric.hosts.push(host);
    }
    test(&fabric);
    for host in &fabric.hosts {
        host.gone();
    }
}

impl Drop for Fabric {
    /// Leaves the machine clean even if the test failed.
    fn drop(&mut self) {
        for host in &self.hosts {
            for entry in std::fs::read_dir(&host.config.run_dir)
                .into_iter()
                .flatten()
                .flatten()
            {
                let Ok(pid) = std::fs::read_to_string(entry.path().join("own/dnsmasq.pid")) else {
                    continue;
                };
                let cmdline =
                    std::fs::read_to_string(format!("/proc/{}/cmdline", pid.trim())).unwrap_or_default();
                if cmdline.contains(&*entry.path().to_string_lossy()) {
                    let _ = Command::new("kill").arg(pid.trim()).status();
                }
            }
        }
        for entry in std::fs::read_dir("/run/netns").into_iter().flatten().flatten() {
            let name = entry.file_name().into_string().unwrap_or_default();
            if name.contains(&self.mark) {
                let _ = Command::new("ip").args(["netns", "del", &name]).status();
            }
        }
    }
}

impl Fabric {
    fn add(&self, number: usize) -> Host {
        let cloud = format!("{}{number}", self.mark);
        let name = format!("host-{cloud}");
        ip(&format!("netns add {name}"));
        ip(&format!("-n {name} link set lo up"));
        ip(&format!(
            "link add wire0 netns {name} type veth peer name w{number} netns {}",
            self.wire
        ));
        ip(&format!("-n {} link set w{number} master br0 up", self.wire));
        ip(&format!("-n {name} addr add {}/24 dev wire0", underlay(number)));
        ip(&format!("-n {name} link set wire0 up"));
        let mut config = Config::new(cloud, self.dir.path().join(format!("net{number}")));
        config.tunnel = Some(Tunnel {
            address: underlay(number),
            port: PORT,
        });
        config.mtu = 1450;
        let runtime = within(&Path::new("/run/netns").join(&name), || {
            tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap()
        });
        let network = Arc::new(LinuxNetwork::new(config.clone()).unwrap());
        Host {
            number,
            name,
            config,
            runtime,
            network,
        }
    }

    /// A VPC with the number for its tunnels; every fabric's are its own.
    pub(crate) fn vpc(&self, vni: u32, groups: Vec<GroupPolicy>) -> Vpc<'_> {
        let number = (u64::from(std::process::id()) << 32) + (u64::from(self.number) << 16) + u64::from(vni);
        Vpc {
            fabric: self,
            vni,
            whole: VpcPolicy {
                vpc: VpcId::new(number),
                generation: 1,
                cidr: "172.31.0.0/16".parse().unwrap(),
                subnets: vec![SubnetPolicy {
                    id: SubnetId::new(1),
                    cidr: "172.31.16.0/20".parse().unwrap(),
                }],
                interfaces: Vec::new(),
                groups,
                tunnel: None,
            },
            on: BTreeMap::new(),
        }
    }
}

impl Host {
    pub(crate) fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.name)
    }

    pub(crate) fn ip(&self, command: &str) {
        ip(&format!("-n {} {command}", self.name));
    }

    /// A program's output in the host's namespace.
    pub(crate) fn run(&self, words: &str) -> String {
        let words = words.split_whitespace();
        output(Command::new("ip").args(["netns", "exec", &self.name]).args(words))
    }

    /// Does something with the host's network, on its own threads.
    pub(crate) fn with<T, F>(&self, work: impl FnOnce(Arc<LinuxNetwork>) -> F) -> T
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let task = self.runtime.spawn(work(Arc::clone(&self.network)));
        self.runtime.block_on(task).unwrap()
    }

    pub(crate) fn apply(&self, policy: VpcPolicy) -> Applied {
        self.with(|network| async move { network.apply(&policy).await.unwrap() })
    }

    pub(crate) fn problems(&self) -> Vec<String> {
        self.network.problems()
    }

    pub(crate) fn repaired(&self) -> Vec<String> {
        self.with(|network| async move { network.ensure().await.unwrap() })
    }

    pub(crate) fn inventory(&self) -> Inventory {
        self.with(|network| async move { network.inventory().await.unwrap() })
    }

    /// The worker's part begins anew, as after a restart.
    pub(crate) fn restarted(&self) -> Arc<LinuxNetwork> {
        Arc::new(LinuxNetwork::new(self.config.clone()).unwrap())
    }

    /// A VPC's namespace.
    pub(crate) fn namespace(&self, vpc: VpcId) -> String {
        format!("cumulet-{}-{vpc}", self.config.cloud)
    }

    /// What was removed is gone.
    fn gone(&self) {
        assert_eq!(self.inventory(), Inventory::default());
        assert_eq!(self.run("nft list ruleset"), "", "rules are left");
        let links = self.run("ip -o link");
        assert_eq!(links.lines().count(), 2, "{links}");
        let routes = self.run("ip route");
        assert_eq!(routes.lines().count(), 1, "{routes}");
        assert_eq!(std::fs::read_dir(&self.config.run_dir).unwrap().count(), 0);
    }
}

/// A VPC on several hosts, as the database has it.
pub(crate) struct Vpc<'f> {
    fabric: &'f Fabric,
    pub(crate) vni: u32,
    /// All of it.
    pub(crate) whole: VpcPolicy,
    /// Which host each interface is on.
    on: BTreeMap<NetworkInterfaceId, usize>,
}

impl Vpc<'_> {
    /// A new guest on a host, which every host is told of.
    pub(crate) fn guest(&mut self, host: usize, number: u8, groups: &[u64]) -> Guest {
        let guest = self.bare_guest(host, number, groups);
        guest.configure();
        guest.ip("link set eth0 mtu 1450");
        guest
    }

    /// The same without an address of its own yet.
    pub(crate) fn bare_guest(&mut self, host: usize, number: u8, groups: &[u64]) -> Guest {
        let id = NetworkInterfaceId::new(self.whole.vpc.number() + (u64::from(number) << 8));
        let interface = InterfacePolicy {
            id,
            subnet: self.whole.subnets[0].id,
            mac: Mac::of(id),
            private_ip: address(number),
            public_ip: None,
            hostname: format!("guest-{number}"),
            groups: groups.iter().map(|g| SecurityGroupId::new(*g)).collect(),
        };
        let (mac, at) = (interface.mac, &self.fabric.hosts[host]);
        self.whole.interfaces.push(interface);
        self.on.insert(id, host);
        self.whole.generation += 1;
        let name = format!("guest-{}-{}", at.config.cloud, id.short());
        let device = device_name(id);
        ip(&format!("netns add {name}"));
        at.ip(&format!(
            "link add {device} type veth peer name eth0 address {mac} netns {name}"
        ));
        ip(&format!("-n {name} link set lo up"));
        ip(&format!("-n {name} link set eth0 up"));
        let policy = self.policy(host);
        at.with(|network| async move { network.attach_interface(&policy, id).await.unwrap() });
        self.tell();
        Guest {
            path: Path::new("/run/netns").join(&name),
            name,
            ip: address(number),
            mac,
        }
    }

    /// What a host has to enforce.
    pub(crate) fn policy(&self, host: usize) -> VpcPolicy {
        let mut policy = self.whole.clone();
        for group in &mut policy.groups {
            let members = self
                .whole
                .interfaces
                .iter()
                .filter(|i| i.groups.contains(&group.id));
            group.members = members.map(|i| i.private_ip).collect();
        }
        let mut peers: BTreeMap<usize, Vec<Ipv4Addr>> = BTreeMap::new();
        for interface in self.whole.interfaces.iter().filter(|i| self.on[&i.id] != host) {
            peers
                .entry(self.on[&interface.id])
                .or_default()
                .push(interface.private_ip);
        }
        policy.interfaces.retain(|i| self.on[&i.id] == host);
        policy.tunnel = (!peers.is_empty()).then(|| TunnelPolicy {
            vni: self.vni,
            peers: peers
                .into_iter()
                .map(|(host, addresses)| TunnelPeer {
                    host: underlay(host),
                    addresses,
                })
                .collect(),
        });
        policy
    }

    /// Every host goes by what the VPC is now.
    pub(crate) fn tell(&mut self) {
        self.whole.generation += 1;
        for host in &self.fabric.hosts {
            host.apply(self.policy(host.number));
        }
    }

    /// Takes an instance away.
    pub(crate) fn remove(&mut self, number: u8) {
        self.whole.interfaces.retain(|i| i.private_ip != address(number));
        self.tell();
    }

    pub(crate) fn end(mut self) {
        self.whole.interfaces.clear();
        self.tell();
    }
}
