//! Deadlines of operations, which exclude jumps of the wall clock. A deadline is a time of a clock that can
//! be set: what a jump skips has not passed, and no operation under way fails for it. The engine asks it
//! every round.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use cumulet_domain::time::Timestamp;
use tokio::time::Instant;

/// How far the two clocks may be apart between two looks without one having been set.
const SLACK: Duration = Duration::from_secs(5);

/// As long as this after a jump there may be operations that were begun before it.
const LONGEST: Duration = Duration::from_secs(600);

/// Clocks may differ by so much, in milliseconds.
const SKEW: i64 = 30_000;

/// Whether what a host saw at a time was after something that was written down. What is later than now was
/// written down before the clock was set back, and all that is seen by the new time was seen after it.
pub fn is_after(at: Timestamp, written: i64, now: Timestamp) -> bool {
    let latest = now.0.saturating_add(SKEW);
    written < at.0 || (written > latest && at.0 <= latest)
}

/// Compares the clock on the wall with one that is never set. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct DeadlineClock(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    last: Option<(Timestamp, Instant)>,
    /// The jumps ahead of late, and when they were seen.
    jumps: VecDeque<(Instant, Duration)>,
}

impl DeadlineClock {
    /// The time by which deadlines are judged: `now`, less what the clock has lately been set ahead. (One
    /// that was set back only makes deadlines later.) To be asked every few seconds.
    pub fn by(&self, now: Timestamp) -> Timestamp {
        self.at(now, Instant::now())
    }

    fn at(&self, now: Timestamp, steady: Instant) -> Timestamp {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((wall, then)) = state.last.replace((now, steady)) {
            let skipped = now.since(wall).saturating_sub(steady - then);
            if skipped > SLACK {
                tracing::warn!(?skipped, "the clock was set ahead; deadlines wait");
                state.jumps.push_back((steady, skipped));
            }
        }
        while state.jumps.front().is_some_and(|(at, _)| steady - *at > LONGEST) {
            state.jumps.pop_front();
        }
        let skipped: Duration = state.jumps.iter().map(|(_, by)| *by).sum();
        Timestamp(
            now.0
                .saturating_sub(i64::try_from(skipped.as_millis()).unwrap_or(i64::MAX)),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_ahead_is_no_time_that_has_passed() {
        let (deadlines, began) = (DeadlineClock::default(), Instant::now());
        let at = |seconds: u64, wall: i64| {
            let by = deadlines.at(Timestamp(wall * 1000), began + Duration::from_secs(seconds));
            by.0 / 1000
        };
        assert_eq!(at(0, 100), 100);
        assert_eq!(at(2, 102), 102);
        assert_eq!(at(4, 3704), 104, "an hour ahead");
        assert_eq!(at(304, 4004), 404);
        assert_eq!(
            at(306, 406),
            406 - 3600,
            "and back: later for all that was begun before"
        );
        assert_eq!(
            at(700, 800),
            800,
            "what was begun before the jump has had its time"
        );
    }
}
