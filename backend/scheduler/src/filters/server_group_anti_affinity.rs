//! The host has no other member of a group whose policy is anti-affinity, or none of another partition.

use super::{Filter, by_host};
use crate::{Fleet, Policy, Request};

/// See the module.
#[derive(Debug)]
pub struct ServerGroupAntiAffinity;

impl Filter for ServerGroupAntiAffinity {
    fn name(&self) -> &'static str {
        "server_group_anti_affinity"
    }

    fn applies(&self, request: &Request) -> bool {
        request.group.as_ref().is_some_and(|group| {
            matches!(group.policy, Policy::AntiAffinity | Policy::Partition(_)) && !group.members.is_empty()
        })
    }

    fn wants(&self, request: &Request) -> String {
        match request.group.as_ref().map(|group| group.policy) {
            Some(Policy::Partition(number)) => format!("is free for partition {number} of the group"),
            _ => "is free of the group's other members".into(),
        }
    }

    fn sieve(&self, left: &mut Vec<u32>, fleet: &Fleet, request: &Request) {
        let Some(group) = &request.group else { return };
        by_host(left, fleet, |at, _| {
            match (group.policy, group.members.get(&at)) {
                (Policy::Partition(number), Some(member)) => member.partition == number,
                (_, member) => member.is_none(),
            }
        });
    }
}
