//! The host network of tests and of hosts without real guests: the same contract, in memory.

use std::{
    collections::{BTreeMap, BTreeSet},
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

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn enforce(&mut self, policy: &VpcPolicy, attaching: Option<NetworkInterfaceId>) -> Result<Applied> {
        check::check(policy)?;
        let State {
            prepared,
            vpcs,
            namespaces,
        } = self;
        let known = vpcs.get(&policy.vpc).map(|v| &v.policy);
        let newest = known
            .filter(|k| k.generation > policy.generation)
            .unwrap_or(policy)
            .clone();
        let has = |id: &NetworkInterfaceId| newest.interfaces.iter().any(|i| i.id == *id);
        if let Some(interface) = attaching.filter(|id| !has(id)) {
            return Err(NetworkError::NotInPolicy {
                interface,
                vpc: policy.vpc,
                generation: newest.generation,
            });
        }
        let vpc = vpcs.entry(policy.vpc).or_insert_with(|| Vpc {
            policy: newest.clone(),
            attached: BTreeSet::new(),
            namespace: None,
        });
        vpc.attached.retain(has);
        if let Some(interface) = attaching
            && prepared.remove(&interface)
        {
            vpc.attached.insert(interface);
        }
        if newest.interfaces.is_empty() {
            vpc.namespace = None;
        } else if vpc.namespace.is_none() {
            *namespaces += 1;
            vpc.namespace = Some(NamespaceId(*namespaces));
        }
        vpc.policy = newest;
        Ok(Applied {
            generation: vpc.policy.generation,
            namespace: vpc.namespace,
        })
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
        let Some(known) = state.vpcs.get(&vpc) else {
            return Ok(Applied {
                generation: 0,
                namespace: None,
            });
        };
        let mut policy = known.policy.clone();
        policy.interfaces.retain(|i| i.id != interface);
        state.enforce(&policy, None)
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
                };
                (*id, inventory)
            });
        Ok(Inventory {
            prepared: state.prepared.clone(),
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
        policy.generation = 0;
        policy.interfaces.clear();
        let older = network.apply(&policy).await.unwrap();
        assert_eq!(older, applied, "an older policy changes nothing");
        let end = network.detach_interface(vpc, id).await.unwrap();
        assert_eq!(end.namespace, None);
        assert_eq!(network.inventory().await.unwrap(), Inventory::default());
    }

    #[tokio::test]
    async fn interfaces_must_be_in_the_policy() {
        let network = FakeHostNetwork::new();
        let stranger = NetworkInterfaceId::new(9);
        let result = network.attach_interface(&policy(1), stranger).await;
        assert!(matches!(result, Err(NetworkError::NotInPolicy { .. })));
    }
}
