//! The kernel's host network: `ip`, `nft` and dnsmasq, one VPC's calls after another.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs, io,
    net::{Ipv4Addr, SocketAddrV4, TcpListener},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::{Arc, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use cumulet_domain::{
    id::{NetworkInterfaceId, VpcId},
    network::{TunnelPolicy, VpcPolicy},
};
use tokio::sync::Mutex;

use super::{
    Applied, HostNetwork, Inventory, NamespaceId, NetworkError, Result, VpcInventory, check,
    command::Commands,
    config::Config,
    dhcp,
    doorway::Doorway,
    firewall::{self, Objects},
    guard::Guard,
    host::{self, VpcNamespace},
    links, names, netns, tunnel,
};

use crate::boxed;

/// The largest packet of a guest on a host whose tunnels end at this address, one of the calling process's
/// network namespace.
#[boxed]
pub async fn tunnel_mtu(address: Ipv4Addr) -> Result<u16> {
    let deadline = Duration::from_secs(5);
    tunnel::mtu(&Commands { deadline }, address).await
}

/// The directory of the DHCP servers' own: whoever runs one passes through, and reads nothing.
fn make_passage(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o711))
}

/// What is known of a VPC since the worker started.
#[derive(Default)]
struct State {
    policy: Option<Arc<VpcPolicy>>,
    rules: Option<Rules>,
}

/// The rules in force.
struct Rules {
    /// In which namespace, which is complete.
    namespace: NamespaceId,
    /// What they were made from.
    policy: Arc<VpcPolicy>,
    options: firewall::Options,
    objects: Objects,
}

/// The host network of the machine, or of the namespace, that the process runs in.
pub struct LinuxNetwork {
    config: Config,
    commands: Commands,
    guard: Guard,
    doorway: Doorway,
    vpcs: Mutex<HashMap<VpcId, Arc<Mutex<State>>>>,
    /// What of VPCs' other hosts was left out.
    left_out: std::sync::Mutex<BTreeMap<VpcId, Vec<String>>>,
}

impl LinuxNetwork {
    /// Checks the configuration and makes the run directory. Nothing else is touched.
    pub fn new(config: Config) -> Result<LinuxNetwork> {
        make_passage(&config.run_dir).map_err(|e| NetworkError::io("the run directory", e))?;
        Self::observer(config)
    }

    /// The same for a look at what is there: nothing is made.
    ///
    /// # Errors
    /// When the configuration can't be.
    pub fn observer(config: Config) -> Result<LinuxNetwork> {
        config.check()?;
        let commands = Commands {
            deadline: config.deadline,
        };
        Ok(LinuxNetwork {
            guard: Guard::new(&config.cloud),
            doorway: Doorway::new(&config.cloud),
            config,
            commands,
            vpcs: Mutex::default(),
            left_out: std::sync::Mutex::default(),
        })
    }

