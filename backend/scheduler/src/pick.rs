//! The placement decision: filters, then weighers, over a fleet. Pure.

use std::{cmp::Ordering, collections::BinaryHeap};

use super::{
    Fleet, Refusal, Request, Settings,
    filters::{Filter, volume_store::VolumeStore},
    refusal::{NAMED, Removed},
    weights,
};

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
    let mut left = looked_at(fleet, only);
    let (hosts, mut removed) = (left.len(), Vec::new());
    for filter in running(settings, request) {
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
            break;
        }
    }
    if left.is_empty() {
        let explained = explain(fleet, request, settings, only);
        return Err(Refusal {
            hosts,
            removed,
            explained,
        });
    }
    Ok(left)
}

/// The filters that run: those of the settings, and whether a host reaches the store of the volumes, which is no matter of
/// policy and is in no list that an operator has made before there was such a store.
fn running<'s>(
    settings: &'s Settings,
    request: &'s Request,
) -> impl Iterator<Item = &'static dyn Filter> + 's {
    let needed: &'static dyn Filter = &VolumeStore;
    let is_listed = settings
        .filters
        .iter()
        .any(|filter| filter.name() == needed.name());
    let all = settings.filters.iter().copied();
    all.chain((!is_listed).then_some(needed))
        .filter(|filter| filter.applies(request))
}

/// What is the matter with the first hosts that were removed, in the order of the filters, by a second look at them: while there
/// are hosts left nobody wants to know.
fn explain(fleet: &Fleet, request: &Request, settings: &Settings, only: Option<u32>) -> Vec<String> {
    let (mut left, mut explained) = (looked_at(fleet, only), Vec::new());
    for filter in running(settings, request) {
        let before = left.clone();
        filter.sieve(&mut left, fleet, request);
        // Sieving keeps the order.
        let gone = before.into_iter().filter(|at| left.binary_search(at).is_err());
        let room = NAMED - explained.len().min(NAMED);
        explained.extend(
            gone.filter_map(|at| filter.explain(fleet, at, request))
                .take(room),
        );
    }
    explained
}

/// The places of the hosts that are looked at.
fn looked_at(fleet: &Fleet, only: Option<u32>) -> Vec<u32> {
    let count = u32::try_from(fleet.hosts().len()).unwrap_or(u32::MAX);
    match only {
        Some(at) => (at..count).take(1).collect(),
        None => (0..count).collect(),
    }
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
