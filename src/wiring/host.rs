//! The wiring of a host: real parts over libvirt, QEMU and the kernel's network, or simulated ones.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use cumulet_bus::Bus;
use cumulet_domain::{id::HostId, rng::SharedRng, time::Clock};
#[cfg(feature = "libvirt")]
use cumulet_hypervisor::libvirt::{Bounds, GuestUser, Guests, Libvirt, LibvirtConfig};
use cumulet_hypervisor::{CephClient, Hypervisor};
use cumulet_worker::{
    DiskFiles, Free, MAX_COPIES, Pool, ProcMetrics, Rbd, UnusedImages, Worker, WorkerConfig, WorkerDeps,
    disks::{FakeDisks, QemuDisks},
    image_cache::DirectoryImages,
    network::{Config as NetworkConfig, FakeHostNetwork, LinuxNetwork, Tunnel, tunnel_mtu},
    remote::Grants,
    snapshots::NoSnapshots,
};

use super::{
    ceph,
    fake::{self, GUESTS, Simulated},
    guests::{self, GuestUsers, MemoryLimit},
    metadata, storage,
};
use crate::{config::Config, state::StateDir};

/// What runs instances.
pub(crate) enum Driver {
    /// Real guests on this machine.
    Real {
        cloud: String,
        hypervisor: Arc<dyn Hypervisor>,
        wires: Wires,
        users: GuestUsers,
    },
    /// Hosts that only say that they run something.
    Fake { hosts: Vec<Simulated> },
}

/// What a host's network hangs on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wires {
    tunnel: Option<Tunnel>,
    mtu: u16,
}

/// What the workers share with the rest of the process.
pub(crate) struct HostParts<'a> {
    pub(crate) state: &'a StateDir,
    pub(crate) config: &'a Config,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Whether this process serves its guests' metadata itself.
    pub(crate) served: bool,
    /// Where console connections to its instances are taken.
    pub(crate) console: Option<String>,
}

impl Driver {
    /// Connects to the configured hypervisor. No hypervisor is an error, never a simulation.
    pub(crate) async fn start(state: &StateDir, config: &Config, cloud: &str) -> Result<Self> {
        let names = match config.driver.text() {
            "fake" => simulated_names(config)?,
            _ => Vec::new(),
        };
        let ceph = match (config.driver.text(), ceph::read(config)) {
            ("libvirt", told) => told?,
            _ => None,
        };
        let host = HostId(name(config)?);
        let client = ceph.map(|ceph| ceph::client(&ceph, state.path(), &host));
        Self::connect(config, cloud, state.path(), names, client.transpose()?).await
    }

    /// The same for a look at what is there, beside a cloud that may be running: simulated hosts are
    /// copied into `scratch` and looked at there.
    pub(crate) async fn observe(
        state: &StateDir,
        config: &Config,
        cloud: &str,
        scratch: &Path,
    ) -> Result<Self> {
        let names = match config.driver.text() {
            "fake" => copy_guests(state, scratch)?,
            _ => Vec::new(),
        };
        // No guest gets a disk by this.
        Self::connect(config, cloud, scratch, names, None).await
    }

    async fn connect(
        config: &Config,
        cloud: &str,
        folder: &Path,
        names: Vec<String>,
        ceph: Option<CephClient>,
    ) -> Result<Self> {
        match config.driver.text() {
            "libvirt" => {
                let users = guests::read(config, guests::on_kvm(config).await)?;
                if let Some(why) = &users.shared {
                    tracing::warn!(why, "all guests run as one user");
                }
                let hypervisor = libvirt(config, cloud, &users, ceph).await?;
                Ok(Driver::Real {
                    cloud: cloud.into(),
                    hypervisor,
                    wires: wires(config).await?,
                    users,
                })
            }
            "fake" => Ok(Driver::Fake {
                hosts: fake::hosts(folder, config, names)?,
            }),
            other => bail!("configuration: driver = {other:?}; expecting libvirt or fake"),
        }
    }

    /// `kvm`, `qemu` or `fake`.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Driver::Real { hypervisor, .. } => hypervisor.name(),
            Driver::Fake { .. } => "fake",
        }
    }

    /// A worker for each host.
    pub(crate) fn workers(self, parts: &HostParts<'_>) -> Result<Vec<Arc<Worker>>> {
        match self {
            Driver::Real {
                cloud,
                hypervisor,
                wires,
                users,
            } => {
                let config = WorkerConfig {
                    guest_group: users.group,
                    guest_uids: users.uids,
                    ..worker_config(parts, name(parts.config)?)?
                };
                Ok(vec![real(parts, &cloud, config, hypervisor, wires)?])
            }
            Driver::Fake { hosts } => {
                let workers = hosts.into_iter().map(|simulated| fake(parts, simulated));
                workers.collect()
            }
        }
    }
}

