//! `cumulet audit`: the database against what is on this host.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::CloudArgs;
use crate::{audit, telemetry::say};

/// See the module.
#[derive(Args, Debug)]
pub(crate) struct Audit {
    #[command(flatten)]
    cloud: CloudArgs,
    /// What ran the instances: libvirt or fake. By default what the last `cumulet up` used.
    #[arg(long)]
    driver: Option<String>,
    /// Compare only what the database has on this host: each host of a cluster is audited by itself.
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

impl Audit {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let state = self.cloud.open()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let mut config = self.cloud.config()?;
        config.driver.replace(self.driver.clone());
        config.host.replace(self.host.clone());
        let asked = audit::Asked {
            driver: self.driver.is_some(),
            host: self.host.clone(),
        };
        let report = runtime.block_on(audit::run(&state, config, &asked))?;
        if self.json {
            say(serde_json::to_string_pretty(&report)?);
        } else {
            for difference in &report.differences {
                say(difference);
            }
            say(format_args!(
                "{} objects compared, {} differences",
                report.compared,
                report.differences.len()
            ));
        }
        Ok(if report.differences.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}
