//! Interfaces of an instance: the tap of each on this host, which only a guest that is not there gets anew.

use cumulet_domain::spec::InstanceSpec;
use cumulet_hypervisor::DomainNic;

use crate::{Worker, failure::Failure, network::device_name};

impl Worker {
    /// The guest's interfaces. Only a guest that is not there gets new devices: those of one that is there
    /// are in its hands.
    pub(crate) async fn nics(&self, spec: &InstanceSpec, is_on: bool) -> Result<Vec<DomainNic>, Failure> {
        let mut nics = Vec::new();
        for nic in &spec.nics {
            let id = nic.interface.id;
            let tap = match is_on {
                true => device_name(id),
                false => self.deps.network.prepare_interface(nic.vpc, id).await?,
            };
            let mac = nic.interface.mac;
            nics.push(DomainNic { mac, tap });
        }
        Ok(nics)
    }
}
