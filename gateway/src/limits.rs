//! Limits of connections: how many there are, and how long each part of a request may take.

use std::time::Duration;

/// What connections may use, so that slow clients hold up no others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open connections. When there are more, those that have waited longest are closed: first strangers',
    /// of which no request was answered well so far. A connection whose request is being worked on stays.
    pub connections: usize,
    /// From one answer to the next request.
    pub idle: Duration,
    /// For a request's head to arrive.
    pub head: Duration,
    /// For each MiB of a request's body to arrive, from when it is waited for.
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
