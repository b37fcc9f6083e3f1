//! The durable part of a simulated host: the worker's files, and the guests and networks that it has made. A
//! machine that loses power keeps the files alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use cumulet_domain::{
    id::{InstanceId, NetworkInterfaceId, VolumeId, VpcId},
    message::{OffReason, Power},
    network::VpcPolicy,
    time::Timestamp,
};
use cumulet_worker::decisions::{Devices, DomainSpec, Record, Tombstone, merge};

/// How long a tombstone stands (as in the worker).
const AGE: Duration = Duration::from_secs(3600);

/// A guest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Guest {
    pub(crate) on: bool,
    /// Its CPUs stand still.
    pub(crate) paused: bool,
    pub(crate) off_reason: Option<OffReason>,
    /// It does not listen when it is asked to go off.
    pub(crate) deaf: bool,
}

/// An instance's files.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) record: Record,
    /// The newest snapshot's revision.
    pub(crate) revision: u64,
    /// What its guest is to have.
    pub(crate) domain: DomainSpec,
    /// The volumes among that, and whether they may be made.
    pub(crate) volumes: Vec<(VolumeId, bool)>,
}

/// A VPC's part of the host.
#[derive(Debug, Default)]
pub(crate) struct Net {
    /// The file.
    pub(crate) policy: Option<Arc<VpcPolicy>>,
    /// What is enforced: the generation, and the interfaces that the rules know.
    pub(crate) generation: u64,
    pub(crate) ids: BTreeSet<NetworkInterfaceId>,
    /// Taps in the namespace.
    pub(crate) attached: BTreeSet<NetworkInterfaceId>,
    /// No instance here was in it at the last look.
    unused: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Machine {
    pub(crate) kept: BTreeMap<InstanceId, Kept>,
    tombstones: BTreeMap<InstanceId, (Tombstone, Timestamp)>,
    pub(crate) guests: BTreeMap<InstanceId, Guest>,
    /// What guests have; none of one that has never been started.
    pub(crate) devices: BTreeMap<InstanceId, Devices>,
    /// The files of volumes.
    pub(crate) volumes: BTreeSet<VolumeId>,
    pub(crate) nets: BTreeMap<VpcId, Net>,
    /// The policies gone by, in the worker's memory: also of VPCs that nothing is left of here.
    proposed: BTreeMap<VpcId, Arc<VpcPolicy>>,
    /// Snapshots that are served: by the worker's process, so these are gone with it.
    pub(crate) served: BTreeMap<InstanceId, u64>,
}

impl Machine {
    pub(crate) fn tombstone(&mut self, id: InstanceId, now: Timestamp) -> Option<Tombstone> {
        self.tombstones.retain(|_, (_, at)| now.since(*at) < AGE);
        self.tombstones.get(&id).map(|(stone, _)| *stone)
    }

    pub(crate) fn forget(&mut self, id: InstanceId, generation: u64, destroyed: bool, now: Timestamp) {
        let stone = Tombstone {
            generation,
            destroyed,
        };
        self.tombstones.insert(id, (stone, now));
        if destroyed {
            self.kept.remove(&id);
        }
    }

    pub(crate) fn record(&self, id: InstanceId) -> Option<&Record> {
        self.kept.get(&id).map(|kept| &kept.record)
    }

    pub(crate) fn power(&self, id: InstanceId) -> Power {
        match self.guests.get(&id) {
            Some(guest) if guest.on => Power::On,
            Some(_) => Power::Off,
            None => Power::Absent,
        }
    }

    /// Whether a guest that shall run has the interface.
    fn needs(&self, interface: NetworkInterfaceId) -> bool {
        let mut running = self.kept.values().filter(|kept| kept.record.wants_power);
        running.any(|kept| kept.record.interfaces.contains(&interface))
    }

    /// The policy to go by after this one has come.
    pub(crate) fn remember(
        &mut self,
        policy: &Arc<VpcPolicy>,
        also: &[NetworkInterfaceId],
    ) -> Arc<VpcPolicy> {
        let current = self.proposed.get(&policy.vpc);
        let merged = merge(current, policy, |id| also.contains(&id) || self.needs(id));
        self.proposed.insert(policy.vpc, merged.clone());
        self.nets.entry(policy.vpc).or_default().policy = Some(merged.clone());
        merged
    }

