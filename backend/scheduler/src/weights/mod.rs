//! Weighers: each says how good a host is; the sum decides the order. As in Nova, each one's weights are
//! brought between 0 and 1 by the least and the greatest, and count by a multiplier.

pub mod cpu;
pub mod disk;
pub mod io_ops;
pub mod metrics;
pub mod ram;
pub mod soft_affinity;
pub mod soft_anti_affinity;

use super::{Fleet, Group, HostState, Multipliers, Request, Settings};

/// A weigher.
pub trait Weigher: Sync {
    /// What it counts for.
    fn multiplier(&self, multipliers: &Multipliers) -> f64;

    /// Whether it could tell hosts apart for this request.
    fn applies(&self, _request: &Request) -> bool {
        true
    }

    /// How good a host is: more is better.
    fn weight(&self, at: u32, host: &HostState, request: &Request) -> f64;

    /// The weights of these hosts, with the least and the greatest: one pass, compiled for each weigher.
    fn weigh(&self, left: &[u32], fleet: &Fleet, request: &Request, into: &mut Vec<f64>) -> (f64, f64) {
        let (mut least, mut greatest) = (f64::INFINITY, f64::NEG_INFINITY);
        into.clear();
        into.extend(left.iter().map(|at| {
            let host = &fleet.hosts()[*at as usize];
            let weight = self.weight(*at, host, request);
            least = least.min(weight);
            greatest = greatest.max(weight);
            weight
        }));
        (least, greatest)
    }
}

/// Every weigher.
pub const ALL: [&dyn Weigher; 7] = [
    &ram::Ram,
    &cpu::Cpu,
    &disk::Disk,
    &io_ops::IoOps,
    &metrics::Metrics,
    &soft_affinity::SoftAffinity,
    &soft_anti_affinity::SoftAntiAffinity,
];

/// The sum for each of these hosts.
pub fn totals(left: &[u32], fleet: &Fleet, request: &Request, settings: &Settings) -> Vec<f64> {
    let mut totals = vec![0.0; left.len()];
    if left.len() < 2 {
        return totals;
    }
    let mut weights = Vec::with_capacity(left.len());
    for weigher in ALL {
        let multiplier = weigher.multiplier(&settings.multipliers);
        if multiplier == 0.0 || !weigher.applies(request) {
            continue;
        }
        let (least, greatest) = weigher.weigh(left, fleet, request, &mut weights);
        let range = greatest - least;
        // Where all are the same, nothing is told apart.
        if range > 0.0 {
            let scale = multiplier / range;
            for (total, weight) in totals.iter_mut().zip(&weights) {
                *total += (weight - least) * scale;
            }
        }
    }
    totals
}

/// Members of a group on a host.
#[allow(clippy::cast_precision_loss)] // a weight needs no more than 53 bits
fn members(group: &Group, at: u32) -> f64 {
    group.members.get(&at).map_or(0.0, |member| member.count as f64)
}