/// The names of the simulated hosts: this host's, and the same with numbers.
fn simulated_names(config: &Config) -> Result<Vec<String>> {
    let (count, name) = (config.fake.hosts.get()?, name(config)?);
    anyhow::ensure!(
        (1..=10_000).contains(&count),
        "configuration: fake.hosts is 1 to 10000"
    );
    let rest = (1..count).map(|i| format!("{name}-{i}"));
    Ok(std::iter::once(name.clone()).chain(rest).collect())
}

/// This host's name in the cloud.
pub(super) fn name(config: &Config) -> Result<String> {
    let name = config.host.text();
    if !name.is_empty() {
        return Ok(name.into());
    }
    let name = nix::unistd::gethostname().context("the machine's name")?;
    Ok(name.to_string_lossy().into_owned())
}

/// The tunnels to other hosts, and the largest packet that fits.
async fn wires(config: &Config) -> Result<Wires> {
    let mtu = config.network.mtu.get()?;
    let tunnel = match config.network.tunnel_address.given()? {
        None => None,
        Some(address) => Some(Tunnel {
            address,
            port: config.network.tunnel_port.get()?,
        }),
    };
    let mtu = match tunnel {
        // An address that is not this host's is found out now, not with the first packet.
        Some(tunnel) => {
            let fits = tunnel_mtu(tunnel.address).await;
            let fits = fits.context("configuration: network.tunnel_address")?;
            if mtu == 0 { fits } else { mtu }
        }
        None if mtu == 0 => 1500,
        None => mtu,
    };
    Ok(Wires { tunnel, mtu })
}

/// Connects to libvirt.
#[cfg(feature = "libvirt")]
async fn libvirt(
    config: &Config,
    cloud: &str,
    users: &GuestUsers,
    ceph: Option<CephClient>,
) -> Result<Arc<dyn Hypervisor>> {
    let uri = config.libvirt.uri.text().to_owned();
    let accel = config
        .libvirt
        .accel
        .text()
        .parse()
        .map_err(|e| anyhow::anyhow!("configuration: libvirt.accel: {e}"))?;
    let started = Libvirt::start(LibvirtConfig {
        uri: uri.clone(),
        cloud: cloud.into(),
        accel,
        guests: guests_of(config, users)?,
        ceph,
    })
    .await;
    let hint =
        || format!("libvirt at {uri} (is libvirtd running? `cumulet up --driver fake` only simulates)");
    Ok(started.with_context(hint)?)
}

/// As whom guests run, and what they may use.
#[cfg(feature = "libvirt")]
fn guests_of(config: &Config, users: &GuestUsers) -> Result<Guests> {
    let memory = match guests::memory_limit(config)? {
        MemoryLimit::Always => true,
        MemoryLimit::Never => false,
        MemoryLimit::Auto => {
            let why = guests::unbounded_memory();
            if let Some(why) = why {
                tracing::warn!(why, "the memory of guests' processes is not bounded");
            }
            why.is_none()
        }
    };
    Ok(Guests {
        usual: users.usual.map(|(uid, gid)| GuestUser { uid, gid }),
        group: users.group,
        may_be_root: config.libvirt.guests_as_root.get()?,
        bounds: Bounds {
            memory,
            disk_bytes: config.libvirt.disk_mib.get()?.saturating_mul(1 << 20),
            disk_operations: config.libvirt.disk_operations.get()?,
        },
    })
}

#[cfg(not(feature = "libvirt"))]
async fn libvirt(_: &Config, _: &str, _: &GuestUsers, _: Option<CephClient>) -> Result<Arc<dyn Hypervisor>> {
    bail!("this binary was built without libvirt; only --driver fake works")
}

