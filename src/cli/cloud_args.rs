//! The arguments that say which cloud a command is about.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::{config::Config, state::StateDir};

/// Which cloud a command is about.
#[derive(Args, Clone, Debug)]
pub(crate) struct CloudArgs {
    /// The cloud's state directory.
    #[arg(
        long,
        env = "CUMULET_STATE_DIR",
        default_value = "/var/lib/cumulet",
        value_name = "DIR"
    )]
    state_dir: PathBuf,
    /// A TOML file; `cumulet config` lists its keys.
    #[arg(long, env = "CUMULET_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

impl CloudArgs {
    /// The directory of a cloud that was started before.
    pub(crate) fn open(&self) -> Result<StateDir> {
        StateDir::open(&self.state_dir)
    }

    /// The configuration: the file's and the environment's.
    pub(crate) fn config(&self) -> Result<Config> {
        Config::load(self.config.as_deref())
    }

    /// The directory, made if it is not there.
    pub(crate) fn create(&self) -> Result<StateDir> {
        StateDir::create(&self.state_dir)
    }
}