    /// Enforces a policy; the generation that is in force then.
    pub(crate) fn enforce(&mut self, policy: &VpcPolicy) -> u64 {
        let net = self.nets.entry(policy.vpc).or_default();
        net.ids = policy.interfaces.iter().map(|interface| interface.id).collect();
        net.generation = policy.generation;
        net.attached.retain(|id| net.ids.contains(id));
        self.forget_if_empty(policy.vpc);
        policy.generation
    }

    /// Puts an interface into its VPC; false where the policy does not have it.
    pub(crate) fn attach(&mut self, policy: &VpcPolicy, interface: NetworkInterfaceId) -> bool {
        if !policy.interfaces.iter().any(|known| known.id == interface) {
            return false;
        }
        self.enforce(policy);
        if let Some(net) = self.nets.get_mut(&policy.vpc) {
            net.attached.insert(interface);
        }
        true
    }

    /// Takes interfaces away, and the VPC with its last one.
    pub(crate) fn detach(&mut self, vpc: VpcId, interfaces: &[NetworkInterfaceId]) {
        if let Some(net) = self.nets.get_mut(&vpc) {
            for interface in interfaces {
                net.ids.remove(interface);
                net.attached.remove(interface);
            }
            self.forget_if_empty(vpc);
        }
    }

    /// Nothing of a VPC without interfaces is left here; of its policy the generation is remembered.
    fn forget_if_empty(&mut self, vpc: VpcId) {
        let Some(net) = self.nets.get(&vpc).filter(|net| net.ids.is_empty()) else {
            return;
        };
        if let (Some(kept), Some(proposed)) = (&net.policy, self.proposed.get_mut(&vpc))
            && Arc::ptr_eq(kept, proposed)
        {
            let mut empty = VpcPolicy::clone(kept);
            (empty.interfaces, empty.groups, empty.subnets) = (Vec::new(), Vec::new(), Vec::new());
            *proposed = Arc::new(empty);
        }
        self.nets.remove(&vpc);
    }

    /// VPCs that no instance here has been in for two looks go.
    pub(crate) fn forget_unused(&mut self) {
        let busy = |record: &Record| record.wants_power || record.pending.is_some();
        let used = self
            .kept
            .values()
            .map(|kept| &kept.record)
            .filter(|record| busy(record));
        let used: BTreeSet<VpcId> = used.map(|record| record.vpc).collect();
        let mut idle = Vec::new();
        for (vpc, net) in &mut self.nets {
            let was_unused = std::mem::replace(&mut net.unused, !used.contains(vpc));
            if was_unused && net.unused {
                idle.push((*vpc, net.ids.iter().copied().collect::<Vec<_>>()));
            }
        }
        for (vpc, interfaces) in idle {
            self.detach(vpc, &interfaces);
        }
    }

    /// A worker is back: its memory is what its files say.
    pub(crate) fn restore(&mut self) {
        let policies: Vec<_> = self.nets.values().filter_map(|net| net.policy.clone()).collect();
        self.proposed = policies
            .iter()
            .map(|policy| (policy.vpc, policy.clone()))
            .collect();
        for policy in policies {
            self.enforce(&policy);
        }
        let on = |id| self.guests.get(id).is_some_and(|guest| guest.on);
        let running = self.kept.iter().filter(|(id, _)| on(id));
        self.served = running.map(|(id, kept)| (*id, kept.revision)).collect();
    }

    /// The power is cut: what was in memory is gone. The guests that ran.
    pub(crate) fn lose_power(&mut self) -> Vec<InstanceId> {
        let mut ran = Vec::new();
        for (id, guest) in &mut self.guests {
            if guest.on {
                ran.push(*id);
            }
            (guest.on, guest.paused) = (false, false);
            guest.off_reason = Some(OffReason::Crashed);
        }
        for net in self.nets.values_mut() {
            net.ids.clear();
            net.attached.clear();
            net.generation = 0;
        }
        self.served.clear();
        ran
    }
}
