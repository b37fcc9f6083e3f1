//! The inventory of this host, for the audit.

use std::{path::Path, sync::Arc};

use anyhow::{Context, Result};
use cumulet_bus::LocalBus;
use cumulet_domain::time::SystemClock;

use super::{Driver, HostParts};
use crate::{config::Config, state::StateDir};

/// Everything that is on this host because of a cloud. Changes nothing, and starts nothing.
pub(crate) async fn inventory(
    state: &StateDir,
    config: &Config,
    cloud: &str,
) -> Result<Vec<cumulet_worker::HostObject>> {
    let scratch = state.run().join(format!("audit-{}", std::process::id()));
    let found = observe(state, config, cloud, &scratch).await;
    if scratch.exists() {
        std::fs::remove_dir_all(&scratch).with_context(|| scratch.display().to_string())?;
    }
    found
}

async fn observe(
    state: &StateDir,
    config: &Config,
    cloud: &str,
    scratch: &Path,
) -> Result<Vec<cumulet_worker::HostObject>> {
    let driver = Driver::observe(state, config, cloud, scratch).await?;
    let (bus, clock) = (Arc::new(LocalBus::new()), Arc::new(SystemClock));
    let mut found = Vec::new();
    for worker in driver.workers(&HostParts {
        state,
        config,
        bus,
        clock,
        served: false,
        console: None,
    })? {
        found.extend(worker.inventory().await?);
    }
    Ok(found)
}
