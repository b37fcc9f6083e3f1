//! Counters of the service. One cell per instance, and one for callers that are none.

use std::{
    ops::AddAssign,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// A reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Reads answered without a session token (IMDSv1).
    pub v1: u64,
    /// Reads answered with one (IMDSv2).
    pub v2: u64,
    /// Tokens given out.
    pub tokens: u64,
    /// 401: a token was missing, foreign, forged or expired.
    pub unauthorized: u64,
    /// 403: the endpoint is disabled, or a proxy or a foreign host name was involved.
    pub forbidden: u64,
    /// 404: no such path, or no instance has the caller's address.
    pub not_found: u64,
    /// 503: too many reads or connections.
    pub throttled: u64,
    /// 400, 405 and 431.
    pub malformed: u64,
}

impl AddAssign for Counters {
    fn add_assign(&mut self, other: Counters) {
        self.v1 += other.v1;
        self.v2 += other.v2;
        self.tokens += other.tokens;
        self.unauthorized += other.unauthorized;
        self.forbidden += other.forbidden;
        self.not_found += other.not_found;
        self.throttled += other.throttled;
        self.malformed += other.malformed;
    }
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    V1,
    V2,
    Token,
    Unauthorized,
    Forbidden,
    NotFound,
    Throttled,
    Malformed,
}

/// The counting side.
#[derive(Debug, Default)]
pub(crate) struct Cell([AtomicU64; 8]);

impl Cell {
    pub(crate) fn count(&self, event: Event) {
        self.0[event as usize].fetch_add(1, Relaxed);
    }

    pub(crate) fn read(&self) -> Counters {
        let of = |event: Event| self.0[event as usize].load(Relaxed);
        Counters {
            v1: of(Event::V1),
            v2: of(Event::V2),
            tokens: of(Event::Token),
            unauthorized: of(Event::Unauthorized),
            forbidden: of(Event::Forbidden),
            not_found: of(Event::NotFound),
            throttled: of(Event::Throttled),
            malformed: of(Event::Malformed),
        }
    }
}
