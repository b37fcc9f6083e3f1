//! `cumulet admin cloud` and `cumulet admin broker`: the settings that processes on other machines need.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use cumulet_backend::bootstrap;
use cumulet_bus::rabbit::{control_user_commands, host_user_commands};
use cumulet_domain::id::HostId;

use super::super::{CloudArgs, operator};
use crate::{telemetry::say, wiring};

/// `cumulet admin cloud`.
#[derive(Args, Debug)]
pub(crate) struct Cloud {
    #[command(flatten)]
    cloud: CloudArgs,
}

impl Cloud {
    pub(crate) fn run(self) -> Result<ExitCode> {
        operator::run(&self.cloud, |_, parts| async move {
            let first = bootstrap::existing(parts.store.read()).await?;
            say(first.context(MISSING)?.cloud_id);
            Ok(())
        })
    }
}

const MISSING: &str = "the cloud has not been started yet; `cumulet up` first";

/// `cumulet admin broker`: the commands that make RabbitMQ's users for this cloud.
#[derive(Debug, Subcommand)]
pub(crate) enum Broker {
    /// Print the rabbitmqctl commands for the user of gateways, schedulers and conductors.
    ControlUser(ControlUser),
    /// Print the rabbitmqctl commands for the user of one host's worker, which may do nothing else.
    HostUser(HostUser),
}

/// For the control plane.
#[derive(Args, Debug)]
pub(crate) struct ControlUser {
    #[command(flatten)]
    cloud: CloudArgs,
    /// RabbitMQ's virtual host.
    #[arg(long, default_value = "/")]
    vhost: String,
    /// The user's name.
    #[arg(default_value = "cumulet")]
    name: String,
}

/// For a worker.
#[derive(Args, Debug)]
pub(crate) struct HostUser {
    #[command(flatten)]
    cloud: CloudArgs,
    /// RabbitMQ's virtual host.
    #[arg(long, default_value = "/")]
    vhost: String,
    /// The host's name in the cloud.
    host: String,
}

impl Broker {
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self {
            Broker::ControlUser(ControlUser { cloud, vhost, name }) => {
                print(&cloud, move |prefix| control_user_commands(&vhost, prefix, &name))
            }
            Broker::HostUser(HostUser { cloud, vhost, host }) => print(&cloud, move |prefix| {
                host_user_commands(&vhost, prefix, &HostId(host))
            }),
        }
    }
}

fn print(cloud: &CloudArgs, commands: impl FnOnce(&str) -> Vec<String>) -> Result<ExitCode> {
    operator::run(cloud, |_, parts| async move {
        let first = bootstrap::existing(parts.store.read()).await?.context(MISSING)?;
        commands(&wiring::bus_prefix(&first.cloud_id))
            .iter()
            .for_each(say);
        Ok(())
    })
}
