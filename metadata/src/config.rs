//! The service's limits and switches, for the operator and for tests.

use std::time::Duration;

use cumulet_certs::MasterKey;

/// How the service runs.
#[derive(Clone, Debug)]
pub struct Config {
    /// Threads that accept and answer; at least one.
    pub threads: usize,
    /// The `Host` headers that are answered.
    pub hosts: Hosts,
    /// What one instance may use.
    pub limits: Limits,
    /// `services/domain`: what clients append to a service's name to find it.
    pub services_domain: String,
    /// `services/partition`: the second part of ARNs.
    pub services_partition: String,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            threads: 1,
            hosts: Hosts::Metadata,
            limits: Limits::default(),
            services_domain: "cumulet.internal".into(),
            services_partition: "aws".into(),
        }
    }
}

/// Which `Host` headers are answered. A browser in a guest that was lured to a name which suddenly
/// resolves to the service's address (DNS rebinding) sends that name here and is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hosts {
    /// `169.254.169.254`, `[fd00:ec2::254]`, each with or without `:80`, or none.
    Metadata,
    /// Every one: for tests on other addresses.
    Any,
}

/// What one instance may use. A boot of stock cloud-init is about 60 requests on as many connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open connections; reads on more are answered with 503, and twice as many are not accepted.
    pub connections: u32,
    /// Reads per second in the long run; zero means unlimited.
    pub requests_per_second: u32,
    /// Reads at once after a pause.
    pub burst: u32,
    /// Bytes of a request's head.
    pub head: usize,
    /// How long a connection may say nothing.
    pub idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: 64,
            requests_per_second: 200,
            burst: 400,
            head: 8192,
            idle: Duration::from_secs(30),
        }
    }
}

/// What session tokens are made from. With the same secret and epoch, tokens stay valid when the
/// service restarts, on whichever host it does.
#[derive(Clone, Debug)]
pub struct TokenSecret {
    /// Each instance's key is derived from this.
    pub master: MasterKey,
    /// Raise it to revoke every token.
    pub epoch: u8,
}
