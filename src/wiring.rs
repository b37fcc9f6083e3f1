//! Names the concrete parts and puts them together: the one place that knows which bus, which hypervisor
//! and which host network a cloud has.

mod host;
mod images;
mod pool;

use std::{
    net::{SocketAddr, TcpListener},
    num::NonZero,
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use cumulet_backend::{
    api::{Cloud, CloudConfig, Parts, SharedRng},
    bootstrap::{FirstStart, Plan, bootstrap},
    conductor::{Conductor, Settings, Wake},
    retention::{Keep, Retention},
    store::{connect, settings},
};
use cumulet_bus::LocalBus;
use cumulet_domain::time::{Clock, SystemClock};
use cumulet_gateway::{Gateway, Limits, auth::SigV2Policy};
use tokio::{sync::watch, task::JoinSet};

use crate::{config::Config, descriptors, state::StateDir};

pub(crate) use host::{Driver, HostParts};
pub(crate) use images::{ImageFile, TINY, import_image, tiny};

/// The setting that holds the API's address.
pub(crate) const ENDPOINT: &str = "endpoint";
/// The setting that holds the region's name.
pub(crate) const REGION: &str = "region";
/// The setting that holds this host's availability zone.
pub(crate) const ZONE: &str = "availability_zone";

/// The setting that holds the driver that the cloud last ran with.
pub(crate) const DRIVER: &str = "driver";

/// A cloud that is put together and not started.
pub(crate) struct Assembled {
    pub(crate) cloud: Cloud,
    pub(crate) parts: Parts,
    pub(crate) first: FirstStart,
    conductor: Conductor,
    hosts: Vec<Arc<cumulet_worker::Worker>>,
}

/// Opens everything that is on disk, makes what the first start makes, and wires the roles.
pub(crate) async fn assemble(state: &StateDir, config: &Config, endpoint: String) -> Result<Assembled> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let options = state.options(config, 4)?;
    let store = connect(&options)
        .await
        .with_context(|| format!("the database {}", options.location))?;
    let sealer = Arc::new(state.sealer(true)?);
    let parts = Parts::new(store.clone(), clock.clone(), SharedRng::system(), sealer);
    let zone = config.text("availability_zone").to_owned();
    let plan = Plan {
        availability_zones: vec![zone.clone()],
        public_pool: pool::choose(config)?,
    };
    let first = bootstrap(&parts, &plan).await.context("the first start")?;

    let bus = Arc::new(LocalBus::new());
    let wake = Wake::new();
    let driver = Driver::start(state, config, &first.cloud_id).await?;
    let cloud_config = CloudConfig {
        region: config.text("region").into(),
        availability_zones: vec![zone],
        public_pool: first.public_pool,
        cloud_id: first.cloud_id.clone(),
        endpoint,
        hypervisor: driver.name().into(),
        retention: retention(config)?,
    };
    let cloud = Cloud::new(parts.clone(), wake.clone(), bus.clone(), cloud_config);
    let conductor = Conductor::new(
        store,
        bus.clone(),
        clock.clone(),
        wake,
        conductor_settings(config)?,
    );
    let hosts = driver.workers(&HostParts {
        state,
        config,
        bus,
        clock,
    })?;
    Ok(Assembled {
        cloud,
        parts,
        first,
        conductor,
        hosts,
    })
}

fn conductor_settings(config: &Config) -> Result<Settings> {
    Ok(Settings {
        region: config.text("region").into(),
        owner: "conductor".into(),
        cpu_allocation_ratio: config.get("scheduler.cpu_allocation_ratio")?,
        ram_allocation_ratio: config.get("scheduler.ram_allocation_ratio")?,
        disk_allocation_ratio: config.get("scheduler.disk_allocation_ratio")?,
        retention: retention(config)?,
    })
}

fn retention(config: &Config) -> Result<Retention> {
    let keep = |name| config.get(name).map(Keep::seconds);
    Ok(Retention {
        terminated_instances: keep("retention.terminated_instances")?,
        client_tokens: keep("retention.client_tokens")?,
        operations: keep("retention.operations")?,
        audit_log: keep("retention.audit_log")?,
    })
}

