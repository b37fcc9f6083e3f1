//! `cumulet admin console` and `cumulet admin console-key`.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use cumulet_backend::api::consoles;
use cumulet_domain::{console::ConsoleKind, id::InstanceId};
use serde_json::json;

use super::super::{CloudArgs, operator};
use crate::{telemetry::say, wiring};

/// `cumulet admin console`.
#[derive(Args, Debug)]
pub(crate) struct Console {
    #[command(flatten)]
    cloud: CloudArgs,
    /// The instance's id.
    instance: InstanceId,
    /// Which console: serial, or vnc (screen, keyboard and mouse).
    #[arg(long = "type", default_value = "serial", value_name = "TYPE")]
    kind: ConsoleKind,
    /// For machines: one JSON object.
    #[arg(long)]
    json: bool,
}

impl Console {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let config = self.cloud.config()?;
        let time = wiring::console_token_time(&config)?;
        operator::run(&self.cloud, |_, parts| async move {
            let granted = consoles::grant(&parts, self.instance, self.kind, time).await?;
            let endpoint = wiring::console_endpoint(&config, &parts).await?;
            let url = format!("ws://{endpoint}/?token={}", granted.token.expose());
            if self.json {
                say(serde_json::to_string_pretty(&json!({
                    "instance": self.instance.to_string(),
                    "type": self.kind.name(),
                    "host": granted.host,
                    "url": url,
                    "expires": granted.expires.to_string(),
                }))?);
            } else {
                say(url);
            }
            Ok(())
        })
    }
}

/// `cumulet admin console-key`.
#[derive(Args, Debug)]
pub(crate) struct ConsoleKey {
    #[command(flatten)]
    cloud: CloudArgs,
}

impl ConsoleKey {
    pub(crate) fn run(self) -> Result<ExitCode> {
        operator::run(&self.cloud, |_, parts| async move {
            say(consoles::verifier(&parts).await?);
            Ok(())
        })
    }
}
