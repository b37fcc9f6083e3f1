//! The network namespace of one VPC: made, compared with the policy, corrected, removed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    net::Ipv4Addr,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use cumulet_domain::{
    id::{NetworkInterfaceId, VpcId},
    network::{InterfacePolicy, SubnetPolicy, VpcPolicy},
};
use nix::{errno::Errno, net::if_::if_nametoindex};

use super::{
    NamespaceId, NetworkError, Result,
    check::{gateway, subnet_of},
    command::Commands,
    config::Config,
    links,
    names::{
        GATEWAY_MAC, NAMESPACES, TUNNEL, UPLINK, device_name, interface_of, namespace_name, uplink_name,
    },
    netns::{self, Device},
    tunnel,
};

/// What [`VpcNamespace::correct`] found.
pub(super) struct Corrected {
    /// Whether something was not as it should be.
    pub(super) changed: bool,
    /// The interfaces whose devices are in the namespace.
    pub(super) present: BTreeSet<NetworkInterfaceId>,
}

/// What was done about the uplink.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Uplink {
    Kept,
    Routed,
    Made,
}

/// A VPC's network namespace on the host.
#[derive(Clone, Debug)]
pub(super) struct VpcNamespace<'a> {
    pub(super) commands: &'a Commands,
    pub(super) config: &'a Config,
    pub(super) vpc: VpcId,
    pub(super) name: String,
    pub(super) path: PathBuf,
}

impl<'a> VpcNamespace<'a> {
    pub(super) fn of(commands: &'a Commands, config: &'a Config, vpc: VpcId) -> Self {
        let name = namespace_name(&config.cloud, vpc);
        let path = Path::new(NAMESPACES).join(&name);
        VpcNamespace {
            commands,
            config,
            vpc,
            name,
            path,
        }
    }

    /// Which incarnation there is.
    pub(super) fn id(&self) -> Option<NamespaceId> {
        fs::metadata(&self.path).ok().map(|m| NamespaceId(m.ino()))
    }

    /// Makes the namespace, unless it is there and complete, or `known` to be; whether it is a new one,
    /// which is complete after [`VpcNamespace::furnish`].
    pub(super) async fn ensure(&self, known: Option<NamespaceId>) -> Result<(NamespaceId, bool)> {
        if let Some(id) = self.id().filter(|id| known == Some(*id)) {
            return Ok((id, false));
        }
        if self.path.exists() && !self.complete().await? {
            self.delete().await?;
        }
        let new = !self.path.exists();
        if new {
            self.commands.ip_once(&["netns", "add", &self.name]).await?;
            netns::run(Some(&self.path), netns::set_sysctls).await?;
        }
        let id = self.id().ok_or(NetworkError::NoNamespace(self.vpc))?;
        Ok((id, new))
    }

    /// What a new namespace has before any interface.
    pub(super) async fn furnish(&self, policy: &VpcPolicy) -> Result<()> {
        self.commands
            .ip(Some(&self.path), &links::base(policy.cidr))
            .await
    }

    /// Whether an interface's device is in the namespace. One that is just being made or removed has none.
    pub(super) async fn holds(&self, interface: NetworkInterfaceId) -> Result<bool> {
        if !self.path.exists() {
            return Ok(false);
        }
        let device = device_name(interface);
        let look = move || Ok(on_host(&device));
        match netns::run(Some(&self.path), look).await {
            Err(NetworkError::Io { source, .. })
                if source.kind() == io::ErrorKind::NotFound || is_no_namespace(&source) =>
            {
                Ok(false)
            }
            result => result,
        }
    }

    /// Whether an earlier run got to the end of making the namespace.
    async fn complete(&self) -> Result<bool> {
        let look = || Ok(netns::sysctls_set()? && has_metadata(&netns::devices()?));
        match netns::run(Some(&self.path), look).await {
            // A file without a namespace is left when the making stopped in between.
            Err(NetworkError::Io { source, .. }) if is_no_namespace(&source) => Ok(false),
            result => result,
        }
    }

    async fn delete(&self) -> Result<()> {
        self.commands
            .ip_once(&["netns", "del", &self.name])
            .await
            .map(drop)
    }

    /// The devices in the namespace.
    pub(super) async fn devices(&self) -> Result<BTreeMap<String, Device>> {
        netns::run(Some(&self.path), netns::devices).await
    }

    /// Moves an interface's device from the host's namespace in here, if it is there.
    pub(super) async fn take(&self, interface: NetworkInterfaceId) -> Result<()> {
        let device = device_name(interface);
        if on_host(&device) {
            let line = format!("link set dev {device} netns {}\n", self.name);
            self.commands.ip(None, &line).await?;
        }
        Ok(())
    }

    /// Makes devices, addresses and routes as the policy wants them.
    pub(super) async fn correct(&self, policy: &VpcPolicy) -> Result<Corrected> {
        let devices = self.devices().await?;
        let tunnel = tunnel::correct(self, policy.tunnel.as_ref(), &devices).await?;
        let mut lines = stale(policy, &devices);
        lines.push_str(&tunnel.first);
        for interface in &policy.interfaces {
            let (Some(subnet), Some(device)) = (
                subnet_of(policy, interface),
                devices.get(&device_name(interface.id)),
            ) else {
                continue;
            };
            if !configured(subnet, interface, device) {
                lines.push_str(&links::tap(self.config, subnet, interface));
            }
        }
        // The host's end first: what is done in the namespace is then done at once.
        let uplink = self.correct_uplink(policy, &devices).await?;
        if uplink == Uplink::Made {
            lines.push_str(&links::uplink(self.config));
        }
        lines.push_str(&tunnel.then);
        self.commands.ip(Some(&self.path), &lines).await?;
        self.commands.bridge(&self.path, &tunnel.bridge).await?;
        Ok(Corrected {
            changed: uplink != Uplink::Kept || !lines.is_empty() || !tunnel.is_empty(),
            present: devices.keys().filter_map(|name| interface_of(name)).collect(),
        })
    }

