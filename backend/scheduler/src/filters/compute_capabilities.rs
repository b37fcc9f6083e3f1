//! The host has what the instance type's extra specifications want: keys of the scope `capabilities`, and
//! those without a scope that the host knows (Nova's ComputeCapabilitiesFilter).

use super::{Filter, by_profile};
use crate::{Fleet, Request, extra_specs};

/// The capability that a key asks for, and whether it must be there: one without a scope need not.
fn scoped(key: &str) -> Option<(&str, bool)> {
    match key.split_once(':') {
        None => Some((key, false)),
        Some(("capabilities", name)) => Some((name, true)),
        Some(_) => None,
    }
}

/// See the module.
#[derive(Debug)]
pub struct ComputeCapabilities;

impl Filter for ComputeCapabilities {
    fn name(&self) -> &'static str {
        "compute_capabilities"
    }

    fn applies(&self, request: &Request) -> bool {
        request.extra_specs.keys().any(|key| scoped(key).is_some())
    }

    fn wants(&self, request: &Request) -> String {
        let specs = request.extra_specs.iter();
        let wanted = specs.filter_map(|(key, value)| Some(format!("{} {value}", scoped(key)?.0)));
        let wanted: Vec<_> = wanted.collect();
        format!("has the capabilities {}", wanted.join(", "))
    }

    fn sieve(&self, left: &mut Vec<u32>, fleet: &Fleet, request: &Request) {
        by_profile(left, fleet, |profile| {
            request.extra_specs.iter().all(|(key, wanted)| match scoped(key) {
                None => true,
                Some((name, explicit)) => match profile.capability(name) {
                    Some(value) => extra_specs::matches(value, wanted),
                    None => !explicit,
                },
            })
        });
    }
}
