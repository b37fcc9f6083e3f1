//! Members of the group on the host: the fewer the better, where its policy is soft anti-affinity.

use super::{Weigher, members};
use crate::{HostState, Multipliers, Policy, Request};

/// See the module.
#[derive(Debug)]
pub struct SoftAntiAffinity;

impl Weigher for SoftAntiAffinity {
    fn multiplier(&self, multipliers: &Multipliers) -> f64 {
        multipliers.soft_anti_affinity
    }

    fn applies(&self, request: &Request) -> bool {
        request
            .group
            .as_ref()
            .is_some_and(|group| group.policy == Policy::SoftAntiAffinity)
    }

    #[inline]
    #[allow(clippy::cast_precision_loss)] // a weight needs no more than 53 bits
    fn weight(&self, at: u32, _: &HostState, request: &Request) -> f64 {
        request.group.as_ref().map_or(0.0, |group| -members(group, at))
    }
}
