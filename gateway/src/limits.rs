//! Limits of connections: how many there are, and how long each part of a request may take.

use std::time::Duration;

/// What connections may use, so that slow clients hold up no others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open connections. When there are more, those that have waited longest are closed: first those
    /// without any request so far. A connection whose request is being answered stays.
    pub connections: usize,
    /// From one answer to the next request.
    pub idle: Duration,
    /// For a request's head to arrive.
    pub head: Duration,
    /// For a request's body to arrive; of one that is taken piece by piece, for each MiB.
    pub body: Duration,
    /// From one piece of an answer that a client takes to the next.
    pub stall: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: 2048,
            idle: Duration::from_secs(60),
            head: Duration::from_secs(10),
            body: Duration::from_secs(30),
            stall: Duration::from_secs(30),
        }
    }
}