    fn netns(&self, vpc: VpcId) -> VpcNamespace<'_> {
        VpcNamespace::of(&self.commands, &self.config, vpc)
    }

    async fn state(&self, vpc: VpcId) -> Arc<Mutex<State>> {
        Arc::clone(self.vpcs.lock().await.entry(vpc).or_default())
    }

    /// Remembers what of a VPC's other hosts is left out; told once.
    fn leave_out(&self, vpc: VpcId, left_out: Vec<String>) {
        let mut all = self.left_out.lock().unwrap_or_else(PoisonError::into_inner);
        if left_out.is_empty() {
            all.remove(&vpc);
        } else if all.get(&vpc) != Some(&left_out) {
            tracing::error!(%vpc, ?left_out, "other hosts are left out of a policy; the rest is enforced");
            all.insert(vpc, left_out);
        }
    }

    /// The policy, unless a newer one is known; it has the interface that is to be attached.
    fn newest(
        &self,
        state: &State,
        policy: &VpcPolicy,
        attaching: Option<NetworkInterfaceId>,
    ) -> Result<Arc<VpcPolicy>> {
        let newest = match &state.policy {
            // The launches of one round bring the same one.
            Some(known) if **known == *policy => Arc::clone(known),
            known => {
                let own = self.config.tunnel.map(|tunnel| tunnel.address);
                let (sound, left_out) = check::sound(policy, own)?;
                let goes_on =
                    |known: &&Arc<VpcPolicy>| known.generation > policy.generation || ***known == *sound;
                match known.as_ref().filter(goes_on) {
                    Some(known) => Arc::clone(known),
                    None => {
                        self.leave_out(policy.vpc, left_out);
                        Arc::new(sound.into_owned())
                    }
                }
            }
        };
        match attaching {
            Some(interface) if !newest.interfaces.iter().any(|i| i.id == interface) => {
                Err(NetworkError::NotInPolicy {
                    interface,
                    vpc: policy.vpc,
                    generation: newest.generation,
                })
            }
            _ => Ok(newest),
        }
    }

    /// Takes over the policy unless a newer one is known, and enforces the newest.
    async fn enforce(
        &self,
        state: &mut State,
        policy: &VpcPolicy,
        attaching: Option<NetworkInterfaceId>,
    ) -> Result<Applied> {
        let newest = self.newest(state, policy, attaching)?;
        // Known from here on: supervision ends what a failure below leaves undone.
        state.policy = Some(Arc::clone(&newest));
        let generation = newest.generation;
        let netns = self.netns(policy.vpc);
        if newest.interfaces.is_empty() {
            state.rules = None;
            self.leave_out(policy.vpc, Vec::new());
            self.remove(&netns).await?;
            return Ok(Applied {
                generation,
                namespace: None,
            });
        }
        let known = state.rules.as_ref().map(|rules| rules.namespace);
        let (namespace, is_new) = netns.ensure(known).await?;
        let furnished = async {
            match is_new {
                true => netns.furnish(&newest).await,
                false => Ok(()),
            }
        };
        // The host's own door first: what comes from an uplink meets it from its first packet on.
        let _door = self.door(&newest).await?;
        // Rules before devices: a device is up only when its rules are in force.
        let moved = async {
            match attaching {
                Some(interface) => netns.take(interface).await,
                None => Ok(()),
            }
        };
        let done = tokio::try_join!(
            self.firewall(&mut state.rules, &newest, namespace),
            self.guard(policy.vpc, newest.tunnel.as_ref()),
            furnished,
            moved,
            dhcp::ensure(&self.commands, &self.config, &newest, &netns.path)
        );
        if let Err(error) = done {
            // The next time looks at everything.
            state.rules = None;
            return Err(error);
        }
        let present = netns.correct(&newest).await?.present;
        if let Some(interface) = attaching.filter(|id| !present.contains(id)) {
            return Err(NetworkError::NoDevice(interface));
        }
        Ok(Applied {
            generation,
            namespace: Some(namespace),
        })
    }

    /// The host's door stands while uplinks are made, where the policy has any.
    async fn door(&self, policy: &VpcPolicy) -> Result<Option<tokio::sync::RwLockReadGuard<'_, bool>>> {
        if policy.interfaces.iter().all(|i| i.public_ip.is_none()) {
            return Ok(None);
        }
        self.doorway.stand(&self.commands).await.map(Some)
    }

    /// Lets in what the policy says may come out of the VPC's tunnel, and nothing else.
    async fn guard(&self, vpc: VpcId, policy: Option<&TunnelPolicy>) -> Result<()> {
        match self.config.tunnel {
            Some(tunnel) => self.guard.set(&self.commands, tunnel, vpc, policy).await,
            None => Ok(()),
        }
    }

    /// Removes all that a VPC has here.
    async fn remove(&self, netns: &VpcNamespace<'_>) -> Result<()> {
        dhcp::remove(&self.commands, &self.config, netns.vpc).await?;
        netns.remove().await?;
        self.doorway.leave(&self.commands).await?;
        self.guard(netns.vpc, None).await
    }

    /// Puts the policy's rules in force, unless they are.
    async fn firewall(
        &self,
        rules: &mut Option<Rules>,
        policy: &Arc<VpcPolicy>,
        namespace: NamespaceId,
    ) -> Result<()> {
        let options = self.options();
        let path = self.netns(policy.vpc).path;
        // From here on it is not known what is in force, until it is.
        let old = rules.take().filter(|old| old.namespace == namespace);
        let mut objects = None;
        if let Some(old) = old {
            if Arc::ptr_eq(&old.policy, policy) && old.options == options {
                *rules = Some(old);
                return Ok(());
            }
            let (text, new) = firewall::render(policy, &options, Some(&old.objects));
            match self.commands.nft(Some(&path), &text).await {
                Ok(()) => objects = Some(new),
                // Another program touched the tables, or it is not known what came of it: from nothing.
                Err(e) => tracing::warn!(vpc = %policy.vpc, error = %e, "replacing the rules by new tables"),
            }
        }
        let objects = match objects {
            Some(objects) => objects,
            None => {
                let (text, objects) = firewall::render(policy, &options, None);
                self.commands.nft(Some(&path), &text).await?;
                objects
            }
        };
        *rules = Some(Rules {
            namespace,
            policy: Arc::clone(policy),
            options,
            objects,
        });
        Ok(())
    }

    fn options(&self) -> firewall::Options {
        firewall::Options {
            egress: self.config.uplink_egress,
            connections: self.config.guest_connections,
            rate: u64::from(self.config.guest_mbit) * 125_000,
        }
    }

    async fn look(&self, vpc: VpcId) -> Result<VpcInventory> {
        let netns = self.netns(vpc);
        let devices = netns.devices().await?;
        let tables = self
            .commands
            .run(Some(&netns.path), "nft", &["list", "tables"], "")
            .await?;
        Ok(VpcInventory {
            interfaces: devices.keys().filter_map(|n| names::interface_of(n)).collect(),
            dhcp: dhcp::alive(&self.config, vpc),
            firewall: tables
                .lines()
                .any(|line| line.trim() == format!("table inet {}", names::TABLE)),
            uplink: devices.contains_key(names::UPLINK),
            tunnel: devices.contains_key(names::TUNNEL),
        })
    }

    /// Taps in the host's namespace that have the cloud's mark.
    async fn prepared(&self) -> Result<BTreeSet<NetworkInterfaceId>> {
        #[derive(serde::Deserialize)]
        struct Link {
            ifname: String,
            ifalias: Option<String>,
        }
        let alias = names::alias(&self.config.cloud);
        let text = self.commands.ip_once(&["-json", "link", "show"]).await?;
        let links: Vec<Link> =
            serde_json::from_str(&text).map_err(|e| NetworkError::io("the list of devices", e.into()))?;
        Ok(links
            .iter()
            .filter(|link| link.ifalias.as_ref() == Some(&alias))
            .filter_map(|link| names::interface_of(&link.ifname))
            .collect())
    }

    /// Compares a VPC with its policy; what was wrong.
    async fn repair(&self, vpc: VpcId, state: &mut State) -> Result<Option<String>> {
        let Some(policy) = state.policy.clone() else {
            return Ok(None);
        };
        if policy.interfaces.is_empty() {
            if self.netns(vpc).id().is_none() {
                return Ok(None);
            }
            self.enforce(state, &policy, None).await?;
            return Ok(Some(format!("{vpc}: removed what was left")));
        }
        let netns = self.netns(vpc);
        let known = state.rules.as_ref().map(|rules| rules.namespace);
        let guarded = match (self.config.tunnel, &policy.tunnel) {
            (Some(_), Some(tunnel)) => self.guard.stands(vpc, tunnel).await,
            _ => true,
        };
        if known.is_none() || netns.id() != known || !guarded || !self.look(vpc).await?.firewall {
            state.rules = None;
            self.enforce(state, &policy, None).await?;
            return Ok(Some(format!("{vpc}: enforced the policy again")));
        }
        let dhcp = dhcp::ensure(&self.commands, &self.config, &policy, &netns.path).await?;
        let devices = netns.correct(&policy).await?.changed;
        Ok(match (dhcp, devices) {
            (dhcp::Done::Nothing, false) => None,
            (dhcp::Done::Nothing, true) => Some(format!("{vpc}: configured its devices again")),
            _ => Some(format!("{vpc}: started its DHCP server again")),
        })
    }
}

