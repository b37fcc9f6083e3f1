//! Token buckets in one atomic number each (the generic cell rate algorithm), so that threads share one
//! without a lock.

use std::sync::atomic::{AtomicU64, Ordering};

use cumulet_domain::time::Timestamp;

/// What a bucket gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Units a second in the long run; 0: as many as anybody wants.
    pub per_second: u32,
    /// Units at once after a pause.
    pub burst: u32,
}

impl Rate {
    /// Without an end.
    pub const UNLIMITED: Rate = Rate {
        per_second: 0,
        burst: 0,
    };
}

/// A bucket. The number is the time, in nanoseconds, at which it is full again.
#[derive(Debug, Default)]
pub(super) struct Bucket(AtomicU64);

impl Bucket {
    /// Takes so many units out; `false` when they are not there. Of what costs more than a bucket holds, a
    /// full one gives what it has.
    pub(super) fn take(&self, units: u32, rate: Rate, now: Timestamp) -> bool {
        let Some((now, each)) = scale(rate, now) else {
            return true;
        };
        let whole = each.saturating_mul(rate.burst.into());
        let wanted = each.saturating_mul(units.into());
        let taken = self
            .0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |full_at| {
                let full_at = full_at.max(now);
                let room = full_at == now || full_at - now + wanted <= whole;
                room.then(|| full_at.saturating_add(wanted))
            });
        taken.is_ok()
    }

    /// Takes out what was used already, whether it is there or not: the next ones wait for it. No debt is
    /// larger than a bucket.
    pub(super) fn charge(&self, units: u32, rate: Rate, now: Timestamp) {
        let Some((now, each)) = scale(rate, now) else {
            return;
        };
        let most = now.saturating_add(each.saturating_mul(rate.burst.into()).saturating_mul(2));
        let _ = self
            .0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |full_at| {
                let owed = full_at.max(now).saturating_add(each.saturating_mul(units.into()));
                Some(owed.min(most.max(full_at)))
            });
    }

    /// Puts back what was taken and not used.
    pub(super) fn give_back(&self, units: u32, rate: Rate, now: Timestamp) {
        if let Some((_, each)) = scale(rate, now) {
            let back = each.saturating_mul(units.into());
            let _ = self
                .0
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, |full_at| {
                    Some(full_at.saturating_sub(back))
                });
        }
    }

    /// Whether it is full.
    pub(super) fn is_full(&self, now: Timestamp) -> bool {
        self.0.load(Ordering::Acquire) <= nanos(now)
    }
}

fn nanos(now: Timestamp) -> u64 {
    u64::try_from(now.0).unwrap_or(0).saturating_mul(1_000_000)
}

/// The time, and how long a unit takes to come back; `None` where there is no limit.
fn scale(rate: Rate, now: Timestamp) -> Option<(u64, u64)> {
    (rate.per_second > 0).then(|| (nanos(now), 1_000_000_000 / u64::from(rate.per_second)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        per_second: 200,
        burst: 400,
    };
    const START: i64 = 1_767_323_045_000;

    fn taken(bucket: &Bucket, units: u32, now: i64) -> usize {
        (0..1000)
            .filter(|_| bucket.take(units, RATE, Timestamp(now)))
            .count()
    }

    #[test]
    fn a_burst_then_the_rate() {
        let bucket = Bucket::default();
        assert_eq!(taken(&bucket, 1, START), 400);
        assert_eq!(taken(&bucket, 1, START), 0);
        assert_eq!(taken(&bucket, 1, START + 1000), 200);
        assert_eq!(taken(&bucket, 1, START + 1005), 1);
        assert_eq!(taken(&bucket, 4, START + 60_000), 100);
        assert!(bucket.is_full(Timestamp(START + 62_000)) && !bucket.is_full(Timestamp(START + 61_000)));
    }

    #[test]
    fn what_costs_more_than_a_bucket_holds_is_to_be_had_of_a_full_one() {
        let bucket = Bucket::default();
        assert_eq!(taken(&bucket, 1000, START), 1);
        assert_eq!(taken(&bucket, 1, START + 4999 - 2000), 0);
        assert_eq!(taken(&bucket, 1, START + 5000 - 1000), 200);
    }

    #[test]
    fn debts_are_waited_for_and_end() {
        let bucket = Bucket::default();
        bucket.charge(u32::MAX, RATE, Timestamp(START));
        assert_eq!(taken(&bucket, 1, START + 1999), 0);
        assert_eq!(taken(&bucket, 1, START + 4000), 400);
        bucket.give_back(400, RATE, Timestamp(START + 4000));
        assert_eq!(taken(&bucket, 1, START + 4000), 400);
    }

    #[test]
    fn no_rate_is_no_limit() {
        let bucket = Bucket::default();
        bucket.charge(u32::MAX, Rate::UNLIMITED, Timestamp(START));
        assert!((0..1000).all(|_| bucket.take(1000, Rate::UNLIMITED, Timestamp(START))));
    }
}
