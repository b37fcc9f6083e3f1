//! The VPCs that have instances on this host: the policy of each, kept in a file so that a restarted worker
//! enforces it at once, and the metadata listener inside each.

use std::{
    collections::BTreeMap,
    io,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use cumulet_domain::{
    id::{NetworkInterfaceId, VpcId},
    network::VpcPolicy,
};

use crate::{
    MetadataSink,
    alarms::Alarms,
    files::HostFiles,
    layout::Layout,
    network::{Applied, HostNetwork, NamespaceId, NetworkError},
    policy::merge,
    policy_file::{self, Kept},
};

/// Why a VPC is not as it should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VpcError {
    #[error("network: {0}")]
    Network(#[from] NetworkError),
    #[error("the policy can't be kept: {0}")]
    Io(#[from] io::Error),
    #[error("metadata: {0}")]
    Metadata(String),
}

/// The VPCs of a host.
pub(crate) struct Vpcs {
    layout: Layout,
    network: Arc<dyn HostNetwork>,
    metadata: Arc<dyn MetadataSink>,
    /// In the order of their numbers, as records are.
    vpcs: Mutex<BTreeMap<VpcId, Arc<Vpc>>>,
    alarms: Alarms,
}

/// One VPC. What is proposed is known at once; what is done is done by one after the other, so that many
/// launches that come together need the policy written, and enforced, once. Who only wants it written
/// does not wait for the network: `kept` may be waited for while `enforced` is held, never the other way.
#[derive(Default)]
struct Vpc {
    proposed: Mutex<Option<Arc<VpcPolicy>>>,
    kept: tokio::sync::Mutex<Option<Kept>>,
    enforced: tokio::sync::Mutex<Enforced>,
    /// No instance here was in it at the last look.
    unused: AtomicBool,
    /// Held by launches that are about to use it, and alone by who takes away what nobody uses.
    coming: Arc<tokio::sync::RwLock<()>>,
}

#[derive(Default)]
struct Enforced {
    /// What the network was last brought to, if nothing has been done to it since.
    policy: Option<Arc<VpcPolicy>>,
    /// The namespace that the metadata service listens in.
    listening: Option<NamespaceId>,
}

impl Vpc {
    fn proposed(&self) -> MutexGuard<'_, Option<Arc<VpcPolicy>>> {
        self.proposed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn propose(&self, policy: &Arc<VpcPolicy>, needed: impl Fn(NetworkInterfaceId) -> bool) {
        let mut proposed = self.proposed();
        let merged = merge(proposed.as_ref(), policy, needed);
        *proposed = Some(merged);
    }
}

impl Vpcs {
    pub(crate) fn new(
        layout: Layout,
        network: Arc<dyn HostNetwork>,
        metadata: Arc<dyn MetadataSink>,
    ) -> Self {
        Vpcs {
            layout,
            network,
            metadata,
            vpcs: Mutex::default(),
            alarms: Alarms::default(),
        }
    }

    fn vpc(&self, id: VpcId) -> Arc<Vpc> {
        let mut vpcs = self.vpcs.lock().unwrap_or_else(PoisonError::into_inner);
        vpcs.entry(id).or_default().clone()
    }

    fn ids(&self) -> Vec<VpcId> {
        let vpcs = self.vpcs.lock().unwrap_or_else(PoisonError::into_inner);
        vpcs.keys().copied().collect()
    }

    /// The VPC shall be ready for the interfaces, whatever becomes of their taps: its namespace, rules and
    /// DHCP by this policy or a newer, and the metadata service. This takes a while the first time, in
    /// which the guest can be made.
    pub(crate) async fn build(
        &self,
        policy: &Arc<VpcPolicy>,
        interfaces: &[NetworkInterfaceId],
        needed: impl Fn(NetworkInterfaceId) -> bool,
    ) -> Result<(), VpcError> {
        let vpc = self.vpc(policy.vpc);
        let (mut enforced, newest) = self
            .newest(&vpc, policy, |id| interfaces.contains(&id) || needed(id))
            .await?;
        if enforced
            .policy
            .as_ref()
            .is_some_and(|done| Arc::ptr_eq(done, &newest))
        {
            return Ok(());
        }
        let done = self.enforce(&vpc, &mut enforced, &newest).await;
        self.alarms.noted(policy.vpc, done).map(drop)
    }

    /// The interfaces, whose taps the guest has opened, shall be in the VPC with this policy or a newer.
    pub(crate) async fn attach(
        &self,
        policy: &Arc<VpcPolicy>,
        interfaces: &[NetworkInterfaceId],
        needed: impl Fn(NetworkInterfaceId) -> bool,
    ) -> Result<(), VpcError> {
        let vpc = self.vpc(policy.vpc);
        let (mut enforced, newest) = self
            .newest(&vpc, policy, |id| interfaces.contains(&id) || needed(id))
            .await?;
        enforced.policy = None;
        for interface in interfaces {
            let applied = match self.network.attach_interface(&newest, *interface).await {
                // The guest that held it is gone, which is no matter of the policy.
                Err(error @ (NetworkError::NoDevice(_) | NetworkError::NotInPolicy { .. })) => {
                    return Err(error.into());
                }
                attached => self.alarms.noted(policy.vpc, attached)?,
            };
            self.listen(&vpc, policy.vpc, &mut enforced, applied).await?;
        }
        enforced.policy = Some(newest);
        Ok(())
    }

    /// The policy shall be known after a restart, before anything is done with it.
    pub(crate) async fn remember(
        &self,
        policy: &Arc<VpcPolicy>,
        needed: impl Fn(NetworkInterfaceId) -> bool,
    ) -> Result<(), VpcError> {
        let vpc = self.vpc(policy.vpc);
        vpc.propose(policy, needed);
        self.keep(&vpc).await.map(drop)
    }

    /// This policy or a newer one shall be enforced; the generation that is.
    pub(crate) async fn apply(
        &self,
        policy: &Arc<VpcPolicy>,
        needed: impl Fn(NetworkInterfaceId) -> bool,
    ) -> Result<u64, VpcError> {
        let vpc = self.vpc(policy.vpc);
        let (mut enforced, newest) = self.newest(&vpc, policy, needed).await?;
        let done = self.enforce(&vpc, &mut enforced, &newest).await;
        self.alarms.noted(policy.vpc, done)
    }

    /// VPCs whose policy is not enforced as it was last told.
    pub(crate) fn alarms(&self) -> &Alarms {
        &self.alarms
    }

    /// What is not as it should be in the host's network, a sentence each.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems = self.alarms.sentences();
        problems.extend(self.network.problems());
        problems
    }

    /// The turn to change the VPC, and the policy to change it to: this one or a newer, written down.
    async fn newest<'v>(
        &self,
        vpc: &'v Vpc,
        policy: &Arc<VpcPolicy>,
        needed: impl Fn(NetworkInterfaceId) -> bool,
    ) -> Result<(tokio::sync::MutexGuard<'v, Enforced>, Arc<VpcPolicy>), VpcError> {
        vpc.propose(policy, needed);
        let enforced = vpc.enforced.lock().await;
        let newest = self.keep(vpc).await?;
        Ok((enforced, newest))
    }

    /// Brings the network to a policy; the generation that is in force then.
    async fn enforce(
        &self,
        vpc: &Vpc,
        enforced: &mut Enforced,
        policy: &Arc<VpcPolicy>,
    ) -> Result<u64, VpcError> {
        enforced.policy = None;
        let applied = self.network.apply(policy).await?;
        self.listen(vpc, policy.vpc, enforced, applied).await?;
        enforced.policy = Some(policy.clone());
        Ok(applied.generation)
    }

    /// The interfaces shall be gone from the host, and the VPC with its last one.
    pub(crate) async fn detach(&self, id: VpcId, interfaces: &[NetworkInterfaceId]) -> Result<(), VpcError> {
        let vpc = self.vpc(id);
        let mut enforced = vpc.enforced.lock().await;
        enforced.policy = None;
        for interface in interfaces {
            let detached = self.network.detach_interface(id, *interface).await;
            let applied = self.alarms.noted(id, detached.map_err(VpcError::from))?;
            self.listen(&vpc, id, &mut enforced, applied).await?;
        }
        Ok(())
    }

    /// While this is held the VPC is not taken away for want of use: until the worker's notes say who uses it.
    pub(crate) async fn hold(&self, id: VpcId) -> tokio::sync::OwnedRwLockReadGuard<()> {
        self.vpc(id).coming.clone().read_owned().await
    }

    /// VPCs that no instance here has been in for two looks go. A policy that came late, after a restart
    /// had forgotten the newer one, may have made one again, and nobody but this host would know.
    pub(crate) async fn forget_unused(&self, used: impl Fn(VpcId) -> bool) -> Result<(), VpcError> {
        for id in self.ids() {
            let vpc = self.vpc(id);
            // Who comes now waits until it is gone, and makes it anew: its taps are not taken with it.
            let Ok(_alone) = vpc.coming.try_write() else {
                continue;
            };
            let was_unused = vpc.unused.swap(!used(id), Ordering::Relaxed);
            let policy = vpc.proposed().clone();
            let left = policy.filter(|policy| !policy.interfaces.is_empty());
            if let Some(policy) = left.filter(|_| was_unused && !used(id)) {
                tracing::warn!(vpc = %id, "nothing here is in the VPC; its network goes");
                let interfaces: Vec<_> = policy.interfaces.iter().map(|i| i.id).collect();
                self.detach(id, &interfaces).await?;
            }
        }
        Ok(())
    }

    /// Writes what is proposed, if that is not what is written.
    async fn keep(&self, vpc: &Vpc) -> Result<Arc<VpcPolicy>, VpcError> {
        let mut kept = vpc.kept.lock().await;
        let newest = vpc.proposed().clone();
        let newest = newest.ok_or_else(|| io::Error::other("no policy was proposed"))?;
        if kept
            .as_ref()
            .is_none_or(|kept| !Arc::ptr_eq(&kept.policy, &newest))
        {
            let (path, policy) = (self.layout.policy(newest.vpc), newest.clone());
            let before = kept.take();
            let written = self
                .layout
                .blocking(move |files| policy_file::write(files, &path, before, policy));
            *kept = Some(written.await?);
        }
        Ok(newest)
    }

    /// The metadata service shall listen in the namespace that is there now, and in no other.
    async fn listen(
        &self,
        vpc: &Vpc,
        id: VpcId,
        enforced: &mut Enforced,
        applied: Applied,
    ) -> Result<(), VpcError> {
        if enforced.listening == applied.namespace {
            if applied.namespace.is_none() {
                self.forget(vpc, id).await?;
            }
            return Ok(());
        }
        self.metadata.stop(id);
        enforced.listening = None;
        if applied.namespace.is_none() {
            return self.forget(vpc, id).await;
        }
        if let Some(listener) = self.network.listener(id).await? {
            self.metadata.serve(id, listener).map_err(VpcError::Metadata)?;
        }
        enforced.listening = applied.namespace;
        Ok(())
    }

    /// Nothing of the VPC is left here: neither shall its policy's file be. Of the policy only the
    /// generation is remembered, unless another one has been proposed meanwhile.
    async fn forget(&self, vpc: &Vpc, id: VpcId) -> Result<(), VpcError> {
        let mut keeping = vpc.kept.lock().await;
        let kept = keeping.take().map(|kept| kept.policy);
        if let (Some(kept), Some(proposed)) = (kept, vpc.proposed().as_mut())
            && Arc::ptr_eq(&kept, proposed)
        {
            *proposed = Arc::new(VpcPolicy {
                vpc: id,
                generation: kept.generation,
                cidr: kept.cidr,
                subnets: Vec::new(),
                interfaces: Vec::new(),
                groups: Vec::new(),
                tunnel: None,
            });
        }
        Ok(self.layout.files.remove_both(&self.layout.policy(id))?)
    }

    /// Enforces what was kept in files; the policies.
    pub(crate) async fn restore(
        &self,
        needed: impl Fn(NetworkInterfaceId) -> bool,
    ) -> io::Result<BTreeMap<VpcId, Arc<VpcPolicy>>> {
        let dir = self.layout.vpcs();
        let read = self.layout.blocking(move |files| read_policies(files, &dir));
        let kept = read.await?;
        for (id, policy) in &kept {
            if let Err(error) = self.apply(policy, &needed).await {
                tracing::error!(vpc = %id, %error, "the VPC's policy can't be enforced");
            }
        }
        Ok(kept)
    }

    /// Repairs what broke, and listens anew where that made another namespace. What could not be enforced is tried
    /// again: nobody tells it again where another copy of it was confirmed.
    pub(crate) async fn ensure(&self) -> Result<(), VpcError> {
        let repaired = self.network.ensure().await?;
        let again = match repaired.is_empty() {
            true => self.alarms.failing(),
            false => {
                tracing::warn!(?repaired, "repaired the host's network");
                self.ids()
            }
        };
        for id in again {
            let vpc = self.vpc(id);
            let mut enforced = vpc.enforced.lock().await;
            let kept = vpc.kept.lock().await.as_ref().map(|kept| kept.policy.clone());
            if let Some(kept) = kept {
                let done = self.enforce(&vpc, &mut enforced, &kept).await;
                // The alarm says so, and the others' turns come all the same.
                drop(self.alarms.noted(id, done));
            }
        }
        Ok(())
    }
}

fn read_policies(files: &dyn HostFiles, dir: &Path) -> io::Result<BTreeMap<VpcId, Arc<VpcPolicy>>> {
    let mut policies = BTreeMap::new();
    for name in files.names(dir)? {
        let Some(id) = name.strip_suffix(".json").and_then(|id| id.parse::<VpcId>().ok()) else {
            continue;
        };
        match policy_file::read(files, &dir.join(&name)) {
            Ok(policy) if policy.vpc == id => drop(policies.insert(id, Arc::new(policy))),
            _ => tracing::warn!(vpc = %id, "the VPC's policy can't be read; it will be told again"),
        }
    }
    Ok(policies)
}
