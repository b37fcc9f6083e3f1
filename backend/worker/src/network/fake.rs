//! The in-memory host network of tests and of hosts without real guests: the same contract.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    net::TcpListener,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use cumulet_domain::{
    id::{NetworkInterfaceId, VpcId},
    network::VpcPolicy,
};

use super::{
    Applied, HostNetwork, Inventory, NamespaceId, NetworkError, Result, VpcInventory, check,
    names::device_name,
};

#[derive(Default)]
struct State {
    prepared: BTreeSet<NetworkInterfaceId>,
    vpcs: BTreeMap<VpcId, Vpc>,
    namespaces: u64,
}

struct Vpc {
    policy: VpcPolicy,
    /// The interfaces of the policy.
    ids: HashSet<NetworkInterfaceId>,
    attached: BTreeSet<NetworkInterfaceId>,
    namespace: Option<NamespaceId>,
}

/// A host network that only remembers what it was asked for.
#[derive(Default)]
pub struct FakeHostNetwork {
    state: Mutex<State>,
}

impl FakeHostNetwork {
    /// A host without any network.
    pub fn new() -> Self {
        Self::default()
    }

    /// The policy enforced for a VPC.
    pub fn policy(&self, vpc: VpcId) -> Option<VpcPolicy> {
        self.lock().vpcs.get(&vpc).map(|v| v.policy.clone())
    }

    /// What is enforced, by VPC: the policy's generation, and the interfaces that are in it.
    pub fn enforced(&self) -> BTreeMap<VpcId, (u64, BTreeSet<NetworkInterfaceId>)> {
        let state = self.lock();
        let there = state.vpcs.iter().filter(|(_, vpc)| vpc.namespace.is_some());
        there
            .map(|(id, vpc)| (*id, (vpc.policy.generation, vpc.attached.clone())))
            .collect()
    }

    /// Whether an interface is in a VPC. One that was never made here, since a guest has it from before this network was,
    /// is attached as asked for and not there.
    pub fn is_attached(&self, vpc: VpcId, interface: NetworkInterfaceId) -> bool {
        let state = self.lock();
        let vpc = state.vpcs.get(&vpc);
        vpc.is_some_and(|vpc| vpc.attached.contains(&interface))
    }

    /// Interfaces that were made for guests and are in no VPC.
    pub fn prepared(&self) -> BTreeSet<NetworkInterfaceId> {
        self.lock().prepared.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Many launches bring the same policy of many interfaces: it is looked through once.
    fn enforce(&mut self, policy: &VpcPolicy, attaching: Option<NetworkInterfaceId>) -> Result<Applied> {
        let known = self.vpcs.get(&policy.vpc).map(|v| &v.policy);
        let is_known = known.is_some_and(|known| {
            known.generation > policy.generation
                || (known.generation == policy.generation
                    && known.interfaces.len() == policy.interfaces.len()
                    && attaching.is_some())
        });
        // What of other hosts can't be reached is left out, as everywhere.
        let sound = match is_known {
            true => None,
            false => Some(check::sound(policy, None)?.0),
        };
        let policy = sound.as_deref().unwrap_or(policy);
        let ids: HashSet<_>;
        let has = match self.vpcs.get(&policy.vpc).filter(|_| is_known) {
            Some(vpc) => &vpc.ids,
            None => {
                ids = policy.interfaces.iter().map(|i| i.id).collect();
                &ids
            }
        };
        if let Some(interface) = attaching.filter(|id| !has.contains(id)) {
            return Err(NetworkError::NotInPolicy {
                interface,
                vpc: policy.vpc,
                generation: known.filter(|_| is_known).unwrap_or(policy).generation,
            });
        }
        if !is_known {
            let (ids, policy) = (has.clone(), policy.clone());
            let vpc = self.vpcs.entry(policy.vpc).or_insert_with(|| Vpc {
                policy: policy.clone(),
                ids: HashSet::new(),
                attached: BTreeSet::new(),
                namespace: None,
            });
            vpc.attached.retain(|id| ids.contains(id));
            (vpc.ids, vpc.policy) = (ids, policy);
        }
        Ok(self.settle(policy.vpc, attaching))
    }

    /// The namespace is there as long as the policy has an interface.
    fn settle(&mut self, id: VpcId, attaching: Option<NetworkInterfaceId>) -> Applied {
        let Some(vpc) = self.vpcs.get_mut(&id) else {
            return Applied {
                generation: 0,
                namespace: None,
            };
        };
        if let Some(interface) = attaching
            && self.prepared.remove(&interface)
        {
            vpc.attached.insert(interface);
        }
        if vpc.policy.interfaces.is_empty() {
            vpc.namespace = None;
        } else if vpc.namespace.is_none() {
            self.namespaces += 1;
            vpc.namespace = Some(NamespaceId(self.namespaces));
        }
        Applied {
            generation: vpc.policy.generation,
            namespace: vpc.namespace,
        }
    }
}

#[async_trait]
impl HostNetwork for FakeHostNetwork {
    async fn prepare_interface(&self, vpc: VpcId, interface: NetworkInterfaceId) -> Result<String> {
        let mut state = self.lock();
        if let Some(vpc) = state.vpcs.get_mut(&vpc) {
            vpc.attached.remove(&interface);
        }
        state.prepared.insert(interface);
        Ok(device_name(interface))
    }

