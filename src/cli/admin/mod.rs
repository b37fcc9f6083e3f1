//! `cumulet admin`: what the operator does with hosts, services, aggregates and instance types. One file
//! each.

mod aggregate;
mod cluster;
mod console;
mod host;
mod instance_type;
mod service;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde::Serialize;

use super::CloudArgs;
use crate::telemetry::say;

/// `cumulet admin`.
#[derive(Debug, Subcommand)]
pub(crate) enum Admin {
    /// List hosts, take them out, empty them, plan their maintenance.
    #[command(subcommand)]
    Host(host::Host),
    /// List the processes of the cloud and when they were heard last.
    #[command(subcommand)]
    Service(service::Service),
    /// Print the cloud's id, which processes without the database are told by the key `cloud`.
    Cloud(cluster::Cloud),
    /// Print the commands that make the broker's users.
    #[command(subcommand)]
    Broker(cluster::Broker),
    /// Print a URL that opens an instance's console once, within a time. Whoever has it has the console.
    Console(console::Console),
    /// Print the key that verifies console tokens, which processes without the database are told by the key
    /// `console.public_key`.
    ConsoleKey(console::ConsoleKey),
    /// Put hosts together, with metadata that scheduler filters go by.
    #[command(subcommand)]
    Aggregate(aggregate::Aggregate),
    /// Set what instance types want of a host.
    #[command(subcommand)]
    InstanceType(instance_type::InstanceType),
}

impl Admin {
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self {
            Admin::Host(command) => command.run(),
            Admin::Service(command) => command.run(),
            Admin::Cloud(command) => command.run(),
            Admin::Broker(command) => command.run(),
            Admin::Console(command) => command.run(),
            Admin::ConsoleKey(command) => command.run(),
            Admin::Aggregate(command) => command.run(),
            Admin::InstanceType(command) => command.run(),
        }
    }
}

/// A list that is asked for.
#[derive(Args, Clone, Debug)]
pub(crate) struct Listing {
    #[command(flatten)]
    cloud: CloudArgs,
    /// For machines: one JSON array.
    #[arg(long)]
    json: bool,
}

impl Listing {
    /// Prints what was found: lines of `cells`, or JSON.
    fn print<T: Serialize>(&self, found: &[T], cells: impl Fn(&T) -> String) -> Result<()> {
        if self.json {
            say(serde_json::to_string_pretty(found)?);
        } else {
            found.iter().for_each(|one| say(cells(one)));
        }
        Ok(())
    }
}

/// `KEY=VALUE`, to set it, or `KEY`, to remove it.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    key: String,
    value: Option<String>,
}

impl std::str::FromStr for Change {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text.split_once('=') {
            Some((key, value)) => Change {
                key: key.into(),
                value: Some(value.into()),
            },
            None => Change {
                key: text.into(),
                value: None,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_sets_or_removes() {
        for (text, key, value) in [
            ("ssd=true", "ssd", Some("true")),
            ("capabilities:cpus=>= 4", "capabilities:cpus", Some(">= 4")),
            ("ssd", "ssd", None),
        ] {
            let change: Change = text.parse().unwrap();
            assert_eq!((change.key.as_str(), change.value.as_deref()), (key, value));
        }
    }
}
