//! The host can run the image: its architecture, and the hypervisor that it wants. A host that has not
//! told its architecture yet passes.

use super::{Filter, by_profile};
use crate::{Fleet, Request};

/// See the module.
#[derive(Debug)]
pub struct ImageProperties;

impl Filter for ImageProperties {
    fn name(&self) -> &'static str {
        "image_properties"
    }

    fn applies(&self, request: &Request) -> bool {
        request.architecture.is_some() || request.hypervisor_type.is_some()
    }

    fn wants(&self, request: &Request) -> String {
        let architecture = request.architecture.as_deref().unwrap_or("any");
        match &request.hypervisor_type {
            Some(kind) => format!("runs images of architecture {architecture} on {kind}"),
            None => format!("runs images of architecture {architecture}"),
        }
    }

    fn sieve(&self, left: &mut Vec<u32>, fleet: &Fleet, request: &Request) {
        by_profile(left, fleet, |profile| {
            let architecture = match (&request.architecture, &profile.architecture) {
                (Some(wanted), Some(has)) => wanted == has,
                _ => true,
            };
            let hypervisor = request.hypervisor_type.as_ref();
            architecture && hypervisor.is_none_or(|wanted| wanted.eq_ignore_ascii_case(&profile.hypervisor))
        });
    }
}
