//! The bus of a process: queues in memory where all roles are in it, a broker otherwise.

use std::{path::PathBuf, sync::Arc};

use anyhow::{Context, Result};
use cumulet_bus::{Bus, LocalBus, RabbitBus, RabbitConfig};
use cumulet_domain::time::Clock;

use crate::config::Config;

/// Opens the configured bus.
pub(super) async fn open(config: &Config, cloud: &str, clock: Arc<dyn Clock>) -> Result<Arc<dyn Bus>> {
    let url = config.text("bus");
    if url.is_empty() {
        return Ok(local());
    }
    let mut rabbit = RabbitConfig::new(url, prefix(cloud));
    rabbit.ca_file = Some(config.text("bus_ca_file"))
        .filter(|path| !path.is_empty())
        .map(PathBuf::from);
    let bus = RabbitBus::connect(rabbit, clock).await.context("the broker")?;
    Ok(Arc::new(bus))
}

/// A bus of this process alone.
pub(crate) fn local() -> Arc<dyn Bus> {
    Arc::new(LocalBus::new())
}

/// What every name of a cloud at the broker begins with.
pub(crate) fn prefix(cloud: &str) -> String {
    format!("cumulet-{cloud}")
}
