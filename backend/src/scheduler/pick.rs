//! The choice itself.

use std::{cmp::Ordering, collections::BinaryHeap, fmt};

use super::{Fleet, Request, Settings, filters, weights};

/// What one filter has removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removed {
    /// The filter's name.
    pub filter: &'static str,
    /// What it wants, to be read after "no host".
    pub wants: String,
    /// How many hosts it removed of those that the filters before it left.
    pub hosts: usize,
}

/// Why no host is good enough.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusal {
    /// How many hosts there were.
    pub hosts: usize,
    /// What the filters removed, in their order, without the idle ones. The numbers add up to `hosts`.
    pub removed: Vec<Removed>,
}

impl Refusal {
    /// Nothing is wrong with the request; the hosts are silent, which may pass.
    pub fn may_pass(&self) -> bool {
        self.hosts == 0
            || self
                .removed
                .iter()
                .any(|removed| removed.filter == filters::compute::NAME)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.hosts, self.removed.as_slice()) {
            (0, _) => f.write_str("there is no host"),
            (hosts, [one]) => {
                let Removed { filter, wants, .. } = one;
                write!(f, "no host {wants} (filter {filter} removed {hosts} of {hosts})")
            }
            (hosts, removed) => {
                write!(f, "none of {hosts} hosts fits:")?;
                for (i, one) in removed.iter().enumerate() {
                    let comma = if i == 0 { "" } else { "," };
                    let Removed { filter, wants, hosts } = one;
                    write!(f, "{comma} filter {filter} removed {hosts}: not one {wants}")?;
                }
                Ok(())
            }
        }
    }
}

/// The hosts that pass every filter, by their places; only `only`, where that is given, is looked at.
///
/// # Errors
/// The [`Refusal`] that says what stood in the way.
pub fn fitting(
    fleet: &Fleet,
    request: &Request,
    settings: &Settings,
    only: Option<u32>,
) -> Result<Vec<u32>, Refusal> {
    let count = u32::try_from(fleet.hosts().len()).unwrap_or(u32::MAX);
    let mut left: Vec<u32> = match only {
        Some(at) => (at..count).take(1).collect(),
        None => (0..count).collect(),
    };
    let (hosts, mut removed) = (left.len(), Vec::new());
    for filter in &settings.filters {
        if !filter.applies(request) {
            continue;
        }
        let before = left.len();
        filter.sieve(&mut left, fleet, request);
        if left.len() < before {
            removed.push(Removed {
                filter: filter.name(),
                wants: filter.wants(request),
                hosts: before - left.len(),
            });
        }
        if left.is_empty() {
            return Err(Refusal { hosts, removed });
        }
    }
    if left.is_empty() {
        return Err(Refusal { hosts, removed });
    }
    Ok(left)
}

/// The best host, or one of the best `host_subset_size`: `below(n)` draws a number below `n`.
///
/// # Errors
/// The [`Refusal`] that says what stood in the way.
pub fn pick(
    fleet: &Fleet,
    request: &Request,
    settings: &Settings,
    below: impl FnOnce(usize) -> usize,
) -> Result<u32, Refusal> {
    let left = fitting(fleet, request, settings, None)?;
    let totals = weights::totals(&left, fleet, request, settings);
    let mut best = best(&left, &totals, settings.host_subset_size.max(1));
    let drawn = if best.len() > 1 { below(best.len()) } else { 0 };
    let drawn = drawn.min(best.len().saturating_sub(1));
    Ok(best.swap_remove(drawn))
}

/// How many instances such as this fit on these hosts, at most `wanted`.
pub fn room(fleet: &Fleet, request: &Request, hosts: &[u32], wanted: u64) -> u64 {
    let by = |free: i64, needed: i64| if needed > 0 { free / needed } else { i64::MAX };
    let mut total = 0_u64;
    for host in hosts.iter().filter_map(|at| fleet.hosts().get(*at as usize)) {
        let each = by(host.free_vcpus, request.vcpus)
            .min(by(host.free_memory_mib, request.memory_mib))
            .min(by(host.free_disk_gib, request.disk_gib));
        total = total.saturating_add(u64::try_from(each).unwrap_or(0));
        if total >= wanted {
            return wanted;
        }
    }
    total
}

/// A host with its weight. The place decides between equals, so that the same input gives the same order;
/// the greatest is the worst, which is what a heap of the best gives up first.
#[derive(PartialEq)]
struct Weighed(f64, u32);

impl Eq for Weighed {}

impl Ord for Weighed {
    fn cmp(&self, other: &Self) -> Ordering {
        other.0.total_cmp(&self.0).then(self.1.cmp(&other.1))
    }
}

impl PartialOrd for Weighed {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The best `n` hosts, the best first. What is not among them is not sorted.
fn best(left: &[u32], totals: &[f64], n: usize) -> Vec<u32> {
    let weighed = left.iter().zip(totals).map(|(at, total)| Weighed(*total, *at));
    if n == 1 {
        return weighed.min().map(|Weighed(_, at)| at).into_iter().collect();
    }
    let mut heap = BinaryHeap::with_capacity(n.min(left.len()) + 1);
    for host in weighed {
        if heap.len() < n {
            heap.push(host);
        } else if heap.peek().is_some_and(|worst| host < *worst) {
            heap.pop();
            heap.push(host);
        }
    }
    heap.into_sorted_vec()
        .into_iter()
        .map(|Weighed(_, at)| at)
        .collect()
}

#[cfg(test)]
mod tests;
