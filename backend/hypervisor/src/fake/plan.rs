//! The fault plan of a simulated host, and the pure function that decides one call by it.

use std::{collections::HashSet, time::Duration};

use cumulet_domain::id::InstanceId;

use crate::{Error, Result};

/// What goes wrong. The default is nothing, at once.
#[derive(Clone, Debug, Default)]
pub struct FaultPlan {
    /// The shortest time that a call takes.
    pub latency_min: Duration,
    /// The longest time that a call takes.
    pub latency_max: Duration,
    /// The time that looks at the host and at guests take, and measurements.
    pub look_latency: Duration,
    /// Calls of a thousand that fail and would succeed later.
    pub failures_per_mille: u16,
    /// Calls of a thousand that are refused for good.
    pub refusals_per_mille: u16,
    /// Calls for these guests are refused for good.
    pub refuse: HashSet<InstanceId>,
    /// Calls for these guests don't come back.
    pub hang: HashSet<InstanceId>,
    /// Guests of a thousand that don't listen when they are asked to go off or to start over.
    pub deaf_per_mille: u16,
    /// Guests that run don't let go of devices.
    pub keeps_devices: bool,
    /// A lie, to see that it is found: guests are said to be gone and are left as they are.
    pub leaves_guests: bool,
    /// A lie, to see that it is found: a call that does not come back in time is said to be refused for good.
    pub refuses_what_is_late: bool,
}

/// What happens to one call.
pub(super) struct Fate {
    pub(super) latency: Duration,
    pub(super) outcome: Result<()>,
}

impl Fate {
    pub(super) const fn of_a_look(plan: &FaultPlan) -> Fate {
        Fate {
            latency: plan.look_latency,
            outcome: Ok(()),
        }
    }
}

impl FaultPlan {
    /// A slow hypervisor: each call takes that long.
    pub fn slow(latency: Duration) -> Self {
        FaultPlan {
            latency_min: latency,
            latency_max: latency,
            look_latency: latency,
            ..FaultPlan::default()
        }
    }

    /// Whether a call that changes a guest comes back at once.
    pub(super) fn is_quick(&self, instance: InstanceId) -> bool {
        self.latency_max.is_zero() && self.latency_min.is_zero() && !self.hang.contains(&instance)
    }

    /// Whether a guest does not listen.
    pub(super) fn is_deaf(&self, seed: u64, instance: InstanceId) -> bool {
        mix(mix(seed ^ instance.number())) % 1000 < u64::from(self.deaf_per_mille)
    }

    /// The fate of a guest's call number `call`.
    pub(super) fn fate(&self, seed: u64, instance: InstanceId, call: u32) -> Fate {
        let first = mix(seed ^ mix(instance.number()) ^ mix(u64::from(call)));
        let second = mix(first);
        let spread = self.latency_max.saturating_sub(self.latency_min);
        let share = (first >> 32) as u32;
        let latency = self.latency_min + spread.mul_f64(f64::from(share) / f64::from(u32::MAX));
        let is_refused =
            self.refuse.contains(&instance) || mix(second) % 1000 < u64::from(self.refusals_per_mille);
        let outcome = if is_refused {
            Err(Error::Refused("the plan says so".into()))
        } else if second % 1000 < u64::from(self.failures_per_mille) {
            Err(Error::Unavailable("the plan says so".into()))
        } else {
            Ok(())
        };
        Fate { latency, outcome }
    }
}

/// One step of SplitMix64: an even mixing of 64 bits.
const fn mix(number: u64) -> u64 {
    let z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_call_has_the_same_fate_and_the_share_of_failures_is_kept() {
        let plan = FaultPlan {
            latency_min: Duration::from_millis(10),
            latency_max: Duration::from_millis(20),
            failures_per_mille: 250,
            ..FaultPlan::default()
        };
        let mut failures = 0;
        for call in 0..10_000 {
            let id = InstanceId::new(1 << 40);
            let (one, two) = (plan.fate(7, id, call), plan.fate(7, id, call));
            assert_eq!((one.latency, &one.outcome), (two.latency, &two.outcome));
            assert!((plan.latency_min..=plan.latency_max).contains(&one.latency));
            failures += u32::from(one.outcome.is_err());
        }
        assert!((2_300..2_700).contains(&failures), "{failures}");
    }

    #[test]
    fn the_shares_of_refusals_and_of_guests_that_do_not_listen_are_kept() {
        let plan = FaultPlan {
            refusals_per_mille: 100,
            deaf_per_mille: 300,
            ..FaultPlan::default()
        };
        let ids = (1..10_000).map(|n| InstanceId::new(n << 20));
        let (refused, deaf) = ids.fold((0, 0), |(refused, deaf), id| {
            let outcome = plan.fate(7, id, 1).outcome;
            assert_eq!(plan.is_deaf(7, id), plan.is_deaf(7, id));
            (
                refused + u32::from(outcome.is_err_and(|error| error.is_permanent())),
                deaf + u32::from(plan.is_deaf(7, id)),
            )
        });
        assert!((850..1_150).contains(&refused), "{refused}");
        assert!((2_700..3_300).contains(&deaf), "{deaf}");
        let listens = FaultPlan::default();
        assert!(!(1..1_000).any(|n| listens.is_deaf(7, InstanceId::new(n << 20))));
    }
}
