//! The host has the group's other members, where its policy is affinity and there are any.

use super::{Filter, by_host};
use crate::{Fleet, Policy, Request};

/// See the module.
#[derive(Debug)]
pub struct ServerGroupAffinity;

impl Filter for ServerGroupAffinity {
    fn name(&self) -> &'static str {
        "server_group_affinity"
    }

    fn applies(&self, request: &Request) -> bool {
        request
            .group
            .as_ref()
            .is_some_and(|group| group.policy == Policy::Affinity && group.populated)
    }

    fn wants(&self, _: &Request) -> String {
        "has the group's other members".into()
    }

    fn sieve(&self, left: &mut Vec<u32>, fleet: &Fleet, request: &Request) {
        let Some(group) = &request.group else { return };
        by_host(left, fleet, |at, _| group.members.contains_key(&at));
    }
}
