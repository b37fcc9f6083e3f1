//! Members of the group on the host: the more the better, where its policy is soft affinity.

use super::{Weigher, members};
use crate::{HostState, Multipliers, Policy, Request};

/// See the module.
#[derive(Debug)]
pub struct SoftAffinity;

impl Weigher for SoftAffinity {
    fn multiplier(&self, multipliers: &Multipliers) -> f64 {
        multipliers.soft_affinity
    }

    fn applies(&self, request: &Request) -> bool {
        request
            .group
            .as_ref()
            .is_some_and(|group| group.policy == Policy::SoftAffinity)
    }

    #[inline]
    #[allow(clippy::cast_precision_loss)] // a weight needs no more than 53 bits
    fn weight(&self, at: u32, _: &HostState, request: &Request) -> f64 {
        request.group.as_ref().map_or(0.0, |group| members(group, at))
    }
}