#[async_trait]
impl HostNetwork for LinuxNetwork {
    async fn prepare_interface(&self, vpc: VpcId, interface: NetworkInterfaceId) -> Result<String> {
        let (netns, state) = (self.netns(vpc), self.state(vpc).await);
        // A first tap does not wait for the namespace that may be in the making; one that is in there
        // is taken away when nobody works on it.
        if netns.holds(interface).await? {
            let _turn = state.lock().await;
            netns.drop_interface(interface).await?;
        } else {
            netns.drop_outside(interface).await?;
        }
        self.commands
            .ip(None, &links::make_tap(&self.config, interface))
            .await?;
        Ok(names::device_name(interface))
    }

    async fn attach_interface(&self, policy: &VpcPolicy, interface: NetworkInterfaceId) -> Result<Applied> {
        let state = self.state(policy.vpc).await;
        let mut state = state.lock().await;
        self.enforce(&mut state, policy, Some(interface)).await
    }

    async fn detach_interface(&self, vpc: VpcId, interface: NetworkInterfaceId) -> Result<Applied> {
        let state = self.state(vpc).await;
        let mut state = state.lock().await;
        let netns = self.netns(vpc);
        netns.drop_interface(interface).await?;
        if let Some(known) = state.policy.clone() {
            let mut policy = VpcPolicy::clone(&known);
            policy.interfaces.retain(|i| i.id != interface);
            return self.enforce(&mut state, &policy, None).await;
        }
        // After a restart, before any policy: only an empty namespace is surely nobody's.
        let namespace = netns.id();
        if namespace.is_some() {
            let empty = !netns
                .devices()
                .await?
                .keys()
                .any(|name| names::interface_of(name).is_some());
            if empty {
                self.remove(&netns).await?;
            }
        }
        Ok(Applied {
            generation: 0,
            namespace: netns.id(),
        })
    }

