//! The command line: one file a family of sub-commands.

mod account;
mod admin;
mod advice;
mod audit;
mod cloud_args;
mod config;
mod database;
mod doctor;
mod env;
mod image;
mod jobs;
mod kill_each;
mod operator;
mod simulate;
mod up;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

pub(crate) use advice::told;
use cloud_args::CloudArgs;

/// An EC2-compatible cloud: real virtual machines behind the AWS API.
#[derive(Debug, Parser)]
#[command(name = "cumulet", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the cloud, or some of its roles, in the foreground.
    Up(up::Up),
    /// Print shell exports for the AWS CLI, boto3 and euca2ools.
    Env(env::Env),
    /// Import, list, name and delete machine images.
    #[command(subcommand)]
    Image(image::Image),
    /// Create and list accounts.
    #[command(subcommand)]
    Account(account::Account),
    /// Create and list the users of an account.
    #[command(subcommand)]
    User(account::User),
    /// Create, list, disable and delete access keys.
    #[command(subcommand)]
    AccessKey(account::AccessKey),
    /// Look after hosts, services, aggregates and instance types.
    #[command(subcommand)]
    Admin(admin::Admin),
    /// Run the control plane with simulated hosts under a virtual clock; exit 0 only when all holds.
    Simulate(simulate::Simulate),
    /// Say what this host can do, and what is enforced.
    Doctor(doctor::Doctor),
    /// Compare the database with what is on this host; exit 0 only when they agree.
    Audit(audit::Audit),
    /// Look after the database.
    #[command(subcommand)]
    Db(database::Db),
    /// List the points at which a test may kill the cloud.
    #[command(hide = true)]
    CrashPoints {
        /// Those of `up`, which is no operation.
        #[arg(long)]
        up: bool,
    },
    /// List every configuration key with its default, environment variable and meaning.
    Config(config::ShowConfig),
}

impl Cli {
    /// Runs the command.
    pub(crate) fn run(self) -> Result<ExitCode> {
        cumulet_domain::faults::arm().map_err(anyhow::Error::msg)?;
        if cumulet_domain::crash::armed() {
            drop(cumulet_backend::conductor::crash_points());
        }
        match self.command {
            Command::Up(command) => command.run(),
            Command::Env(command) => command.run(),
            Command::Image(command) => command.run(),
            Command::Account(command) => command.run(),
            Command::User(command) => command.run(),
            Command::AccessKey(command) => command.run(),
            Command::Admin(command) => command.run(),
            Command::Simulate(command) => command.run(),
            Command::Doctor(command) => command.run(),
            Command::Audit(command) => command.run(),
            Command::Db(command) => command.run(),
            Command::CrashPoints { up } => {
                let operations = cumulet_backend::conductor::crash_points().into_iter();
                let names: Vec<_> = if up {
                    cumulet_backend::store::up_points()
                } else {
                    operations.map(|point| point.name).collect()
                };
                crate::telemetry::say(names.join("\n"));
                Ok(ExitCode::SUCCESS)
            }
            Command::Config(command) => command.run(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
