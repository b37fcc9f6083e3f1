//! `cumulet config`: the table of configuration keys.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use crate::{config::KEYS, telemetry::say};

/// See the module.
#[derive(Args, Debug)]
pub(crate) struct ShowConfig {}

impl ShowConfig {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        say(
            "# Keys of the file given with `cumulet up --config FILE` (TOML). The environment variable wins over the file.",
        );
        for key in KEYS {
            say(format_args!(
                "\n# {}\n# ${}\n{} = {:?}",
                key.doc(),
                key.variable(),
                key.name,
                key.default
            ));
        }
        Ok(ExitCode::SUCCESS)
    }
}
