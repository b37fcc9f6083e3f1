//! All that is on a simulated host at one moment, as its hypervisor, its network, its worker's files and what is served
//! there say. The invariants are checked with it.

use std::collections::{BTreeMap, BTreeSet};

use cumulet_domain::{
    id::{InstanceId, NetworkInterfaceId, VpcId},
    message::Power,
};
use cumulet_hypervisor::{Devices, DomainStatus};
use cumulet_worker::{Changes, Kept};

use super::Host;

/// See the module.
pub(crate) struct Machine {
    pub(crate) guests: BTreeMap<InstanceId, (DomainStatus, Devices)>,
    pub(crate) kept: Kept,
    /// The snapshot that each guest reads.
    pub(crate) served: BTreeMap<InstanceId, u64>,
    /// The policy's generation that is enforced in each VPC, and the interfaces that are in it.
    pub(crate) nets: BTreeMap<VpcId, (u64, BTreeSet<NetworkInterfaceId>)>,
    /// VPCs whose policy the worker could not enforce.
    pub(crate) failing: usize,
    /// Interfaces that are in no VPC.
    pub(crate) loose: BTreeSet<NetworkInterfaceId>,
    /// What guests that run have not, or have too many, of what they were to have last.
    pub(crate) differ: BTreeMap<InstanceId, Changes>,
}

impl Machine {
    pub(crate) fn power(&self, id: InstanceId) -> Power {
        self.guests
            .get(&id)
            .map_or(Power::Absent, |(guest, _)| guest.power)
    }
}

impl Host {
    /// What there is now; nothing can be told while no worker is there.
    pub(crate) fn machine(&self) -> Option<Machine> {
        let (worker, served) = {
            let now = self.now();
            (
                now.worker.clone().filter(|_| !now.life.is_over())?,
                now.served.clone(),
            )
        };
        let guests = self.hypervisor.guests().into_iter();
        let guests: BTreeMap<_, _> = guests.map(|guest| (guest.0.instance, guest)).collect();
        let kept = worker.kept().ok()?;
        let mut differ = BTreeMap::new();
        for (id, (_, has)) in guests.iter().filter(|(_, (guest, _))| guest.power == Power::On) {
            let spec = kept.instances.get(id).and_then(|kept| kept.spec.as_ref());
            let changes = spec.map(|spec| worker.difference(spec, has));
            let changes = changes.filter(|changes| *changes != Changes::default());
            differ.extend(changes.map(|changes| (*id, changes)));
        }
        let kernel = self.network.kernel();
        Some(Machine {
            guests,
            kept,
            served: served.revisions(),
            nets: kernel.enforced(),
            failing: worker.alarms().1,
            loose: kernel.prepared(),
            differ,
        })
    }
}
