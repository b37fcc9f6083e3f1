//! The wiring of the bus: queues in memory where all roles are in one process, a broker otherwise.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use cumulet_bus::{Bus, Chaos, ChaosPlan, LocalBus, RabbitBus, RabbitConfig};
use cumulet_domain::{faults, time::Clock};

use crate::{
    config::Config,
    roles::{Role, Roles},
    telemetry::Progress,
};

/// How often it is tried to reach the broker at the start, and the pause between.
const TRIES: u32 = 15;
const PAUSE: Duration = Duration::from_secs(2);

/// How often a test's file is looked for.
const LOOK: Duration = Duration::from_millis(20);

/// Opens the configured bus.
pub(super) async fn open(
    config: &Config,
    roles: &Roles,
    cloud: &str,
    clock: Arc<dyn Clock>,
    progress: &Progress,
) -> Result<Arc<dyn Bus>> {
    // The metadata role by itself has nobody to speak to there.
    if !roles.control() && !roles.has(Role::Compute) {
        return Ok(local());
    }
    let url = config.bus.text();
    if url.is_empty() {
        return Ok(local());
    }
    let mut rabbit = RabbitConfig::new(url, prefix(cloud));
    rabbit.ca_file = Some(config.bus_ca_file.text())
        .filter(|path| !path.is_empty())
        .map(PathBuf::from);
    // A host sees to its guests also while there is no broker.
    rabbit.patient = !roles.control();
    progress.step("connecting to the broker");
    Ok(with_faults(Arc::new(connect(rabbit, clock).await?)))
}

/// The bus as a test wants it to be: messages that are lost, repeated or late.
fn with_faults(bus: Arc<dyn Bus>) -> Arc<dyn Bus> {
    let asked = faults::asked();
    let faults = &asked.faults;
    if !faults.of_messages() {
        return bus;
    }
    tracing::warn!(?faults, "messages are treated badly");
    let plan = ChaosPlan {
        lose_every: faults.lose.into(),
        copies: faults.repeat.max(1),
        jitter: Duration::from_millis(faults.reorder.into()),
        ..ChaosPlan::default()
    };
    let chaos = Arc::new(Chaos::new(bus, plan, Box::new(rand::random)));
    if let Some(file) = &asked.only_while {
        tokio::spawn(follow(chaos.clone(), plan, file.clone()));
    }
    chaos
}

/// Treats messages badly while the file is there.
async fn follow(chaos: Arc<Chaos>, plan: ChaosPlan, file: PathBuf) {
    loop {
        let there = tokio::fs::try_exists(&file).await.unwrap_or(false);
        chaos.change(if there { plan } else { ChaosPlan::default() });
        tokio::time::sleep(LOOK).await;
    }
}

/// Connects, and waits for a while for a broker that starts at the same time.
async fn connect(config: RabbitConfig, clock: Arc<dyn Clock>) -> Result<RabbitBus> {
    for _ in 0..TRIES {
        match RabbitBus::connect(config.clone(), clock.clone()).await {
            Ok(bus) => return Ok(bus),
            Err(error) => tracing::warn!(%error, "the broker is not there yet"),
        }
        tokio::time::sleep(PAUSE).await;
    }
    RabbitBus::connect(config, clock).await.context("the broker")
}

/// A bus of this process alone.
pub(crate) fn local() -> Arc<dyn Bus> {
    Arc::new(LocalBus::new())
}

/// What every name of a cloud at the broker begins with.
pub(crate) fn prefix(cloud: &str) -> String {
    format!("cumulet-{cloud}")
}