/// The files of simulated hosts, where there are any; the hosts' names.
fn copy_guests(state: &StateDir, scratch: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    let Ok(hosts) = std::fs::read_dir(state.path().join("hosts")) else {
        return Ok(names);
    };
    for host in hosts {
        let host = host?;
        let (from, to) = (
            host.path().join(GUESTS),
            scratch.join("hosts").join(host.file_name()),
        );
        if from.exists() {
            std::fs::create_dir_all(&to)?;
            std::fs::copy(&from, to.join(GUESTS)).with_context(|| from.display().to_string())?;
            names.push(host.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(names)
}

fn worker_config(parts: &HostParts<'_>, name: String) -> Result<WorkerConfig> {
    let zone = parts.config.availability_zone.text();
    let mut config = WorkerConfig::new(HostId(name), parts.state.path(), zone);
    config.stop_grace = Duration::from_secs(parts.config.libvirt.stop_grace.get()?);
    config.reboot_grace = config.stop_grace;
    config.copies = copies(parts.config)?;
    config.slow_call = Duration::from_secs(parts.config.hypervisor.slow_call.get()?);
    config.console_address.clone_from(&parts.console);
    config.unused_images = UnusedImages {
        keep: Duration::from_secs(3600).saturating_mul(parts.config.images.unused_hours.get()?),
        bytes: parts.config.images.unused_gib.get()?.saturating_mul(1 << 30),
    };
    Ok(config)
}

/// How many disks this host copies at a time.
fn copies(config: &Config) -> Result<usize> {
    let copies = config.storage.copies.get()?;
    anyhow::ensure!(
        (1..=MAX_COPIES).contains(&copies),
        "configuration: storage.copies is 1 to {MAX_COPIES}"
    );
    Ok(copies)
}

fn real(
    parts: &HostParts<'_>,
    cloud: &str,
    config: WorkerConfig,
    hypervisor: Arc<dyn Hypervisor>,
    wires: Wires,
) -> Result<Arc<Worker>> {
    let mut network = NetworkConfig::new(cloud, parts.state.make_run()?.join("network"));
    network.uplink_egress = parts.config.network.egress.get()?;
    network.dhcp_uid = parts.config.network.dhcp_uid.get()?;
    network.guest_mbit = parts.config.network.guest_mbit.get()?;
    network.guest_connections = match parts.config.network.guest_connections.text() {
        "auto" => quarter_of_connections(),
        _ => parts.config.network.guest_connections.get()?,
    };
    (network.tunnel, network.mtu) = (wires.tunnel, wires.mtu);
    let ceph = ceph::read(parts.config)?;
    let pool = ceph
        .clone()
        .map(|ceph| Pool::new(Rbd::new(ceph), parts.state.path(), &config.host));
    let rng = SharedRng::system();
    let stores = storage::of_host(parts.config, parts.state, &rng)?;
    let deps = WorkerDeps {
        bus: parts.bus.clone(),
        clock: parts.clock.clone(),
        hypervisor,
        files: Arc::new(DiskFiles),
        tasks: Arc::new(Free),
        network: Arc::new(LinuxNetwork::new(network).context("the host's network")?),
        disks: Arc::new(QemuDisks::new(PathBuf::from("qemu-img")).with_pool(pool.transpose()?)),
        images: stores.images,
        snapshots: stores.snapshots,
        grants: stores.grants,
        rng,
        metadata: metadata::sink(parts)?,
        metrics: Arc::new(ProcMetrics::default()),
    };
    let config = WorkerConfig { ceph, ..config };
    Ok(Worker::new(config, deps)?)
}

/// A quarter of the connections that the kernel keeps track of in each VPC's namespace.
fn quarter_of_connections() -> u32 {
    // Without the module there is no such file yet; this is a quarter of its default with little memory.
    const FEW: u32 = 16_384;
    let text = std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_max");
    let most = text.ok().and_then(|text| text.trim().parse::<u32>().ok());
    most.map_or(FEW, |most| (most / 4).max(1024))
}

fn fake(parts: &HostParts<'_>, simulated: Simulated) -> Result<Arc<Worker>> {
    let pool = parts.config.ceph.pool.text();
    // As long as the process is there.
    let pool: Option<&'static str> = (!pool.is_empty()).then(|| &*pool.to_owned().leak());
    let deps = WorkerDeps {
        bus: parts.bus.clone(),
        clock: parts.clock.clone(),
        hypervisor: simulated.hypervisor,
        files: Arc::new(DiskFiles),
        tasks: Arc::new(Free),
        network: Arc::new(FakeHostNetwork::new()),
        disks: Arc::new(FakeDisks {
            pool,
            ..FakeDisks::default()
        }),
        images: Arc::new(DirectoryImages::new(parts.state.images())),
        snapshots: Arc::new(NoSnapshots),
        grants: Grants::unneeded(),
        rng: SharedRng::system(),
        metadata: Arc::new(metadata::Unserved),
        metrics: Arc::new(simulated.metrics),
    };
    Ok(Worker::new(worker_config(parts, simulated.name)?, deps)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_copies_as_many_disks_at_a_time_as_it_is_told() {
        let of = |text: &str| copies(&Config::of(&[("storage.copies", text)]));
        let default = WorkerConfig::new(HostId("host".into()), "/", "zone").copies;
        assert_eq!(copies(&Config::of(&[])).unwrap(), default);
        for (text, copies) in [("1", 1), ("4", 4)] {
            assert_eq!(of(text).unwrap(), copies);
        }
        for text in ["0", "5", "-1", "many", ""] {
            let told = of(text).unwrap_err().to_string();
            assert!(told.contains("storage.copies"), "{told}");
        }
    }
}
