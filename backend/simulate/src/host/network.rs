//! The network of a simulated host: the one in memory, whose changes take time and fail. It outlives workers, and nothing
//! of it a power cut.

use std::{
    net::TcpListener,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use cumulet_domain::{
    id::{NetworkInterfaceId, VpcId},
    network::VpcPolicy,
};
use cumulet_worker::network::{Applied, FakeHostNetwork, HostNetwork, Inventory, NetworkError, Result};

use crate::{outcome::Invariant, world::World};

/// How long a change takes, in milliseconds.
pub(super) const STEP: Range<u64> = 1..20;

pub(super) struct Network {
    world: Arc<World>,
    kernel: Mutex<Arc<FakeHostNetwork>>,
}

impl Network {
    pub(super) fn new(world: Arc<World>) -> Arc<Self> {
        Arc::new(Network {
            world,
            kernel: Mutex::default(),
        })
    }

    /// What there is now.
    pub(super) fn kernel(&self) -> Arc<FakeHostNetwork> {
        self.kernel.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn lose_power(&self) {
        *self.kernel.lock().unwrap_or_else(PoisonError::into_inner) = Arc::default();
    }

    /// A change; the dice say what comes of it.
    async fn step(&self) -> Result<Arc<FakeHostNetwork>> {
        self.world.pause(STEP).await;
        if self.world.dice.chance(self.world.faults().step_fails) {
            self.world.count(|counts| counts.step_failures += 1);
            return Err(NetworkError::Command {
                program: "nft".into(),
                detail: "the dice say so".into(),
            });
        }
        Ok(self.kernel())
    }
}

#[async_trait]
impl HostNetwork for Network {
    async fn prepare_interface(&self, vpc: VpcId, interface: NetworkInterfaceId) -> Result<String> {
        self.kernel().prepare_interface(vpc, interface).await
    }

    async fn attach_interface(&self, policy: &VpcPolicy, interface: NetworkInterfaceId) -> Result<Applied> {
        let kernel = self.step().await?;
        let applied = kernel.attach_interface(policy, interface).await?;
        if kernel.is_attached(policy.vpc, interface) {
            return Ok(applied);
        }
        // Nothing but the worker itself takes devices away here; a real network would say so too.
        self.world.violate(
            Invariant::I1,
            format_args!("{interface} is gone before its guest runs"),
        );
        Err(NetworkError::NoDevice(interface))
    }

    async fn detach_interface(&self, vpc: VpcId, interface: NetworkInterfaceId) -> Result<Applied> {
        self.step().await?.detach_interface(vpc, interface).await
    }

    async fn apply(&self, policy: &VpcPolicy) -> Result<Applied> {
        self.step().await?.apply(policy).await
    }

    async fn listener(&self, vpc: VpcId) -> Result<Option<TcpListener>> {
        self.kernel().listener(vpc).await
    }

    async fn inventory(&self) -> Result<Inventory> {
        self.kernel().inventory().await
    }

    async fn ensure(&self) -> Result<Vec<String>> {
        self.kernel().ensure().await
    }
}
