//! `cumulet db`: migrations.

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;
use cumulet_backend::store::{connect, schema};

use super::CloudArgs;
use crate::telemetry::say;

/// See the module.
#[derive(Debug, Subcommand)]
pub(crate) enum Db {
    /// Bring the schema up to date. `cumulet up` does it by itself.
    Migrate(CloudArgs),
    /// List the migrations and whether each has been applied.
    Status(CloudArgs),
}

impl Db {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let options = match self {
            Db::Migrate(cloud) => cloud.open()?.options(&cloud.config()?, 1)?,
            Db::Status(cloud) => cloud.open()?.existing(&cloud.config()?, 1)?,
        };
        runtime.block_on(async {
            if let Db::Migrate(_) = self {
                drop(connect(&options).await?);
            }
            for (name, applied) in schema(&options).await? {
                say(format_args!(
                    "{:8} {name}",
                    if applied { "applied" } else { "pending" }
                ));
            }
            Ok(ExitCode::SUCCESS)
        })
    }
}