impl Assembled {
    /// Starts the conductor and the hosts; they run until `shutdown` says so.
    pub(crate) fn start(&mut self, shutdown: &watch::Receiver<bool>) -> JoinSet<Result<()>> {
        let mut roles = JoinSet::new();
        let (conductor, until) = (self.conductor.clone(), shutdown.clone());
        roles.spawn(async move { conductor.run(until).await.context("the conductor") });
        for worker in self.hosts.drain(..) {
            let until = shutdown.clone();
            roles.spawn(async move { worker.run(until).await.context("the compute worker") });
        }
        roles
    }

    /// Writes down where the cloud answers, for `cumulet env`.
    pub(crate) async fn announce(&self, config: &Config) -> Result<String> {
        let endpoint = format!("http://{}", self.cloud.config.endpoint);
        let pairs = [
            (ENDPOINT, endpoint.clone()),
            (REGION, config.text("region").to_owned()),
            (ZONE, config.text("availability_zone").to_owned()),
            (DRIVER, config.text("driver").to_owned()),
        ];
        let write = self.parts.store.write(move |txn| {
            Box::pin(async move {
                for (name, value) in &pairs {
                    settings::put(txn, name, value).await?;
                }
                Ok(())
            })
        });
        write.await?;
        Ok(endpoint)
    }
}

/// The door, bound to its address and not yet serving.
pub(crate) struct BoundDoor {
    gateway: Gateway,
    cloud: Cloud,
    address: SocketAddr,
}

/// Binds the API's address; with where clients find it.
pub(crate) fn bind(config: &Config) -> Result<(TcpListener, String)> {
    let listen = config.text("listen");
    let listener = TcpListener::bind(listen).with_context(|| format!("the API's address {listen}"))?;
    let endpoint = match config.text("endpoint") {
        "" => listener.local_addr()?.to_string(),
        given => given.to_owned(),
    };
    Ok((listener, endpoint))
}

/// The door on a bound socket.
pub(crate) fn door(listener: TcpListener, assembled: &Assembled, config: &Config) -> Result<BoundDoor> {
    let address = listener.local_addr()?;
    let mut gateway = Gateway::new(vec![listener]);
    let workers: usize = config.get("http.workers")?;
    let processors = std::thread::available_parallelism().map_or(2, NonZero::get);
    gateway.workers = if workers == 0 { processors } else { workers };
    let seconds = |key| {
        let count: NonZero<u32> = config.get(key)?;
        anyhow::Ok(Duration::from_secs(count.get().into()))
    };
    let files: usize = descriptors::raise()?.try_into()?;
    gateway.limits = Limits {
        // The rest is for the guests' metadata, files and programs.
        connections: config.get::<usize>("http.connections")?.min(files / 2),
        idle: seconds("http.idle")?,
        head: seconds("http.head")?,
        body: seconds("http.body")?,
        stall: seconds("http.stall")?,
    };
    if config.get("auth.sigv2")? {
        gateway.auth.sigv2 = SigV2Policy::Sha256;
    }
    Ok(BoundDoor {
        gateway,
        cloud: assembled.cloud.clone(),
        address,
    })
}

impl BoundDoor {
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` says so.
    pub(crate) async fn serve(self, mut shutdown: watch::Receiver<bool>) -> Result<()> {
        let mut running = self.gateway.start(self.cloud)?;
        tokio::select! {
            ended = running.ended() => return ended.context("the API's server"),
            _ = shutdown.wait_for(|stop| *stop) => {}
        }
        running.stop().await.context("the API's server")
    }
}

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
    })? {
        found.extend(worker.inventory().await?);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_configured_is_kept_as_long_as_the_backend_says() {
        let config = Config::load(None, &[]).unwrap();
        assert_eq!(retention(&config).unwrap(), Retention::default());
    }
}