    async fn apply(&self, policy: &VpcPolicy) -> Result<Applied> {
        let state = self.state(policy.vpc).await;
        let mut state = state.lock().await;
        self.enforce(&mut state, policy, None).await
    }

    fn tunnel_address(&self) -> Option<Ipv4Addr> {
        self.config.tunnel.map(|tunnel| tunnel.address)
    }

    fn problems(&self) -> Vec<String> {
        let all = self.left_out.lock().unwrap_or_else(PoisonError::into_inner);
        all.values().flatten().cloned().collect()
    }

    async fn listener(&self, vpc: VpcId) -> Result<Option<TcpListener>> {
        let netns = self.netns(vpc);
        if netns.id().is_none() {
            return Err(NetworkError::NoNamespace(vpc));
        }
        let bind = || TcpListener::bind(SocketAddrV4::new(links::METADATA, 80));
        netns::run(Some(&netns.path), bind).await.map(Some)
    }

    async fn inventory(&self) -> Result<Inventory> {
        let mut inventory = Inventory {
            prepared: self.prepared().await?,
            guarded: self.guard.guarded(&self.commands).await?,
            ..Inventory::default()
        };
        let names = host::namespaces()?;
        for vpc in names
            .iter()
            .filter_map(|name| names::vpc_of(&self.config.cloud, name))
        {
            match self.look(vpc).await {
                Ok(found) => {
                    inventory.vpcs.insert(vpc, found);
                }
                // Removed while we looked.
                Err(_) if self.netns(vpc).id().is_none() => {}
                Err(e) => return Err(e),
            }
        }
        Ok(inventory)
    }

    async fn ensure(&self) -> Result<Vec<String>> {
        if self.config.tunnel.is_some() {
            self.guard.check(&self.commands).await?;
        }
        let mut repaired: Vec<String> = self.doorway.check(&self.commands).await?.into_iter().collect();
        let vpcs: Vec<_> = {
            let vpcs = self.vpcs.lock().await;
            vpcs.iter()
                .map(|(vpc, state)| (*vpc, Arc::clone(state)))
                .collect()
        };
        let mut failure = None;
        for (vpc, state) in vpcs {
            let mut state = state.lock().await;
            match self.repair(vpc, &mut state).await {
                Ok(done) => repaired.extend(done),
                // One VPC's trouble does not keep the others from being looked after.
                Err(e) => {
                    tracing::warn!(%vpc, error = %e, "repairing the network");
                    failure = Some(e);
                }
            }
        }
        failure.map_or(Ok(repaired), Err)
    }
}
