//! Policies that commands have taken along: a host that has just been told one with an instance is not told it again
//! beside that, for as long as it may take to confirm. Forgotten with the process, which costs a message.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use cumulet_domain::{
    id::{HostId, VpcId},
    network::VpcPolicy,
};
use tokio::time::Instant;

use crate::RESEND;

/// Entries that are kept without a look at which of them are too old to say anything.
const MANY: usize = 1024;

/// Which generation a host was told of a VPC's policy, and when.
type Last = HashMap<(String, i64), (u64, Instant)>;

/// See the module. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Told(Arc<Mutex<Last>>);

impl Told {
    fn last(&self) -> MutexGuard<'_, Last> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A host was told a policy.
    pub fn note(&self, host: &HostId, policy: &VpcPolicy) {
        let mut last = self.last();
        if last.len() >= MANY {
            last.retain(|_, (_, at)| at.elapsed() < RESEND);
        }
        let key = (host.0.clone(), policy.vpc.to_db());
        last.insert(key, (policy.generation, Instant::now()));
    }

    /// Whether a host was told a policy of this generation or a newer one lately.
    pub fn lately(&self, host: &str, vpc: VpcId, generation: u64) -> bool {
        let last = self.last();
        let told = last.get(&(host.to_owned(), vpc.to_db()));
        told.is_some_and(|(told, at)| *told >= generation && at.elapsed() < RESEND)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(vpc: i64, generation: u64) -> VpcPolicy {
        VpcPolicy {
            vpc: VpcId::from_db(vpc),
            generation,
            cidr: "10.0.0.0/16".parse().unwrap(),
            subnets: Vec::new(),
            interfaces: Vec::new(),
            groups: Vec::new(),
            tunnel: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_host_was_told_counts_until_it_is_old_or_there_is_something_newer() {
        let (told, host, vpc) = (Told::default(), HostId("a".into()), VpcId::from_db(1));
        told.note(&host, &policy(1, 7));
        for (generation, counts) in [(6, true), (7, true), (8, false)] {
            assert_eq!(told.lately("a", vpc, generation), counts, "{generation}");
        }
        assert!(!told.lately("b", vpc, 7));
        tokio::time::advance(RESEND).await;
        assert!(!told.lately("a", vpc, 7));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_old_takes_no_room() {
        let (told, host) = (Told::default(), HostId("a".into()));
        for round in 0..4 {
            for vpc in 0..1000 {
                told.note(&host, &policy(round * 1000 + vpc, 1));
            }
            tokio::time::advance(RESEND).await;
        }
        assert!(told.last().len() <= 2000, "{}", told.last().len());
    }
}
