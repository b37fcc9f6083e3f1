//! Interfaces of an instance: the tap of each on this host. A guest keeps the taps that it has open, and gets a new
//! one for each interface that it has not.

use cumulet_domain::spec::InstanceSpec;
use cumulet_hypervisor::{Devices, DomainNic};

use crate::{Worker, failure::Failure};

impl Worker {
    /// The guest's interfaces, with a tap for each that it has not: those of a guest that is there are in its hands.
    pub(crate) async fn nics(
        &self,
        spec: &InstanceSpec,
        has: Option<&Devices>,
    ) -> Result<Vec<DomainNic>, Failure> {
        let mut nics = Vec::new();
        for nic in &spec.nics {
            let mac = nic.interface.mac;
            let open = has.and_then(|has| has.nics.iter().find(|open| open.mac == mac));
            let tap = match open {
                Some(open) => open.tap.clone(),
                None => {
                    self.deps
                        .network
                        .prepare_interface(nic.vpc, nic.interface.id)
                        .await?
                }
            };
            nics.push(DomainNic { mac, tap });
        }
        Ok(nics)
    }
}
