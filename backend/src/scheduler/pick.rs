//! The choice itself.

use std::fmt;

use cumulet_domain::id::HostId;

use super::{filters, weights};

/// A host as the scheduler sees it. What is free already counts the allocation ratios.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostState {
    /// Which host.
    pub id: HostId,
    /// Its availability zone.
    pub availability_zone: String,
    /// The operator lets it take new instances.
    pub enabled: bool,
    /// It was heard of lately.
    pub alive: bool,
    /// Virtual CPUs that can still be claimed.
    pub free_vcpus: i64,
    /// Memory that can still be claimed, in MiB.
    pub free_memory_mib: i64,
    /// Disk that can still be claimed, in GiB.
    pub free_disk_gib: i64,
}

/// What an instance needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The zone that it must be in.
    pub availability_zone: String,
    /// Virtual CPUs.
    pub vcpus: i64,
    /// Memory in MiB.
    pub memory_mib: i64,
    /// Disk in GiB.
    pub disk_gib: i64,
}

/// Why no host is good enough: which filter removed how many of those that the filters before it left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// How many hosts there were.
    pub hosts: usize,
    /// Each filter's reason and how many hosts it removed, in the filters' order, without the idle ones.
    pub removed: Vec<(String, usize)>,
}

impl Refusal {
    /// Nothing is wrong with the request; the hosts are silent, which may pass.
    pub fn may_pass(&self) -> bool {
        self.hosts == 0
            || self
                .removed
                .iter()
                .any(|(reason, _)| reason == filters::compute::SILENT)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.hosts, self.removed.as_slice()) {
            (0, _) => f.write_str("there is no host"),
            (_, [(reason, _)]) => write!(f, "no host {reason}"),
            (hosts, removed) => {
                write!(f, "none of {hosts} hosts fits:")?;
                for (i, (reason, count)) in removed.iter().enumerate() {
                    write!(
                        f,
                        "{} {count} not one that {reason}",
                        if i == 0 { "" } else { "," }
                    )?;
                }
                Ok(())
            }
        }
    }
}

/// The hosts that pass every filter, the best first: indices into `hosts`.
///
/// # Errors
/// The [`Refusal`] that says what stood in the way.
pub fn pick(hosts: &[HostState], request: &Request) -> Result<Vec<usize>, Refusal> {
    let mut left: Vec<usize> = (0..hosts.len()).collect();
    let mut removed = Vec::new();
    for filter in filters::ENABLED {
        let before = left.len();
        left.retain(|i| (filter.passes)(&hosts[*i], request));
        if left.len() < before {
            removed.push(((filter.wants)(request), before - left.len()));
        }
    }
    if left.is_empty() {
        return Err(Refusal {
            hosts: hosts.len(),
            removed,
        });
    }
    // The id decides between equals, so that the same input always gives the same order.
    left.sort_by(|a, b| {
        let (a, b) = (&hosts[*a], &hosts[*b]);
        weights::total(b)
            .total_cmp(&weights::total(a))
            .then_with(|| a.id.cmp(&b.id))
    });
    Ok(left)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn host(id: &str, free_vcpus: i64, free_memory_mib: i64) -> HostState {
        HostState {
            id: HostId(id.into()),
            availability_zone: "us-east-1a".into(),
            enabled: true,
            alive: true,
            free_vcpus,
            free_memory_mib,
            free_disk_gib: 100,
        }
    }

    fn request(vcpus: i64) -> Request {
        Request {
            availability_zone: "us-east-1a".into(),
            vcpus,
            memory_mib: 512,
            disk_gib: 8,
        }
    }

    #[test]
    fn the_host_with_the_most_free_memory_comes_first() {
        let hosts = [
            host("a", 8, 1024),
            host("b", 8, 4096),
            host("c", 8, 4096),
            host("d", 8, 256),
        ];
        assert_eq!(pick(&hosts, &request(1)), Ok(vec![1, 2, 0]));
    }

    #[test]
    fn a_refusal_says_what_was_missing() {
        let full = pick(&[host("a", 2, 4096)], &request(8)).unwrap_err();
        assert_eq!(full.to_string(), "no host has 8 free vCPUs in us-east-1a");
        assert!(!full.may_pass());
        let silent = HostState {
            alive: false,
            ..host("a", 8, 4096)
        };
        let refusal = pick(&[silent, host("b", 8, 100)], &request(1)).unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "none of 2 hosts fits: 1 not one that is alive, 1 not one that has 512 MiB of free memory in us-east-1a"
        );
        assert!(refusal.may_pass());
        assert_eq!(
            pick(&[], &request(1)).unwrap_err().to_string(),
            "there is no host"
        );
    }

    proptest! {
        #[test]
        fn only_hosts_that_fit_are_picked(free in prop::collection::vec((0_i64..16, 0_i64..8192), 0..20), vcpus in 1_i64..16) {
            let hosts: Vec<_> = free.iter().enumerate().map(|(i, (c, m))| host(&format!("h{i}"), *c, *m)).collect();
            let fitting = hosts.iter().filter(|h| h.free_vcpus >= vcpus && h.free_memory_mib >= 512).count();
            match pick(&hosts, &request(vcpus)) {
                Ok(order) => {
                    prop_assert_eq!(order.len(), fitting);
                    prop_assert!(order.iter().all(|i| hosts[*i].free_vcpus >= vcpus));
                }
                Err(_) => prop_assert_eq!(fitting, 0),
            }
        }
    }
}