    /// The host's end of the uplink and the routes to it. A new pair's inner end is down yet.
    async fn correct_uplink(&self, policy: &VpcPolicy, devices: &BTreeMap<String, Device>) -> Result<Uplink> {
        let wanted: BTreeSet<Ipv4Addr> = policy.interfaces.iter().filter_map(|i| i.public_ip).collect();
        let outer = uplink_name(self.vpc);
        let inner = devices.get(UPLINK);
        if wanted.is_empty() && inner.is_none() {
            return Ok(Uplink::Kept);
        }
        let on_host = netns::run(None, netns::devices).await?;
        let there = on_host.get(&outer).is_some_and(|d| d.up) && inner.is_some_and(|d| d.up);
        let mut lines = String::new();
        if !there {
            // Half a pair cannot be; a pair that is not up was left by a run that ended in between.
            if on_host.contains_key(&outer) {
                lines = format!("link del dev {outer}\n");
            } else if inner.is_some() {
                self.commands
                    .ip(Some(&self.path), &format!("link del dev {UPLINK}\n"))
                    .await?;
            }
            lines.push_str(&links::make_uplink(self.config, self.vpc, &self.name));
        }
        let present = on_host
            .get(&outer)
            .filter(|_| there)
            .map(|d| d.routes.clone())
            .unwrap_or_default();
        lines.push_str(&links::public_routes(self.vpc, &wanted, &present));
        self.commands.ip(None, &lines).await?;
        Ok(match (there, lines.is_empty()) {
            (false, _) => Uplink::Made,
            (true, false) => Uplink::Routed,
            (true, true) => Uplink::Kept,
        })
    }

    /// Deletes an interface's device, wherever it is.
    pub(super) async fn drop_interface(&self, interface: NetworkInterfaceId) -> Result<()> {
        self.drop_outside(interface).await?;
        if self.holds(interface).await? {
            let line = format!("link del dev {}\n", device_name(interface));
            gone_is_fine(self.commands.ip(Some(&self.path), &line).await)?;
        }
        Ok(())
    }

    /// Deletes an interface's device in the host's namespace.
    pub(super) async fn drop_outside(&self, interface: NetworkInterfaceId) -> Result<()> {
        let device = device_name(interface);
        if on_host(&device) {
            gone_is_fine(self.commands.ip(None, &format!("link del dev {device}\n")).await)?;
        }
        Ok(())
    }

    /// Removes the namespace and all that is in it. A listener may keep it alive without a name, so its
    /// devices are deleted one by one.
    pub(super) async fn remove(&self) -> Result<()> {
        if !self.path.exists() {
            return Ok(());
        }
        if self.complete().await? {
            let lines: String = self
                .devices()
                .await?
                .keys()
                .filter(|name| [UPLINK, TUNNEL].contains(&name.as_str()) || interface_of(name).is_some())
                .map(|name| format!("link del dev {name}\n"))
                .collect();
            gone_is_fine(self.commands.ip(Some(&self.path), &lines).await)?;
        }
        self.delete().await
    }
}

/// Lines that delete the interfaces which the policy does not have.
fn stale(policy: &VpcPolicy, devices: &BTreeMap<String, Device>) -> String {
    let wanted: BTreeSet<_> = policy.interfaces.iter().map(|i| i.id).collect();
    devices
        .keys()
        .filter(|name| interface_of(name).is_some_and(|id| !wanted.contains(&id)))
        .map(|name| format!("link del dev {name}\n"))
        .collect()
}

/// Whether a device is as `links::tap` makes it.
fn configured(subnet: &SubnetPolicy, interface: &InterfacePolicy, device: &Device) -> bool {
    device.up
        && device.mac == Some(GATEWAY_MAC.0)
        && device.addresses.contains(&gateway(subnet))
        && device.routes.contains(&interface.private_ip)
        && device.neighbours.get(&interface.private_ip) == Some(&interface.mac.to_string())
}

fn has_metadata(devices: &BTreeMap<String, Device>) -> bool {
    devices
        .get("lo")
        .is_some_and(|lo| lo.up && lo.addresses.contains(&links::METADATA))
}

/// Whether entering failed because the file is not (or not yet, or no more) a namespace.
fn is_no_namespace(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::EINVAL as i32)
}

/// Whether the calling thread's namespace has the device.
pub(super) fn on_host(device: &str) -> bool {
    if_nametoindex(device).is_ok()
}

fn gone_is_fine(result: Result<()>) -> Result<()> {
    match result {
        Err(NetworkError::Command { detail, .. }) if detail.contains("Cannot find device") => Ok(()),
        result => result,
    }
}

/// The namespaces that `ip netns` knows; none when it was never used.
pub(super) fn namespaces() -> Result<Vec<String>> {
    let entries = match fs::read_dir(NAMESPACES) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|e| NetworkError::io(NAMESPACES, e))?,
    };
    Ok(entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect())
}