    async fn attach_interface(&self, policy: &VpcPolicy, interface: NetworkInterfaceId) -> Result<Applied> {
        self.lock().enforce(policy, Some(interface))
    }

    async fn detach_interface(&self, vpc: VpcId, interface: NetworkInterfaceId) -> Result<Applied> {
        let mut state = self.lock();
        state.prepared.remove(&interface);
        if let Some(known) = state.vpcs.get_mut(&vpc)
            && known.ids.remove(&interface)
        {
            known.policy.interfaces.retain(|i| i.id != interface);
            known.attached.remove(&interface);
        }
        Ok(state.settle(vpc, None))
    }

    async fn apply(&self, policy: &VpcPolicy) -> Result<Applied> {
        self.lock().enforce(policy, None)
    }

    async fn listener(&self, _vpc: VpcId) -> Result<Option<TcpListener>> {
        Ok(None)
    }

    async fn inventory(&self) -> Result<Inventory> {
        let state = self.lock();
        let vpcs = state
            .vpcs
            .iter()
            .filter(|(_, v)| v.namespace.is_some())
            .map(|(id, v)| {
                let inventory = VpcInventory {
                    interfaces: v.attached.clone(),
                    dhcp: true,
                    firewall: true,
                    uplink: v.policy.interfaces.iter().any(|i| i.public_ip.is_some()),
                    tunnel: v.policy.tunnel.is_some(),
                };
                (*id, inventory)
            });
        let tunnels = state.vpcs.iter().filter(|(_, v)| v.policy.tunnel.is_some());
        Ok(Inventory {
            prepared: state.prepared.clone(),
            guarded: tunnels
                .filter(|(_, v)| v.namespace.is_some())
                .map(|(id, _)| *id)
                .collect(),
            vpcs: vpcs.collect(),
        })
    }

    async fn ensure(&self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::policy, *};

    #[tokio::test]
    async fn a_life_of_an_interface() {
        let network = FakeHostNetwork::new();
        let mut policy = policy(1);
        let (vpc, id) = (policy.vpc, policy.interfaces[0].id);
        network.prepare_interface(vpc, id).await.unwrap();
        assert!(network.inventory().await.unwrap().prepared.contains(&id));
        let applied = network.attach_interface(&policy, id).await.unwrap();
        assert!(applied.namespace.is_some());
        let there = BTreeMap::from([(vpc, (policy.generation, BTreeSet::from([id])))]);
        assert_eq!((network.enforced(), network.prepared()), (there, BTreeSet::new()));
        assert!(network.is_attached(vpc, id));
        policy.generation = 0;
        policy.interfaces.clear();
        let older = network.apply(&policy).await.unwrap();
        assert_eq!(older, applied, "an older policy changes nothing");
        let end = network.detach_interface(vpc, id).await.unwrap();
        assert_eq!(end.namespace, None);
        assert_eq!(network.inventory().await.unwrap(), Inventory::default());
        assert_eq!(network.enforced(), BTreeMap::new());
    }

    #[tokio::test]
    async fn interfaces_must_be_in_the_policy() {
        let network = FakeHostNetwork::new();
        let stranger = NetworkInterfaceId::new(9);
        let result = network.attach_interface(&policy(1), stranger).await;
        assert!(matches!(result, Err(NetworkError::NotInPolicy { .. })));
    }
}
