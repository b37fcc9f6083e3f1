//! The bus of a process: queues in memory where all roles are in it, a broker otherwise.

use std::sync::Arc;

use anyhow::{Result, bail};
use cumulet_bus::{Bus, LocalBus};

use crate::config::Config;

/// Opens the configured bus.
pub(super) async fn open(config: &Config, _cloud: &str) -> Result<Arc<dyn Bus>> {
    match config.text("bus") {
        "" => Ok(Arc::new(LocalBus::new())),
        _ => bail!("not wired"),
    }
}
