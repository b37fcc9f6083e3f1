//! Retention periods of what has ended: terminated instances, client tokens, finished operations, entries of
//! the audit log.
//!
//! - A terminated instance is shown for an hour, as on EC2; then its id is not found and its tags are gone.
//!   Its row stays, out of sight, for as long as the client token that made it is good, so that a launch
//!   that is sent again is answered with the instances that it made.
//! - A client token is good for a day, the least that EC2 promises.
//! - A finished operation answers no question of a client: a day, for the operator who looks for what went wrong.
//! - The audit log says who did what to things that are long gone: a quarter of a year. Who makes many calls
//!   makes it grow, so it has a size too, beyond which the oldest entries go first.

use std::time::Duration;

use cumulet_domain::time::Timestamp;

/// How long something is kept after it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetentionPeriod(Option<Duration>);

impl RetentionPeriod {
    /// So many seconds; 0: for ever.
    pub const fn seconds(seconds: u64) -> Self {
        RetentionPeriod(if seconds == 0 {
            None
        } else {
            Some(Duration::from_secs(seconds))
        })
    }

    /// What ended at this time or earlier has had its time.
    pub fn horizon(self, now: Timestamp) -> Timestamp {
        let millis = self.0.and_then(|keep| i64::try_from(keep.as_millis()).ok());
        Timestamp(millis.map_or(i64::MIN, |millis| now.0.saturating_sub(millis)))
    }
}

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Terminated instances, from their end on.
    pub terminated_instances: RetentionPeriod,
    /// Client tokens, from their first use on.
    pub client_tokens: RetentionPeriod,
    /// Operations, from when they finished.
    pub operations: RetentionPeriod,
    /// Entries of the audit log.
    pub audit_log: RetentionPeriod,
    /// Bytes of the audit log, about; 0: as many as there are.
    pub audit_log_bytes: u64,
}

impl Default for Retention {
    fn default() -> Self {
        const HOUR: u64 = 3600;
        Retention {
            terminated_instances: RetentionPeriod::seconds(HOUR),
            client_tokens: RetentionPeriod::seconds(24 * HOUR),
            operations: RetentionPeriod::seconds(24 * HOUR),
            audit_log: RetentionPeriod::seconds(90 * 24 * HOUR),
            audit_log_bytes: 4 << 30,
        }
    }
}

impl Retention {
    /// How often to look for what has had its time: a small part of the shortest time, and at least every
    /// minute.
    pub fn interval(&self) -> Duration {
        let all = [
            self.terminated_instances,
            self.client_tokens,
            self.operations,
            self.audit_log,
        ];
        let shortest = all.into_iter().filter_map(|keep| keep.0).min();
        let part = shortest.unwrap_or(Duration::MAX) / 10;
        part.clamp(Duration::from_secs(1), Duration::from_secs(60))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_horizon_is_that_long_ago_or_never() {
        let now = Timestamp(10_000);
        assert_eq!(RetentionPeriod::seconds(3).horizon(now), Timestamp(7_000));
        assert_eq!(RetentionPeriod::seconds(0).horizon(now), Timestamp(i64::MIN));
        assert_eq!(
            RetentionPeriod::seconds(u64::MAX).horizon(now),
            Timestamp(i64::MIN)
        );
    }

    #[test]
    fn it_is_looked_for_at_least_every_minute() {
        let mut keep = Retention::default();
        assert_eq!(keep.interval(), Duration::from_secs(60));
        keep.operations = RetentionPeriod::seconds(100);
        assert_eq!(keep.interval(), Duration::from_secs(10));
        keep.operations = RetentionPeriod::seconds(1);
        assert_eq!(keep.interval(), Duration::from_secs(1));
    }
}
