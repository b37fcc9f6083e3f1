//! The host network of one compute host: a namespace for each VPC with instances here, routed taps,
//! security groups, DHCP, public addresses, and the metadata listener.
//!
//! [`HostNetwork`] is what the rest of the worker sees; [`LinuxNetwork`] is the real one and
//! [`FakeHostNetwork`] keeps everything in memory. What a host enforces for a VPC is one
//! [`VpcPolicy`], applied as a whole: there is no call that changes a single rule.
//!
//! The order for a launch: [`HostNetwork::prepare_interface`], create the guest paused,
//! [`HostNetwork::attach_interface`], [`HostNetwork::listener`] if the namespace is a new one, resume.
//! What takes longest of that is the VPC's namespace, which [`HostNetwork::apply`] makes, too, at any
//! time before: what is in force already is not done again.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{Ipv4Addr, TcpListener},
};

use async_trait::async_trait;
use cumulet_domain::{
    id::{NetworkInterfaceId, VpcId},
    network::VpcPolicy,
};

mod check;
mod command;
mod config;
mod dhcp;
mod doorway;
mod fake;
mod firewall;
mod guard;
mod host;
mod links;
mod linux;
mod names;
mod netns;
#[cfg(test)]
mod testing;
mod tunnel;

pub use config::{Config, DHCP_UID, Tunnel};
pub use fake::FakeHostNetwork;
pub use linux::{LinuxNetwork, tunnel_mtu};
pub use names::device_name;

/// Why the host network is not as asked.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// A program ended with a failure; its words.
    #[error("{program} failed: {detail}")]
    Command {
        /// Which program.
        program: String,
        /// What it wrote to its standard error, shortened.
        detail: String,
    },
    /// A program or a namespace's thread did not end in time.
    #[error("{0} did not end in time")]
    Deadline(String),
    /// The system refused something.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// The system's answer.
        source: io::Error,
    },
    /// The policy or the configuration contradicts itself: nothing has been changed.
    #[error("invalid: {0}")]
    Policy(String),
    /// The enforced policy (perhaps a newer one than the one given) does not have the interface.
    #[error("{interface} is not in generation {generation} of the policy of {vpc}")]
    NotInPolicy {
        /// Which interface.
        interface: NetworkInterfaceId,
        /// Of which VPC.
        vpc: VpcId,
        /// The generation enforced.
        generation: u64,
    },
    /// There is no tap to attach: it was not prepared, or the guest that held it is gone.
    #[error("{0} has no tap on this host")]
    NoDevice(NetworkInterfaceId),
    /// The VPC has no namespace on this host.
    #[error("{0} has no namespace on this host")]
    NoNamespace(VpcId),
}

impl NetworkError {
    pub(crate) fn io(what: impl Into<String>, source: io::Error) -> Self {
        NetworkError::Io {
            what: what.into(),
            source,
        }
    }
}

/// What the host network answers.
pub type Result<T, E = NetworkError> = std::result::Result<T, E>;

/// Which incarnation of a VPC's namespace: a namespace made anew has another one, and a listener
/// opened in the old one hears nobody any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NamespaceId(pub u64);

/// What is enforced after a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The generation of the policy enforced now: at least the one that was given.
    pub generation: u64,
    /// The VPC's namespace; `None` when it went with its last interface.
    pub namespace: Option<NamespaceId>,
}

/// What of this cloud is on the host, for the audit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Taps that are not in a VPC's namespace yet.
    pub prepared: BTreeSet<NetworkInterfaceId>,
    /// VPCs for which packets of other hosts are let in.
    pub guarded: BTreeSet<VpcId>,
    /// The namespaces.
    pub vpcs: BTreeMap<VpcId, VpcInventory>,
}

/// What one VPC has on the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VpcInventory {
    /// The taps in its namespace.
    pub interfaces: BTreeSet<NetworkInterfaceId>,
    /// Whether its DHCP server runs.
    pub dhcp: bool,
    /// Whether it has a rule set.
    pub firewall: bool,
    /// Whether it has a way to the public side.
    pub uplink: bool,
    /// Whether it has a way to its instances on other hosts.
    pub tunnel: bool,
}

/// The network of one compute host. Every method may be repeated; calls for one VPC follow each other,
/// calls for different VPCs don't wait for each other.
#[async_trait]
pub trait HostNetwork: Send + Sync + 'static {
    /// Makes the interface's tap, down, in the namespace of the caller, where the hypervisor finds it,
    /// and returns its name ([`device_name`]). A tap that is left from a former run is deleted
    /// wherever it is, so call this only before a start of the guest.
    async fn prepare_interface(&self, vpc: VpcId, interface: NetworkInterfaceId) -> Result<String>;

    /// After the hypervisor opened the tap and before the guest runs: moves the tap into the VPC's
    /// namespace and enforces the policy, which has the interface.
    async fn attach_interface(&self, policy: &VpcPolicy, interface: NetworkInterfaceId) -> Result<Applied>;

    /// Deletes the tap wherever it is and leaves the interface out of the policy enforced. The
    /// namespace goes with its last interface.
    async fn detach_interface(&self, vpc: VpcId, interface: NetworkInterfaceId) -> Result<Applied>;

    /// Enforces a policy: what it lets pass passes, and nothing else does, established or not, once
    /// this returns. A policy older than the enforced one changes nothing. Interfaces that it does not
    /// have are deleted from the namespace; without any the namespace goes.
    async fn apply(&self, policy: &VpcPolicy) -> Result<Applied>;

    /// A listening socket at 169.254.169.254:80 in the VPC's namespace. The peer's address of a
    /// connection is the private address of the interface that it came from: nothing else gets there.
    /// `None`: this kind of network has none. A socket keeps the namespace it was opened in alive:
    /// drop it when [`Applied::namespace`] is another one.
    async fn listener(&self, vpc: VpcId) -> Result<Option<TcpListener>>;

    /// Where this host's tunnels to other hosts end; `None` when it has none.
    fn tunnel_address(&self) -> Option<Ipv4Addr> {
        None
    }

    /// What is not as it was asked for and is no error of a call: other hosts that a policy has and that can't be
    /// reached as it says. A sentence each.
    fn problems(&self) -> Vec<String> {
        Vec::new()
    }

    /// What of this cloud is on the host.
    async fn inventory(&self) -> Result<Inventory>;

    /// Supervision, every few seconds: starts DHCP servers that died and repairs namespaces that
    /// differ from the policies applied since the start. Returns what was repaired.
    async fn ensure(&self) -> Result<Vec<String>>;
}
