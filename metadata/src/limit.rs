//! The rate limit of an instance's reads: a token bucket in one atomic number (the generic cell rate
//! algorithm), so that threads share it without a lock.

use std::sync::atomic::{AtomicU64, Ordering};

use cumulet_domain::time::Timestamp;

use crate::config::Limits;

/// The bucket. The number is the time, in microseconds, at which it would be full again.
#[derive(Debug, Default)]
pub(crate) struct Bucket(AtomicU64);

impl Bucket {
    /// Takes a read out; `false` when there is none.
    pub(crate) fn take(&self, limits: &Limits, now: Timestamp) -> bool {
        if limits.requests_per_second == 0 {
            return true;
        }
        let now = u64::try_from(now.0).unwrap_or(0).saturating_mul(1000);
        let each = 1_000_000 / u64::from(limits.requests_per_second);
        let whole = each * u64::from(limits.burst);
        let taken = self
            .0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |full_at| {
                // Further ahead than a bucket can be: the clock was set back. Not the guest's fault.
                let full_at = if full_at > now + whole {
                    now
                } else {
                    full_at.max(now)
                };
                (full_at + each <= now + whole).then_some(full_at + each)
            });
        taken.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(bucket: &Bucket, now: i64) -> usize {
        let limits = Limits::default();
        (0..1000).filter(|_| bucket.take(&limits, Timestamp(now))).count()
    }

    #[test]
    fn a_burst_then_the_rate() {
        let bucket = Bucket::default();
        let start = 1_767_323_045_000;
        assert_eq!(taken(&bucket, start), 400);
        assert_eq!(taken(&bucket, start), 0);
        assert_eq!(taken(&bucket, start + 1000), 200);
        assert_eq!(taken(&bucket, start + 1005), 1);
        assert_eq!(taken(&bucket, start + 60_000), 400);
    }

    #[test]
    fn a_clock_set_back_costs_nothing() {
        let bucket = Bucket::default();
        assert_eq!(taken(&bucket, 3_600_000), 400);
        assert_eq!(taken(&bucket, 0), 400);
        assert_eq!(taken(&bucket, 1000), 200);
    }

    #[test]
    fn zero_is_unlimited() {
        let limits = Limits {
            requests_per_second: 0,
            ..Limits::default()
        };
        let bucket = Bucket::default();
        assert!((0..1000).all(|_| bucket.take(&limits, Timestamp(0))));
    }
}
