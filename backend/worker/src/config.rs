//! The worker's configuration and dependencies.

use std::{ops::RangeInclusive, path::PathBuf, sync::Arc, time::Duration};

use cumulet_bus::Bus;
use cumulet_domain::{
    id::{HostId, InstanceId, VpcId},
    metadata::InstanceMetadata,
    rng::SharedRng,
    time::Clock,
};
use cumulet_hypervisor::Hypervisor;

use crate::{
    blocking::COPYING_THREADS,
    ceph::Ceph,
    disks::Disks,
    files::HostFiles,
    image_cache::ImageSource,
    metrics::MetricsSource,
    network::HostNetwork,
    prune::UnusedImages,
    remote::Grants,
    snapshots::{AT_ONCE, SnapshotData},
    tasks::Tasks,
};

/// Copies of whole disks that may be made at once at the most: each has a thread, and so have the roots that are made to
/// lie over nothing meanwhile, and the snapshots that are taken.
pub const MAX_COPIES: usize = 4;

const _: () = assert!(MAX_COPIES + MAX_COPIES / 2 + AT_ONCE <= COPYING_THREADS);

/// What a worker is told.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// Its host.
    pub host: HostId,
    /// Its files are below `hosts/<host>/` of this.
    pub state_dir: PathBuf,
    /// The availability zone that it is in.
    pub availability_zone: String,
    /// How long a guest that is asked to go off has before it is cut.
    pub stop_grace: Duration,
    /// How long a guest that is asked to start over has before it is reset.
    pub reboot_grace: Duration,
    /// How long a guest that is asked to let go of a disk or an interface has before that has failed.
    pub unplug_grace: Duration,
    /// How often it says that it is there.
    pub heartbeat: Duration,
    /// A hypervisor that takes that long for a call is too slow to launch anything: the host is not ready. A healthy
    /// one takes a tenth of a second, one on a host that emulates and is fully loaded a few; a launch makes three
    /// such calls within the 40 s that libvirt's driver waits for a guest.
    pub slow_call: Duration,
    /// How often it reports all that it has.
    pub full_report: Duration,
    /// Launches that are worked on at once.
    pub concurrency: usize,
    /// Copies of whole disks that are made at once: images that are fetched, and volumes that are made of snapshots, which
    /// leave the last place of several to images; `MAX_COPIES` at the most. One account has half of these places at the
    /// most. Roots that are made to lie over nothing have half as many of their own.
    pub copies: usize,
    /// What is kept of images that no instance of the host uses.
    pub unused_images: UnusedImages,
    /// Where console connections to its instances are taken, as the console role finds it; `None`: nowhere.
    pub console_address: Option<String>,
    /// The group that all guests' processes are in, who pass through their directories; `None`: they run as the
    /// worker's own user, or are simulated.
    pub guest_group: Option<u32>,
    /// User numbers for guests, one for each instance; `None`: they run as the hypervisor's own user.
    pub guest_uids: Option<RangeInclusive<u32>>,
    /// The Ceph cluster that volumes may be in: what its clients on this host read is written when the worker is made.
    /// `None`: there is none.
    pub ceph: Option<Ceph>,
}

impl WorkerConfig {
    /// The defaults.
    pub fn new(host: HostId, state_dir: impl Into<PathBuf>, availability_zone: impl Into<String>) -> Self {
        WorkerConfig {
            host,
            state_dir: state_dir.into(),
            availability_zone: availability_zone.into(),
            stop_grace: Duration::from_secs(30),
            reboot_grace: Duration::from_secs(30),
            unplug_grace: Duration::from_secs(60),
            heartbeat: Duration::from_secs(5),
            slow_call: Duration::from_secs(15),
            full_report: Duration::from_secs(30),
            concurrency: 8,
            copies: 3,
            unused_images: UnusedImages::default(),
            console_address: None,
            guest_group: None,
            guest_uids: None,
            ceph: None,
        }
    }
}

/// What a worker is handed.
#[derive(Clone)]
#[allow(missing_docs)]
pub struct WorkerDeps {
    pub bus: Arc<dyn Bus>,
    pub clock: Arc<dyn Clock>,
    pub hypervisor: Arc<dyn Hypervisor>,
    pub files: Arc<dyn HostFiles>,
    pub tasks: Arc<dyn Tasks>,
    pub network: Arc<dyn HostNetwork>,
    pub disks: Arc<dyn Disks>,
    pub images: Arc<dyn ImageSource>,
    pub metadata: Arc<dyn MetadataSink>,
    pub metrics: Arc<dyn MetricsSource>,
    pub snapshots: Arc<dyn SnapshotData>,
    pub grants: Arc<Grants>,
    pub rng: SharedRng,
}

/// Where instances' metadata snapshots go to be served. Calls are short and don't block.
pub trait MetadataSink: Send + Sync + 'static {
    /// The instance reads this from now on, unless a newer revision is there.
    fn put(&self, snapshot: &InstanceMetadata);
    /// The instance reads nothing any more.
    fn remove(&self, instance: InstanceId);
    /// Answers on a socket inside the VPC; it replaces an earlier one.
    ///
    /// # Errors
    /// When the socket can't be served.
    fn serve(&self, vpc: VpcId, listener: std::net::TcpListener) -> Result<(), String>;
    /// Answers no more for the VPC: on return no socket of it is held.
    fn stop(&self, vpc: VpcId);
    /// Every instance that has a snapshot.
    fn registered(&self) -> Vec<InstanceId>;
}

/// Why a worker can't work at all.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// Its own files.
    #[error("{path}: {source}")]
    Files {
        /// Which one.
        path: PathBuf,
        /// What is wrong with it.
        source: std::io::Error,
    },
    /// The bus.
    #[error(transparent)]
    Bus(#[from] cumulet_bus::BusError),
    /// The hypervisor.
    #[error(transparent)]
    Hypervisor(#[from] cumulet_hypervisor::Error),
    /// The host's network.
    #[error(transparent)]
    Network(#[from] crate::network::NetworkError),
    /// The host's name is not one.
    #[error("{0:?} is not a host's name")]
    HostName(String),
}
