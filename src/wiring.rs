//! Names the concrete parts and puts them together: the one place that knows which bus, which hypervisor
//! and which host network a cloud has.

mod host;
mod images;
mod pool;

use std::{net::SocketAddr, sync::Arc};

use anyhow::{Context, Result};
use cumulet_backend::{
    api::{Cloud, CloudConfig, Parts, SharedRng},
    bootstrap::{FirstStart, Plan, bootstrap},
    conductor::{Conductor, Settings, Wake},
    store::{Options, connect, settings},
};
use cumulet_bus::LocalBus;
use cumulet_domain::time::{Clock, SystemClock};
use tokio::{sync::watch, task::JoinSet};

use crate::{config::Config, state::StateDir};

pub(crate) use host::{Driver, HostParts};
pub(crate) use images::{ImageFile, TINY, import_image, tiny};

/// The setting that holds the API's address.
pub(crate) const ENDPOINT: &str = "endpoint";
/// The setting that holds the region's name.
pub(crate) const REGION: &str = "region";
/// The setting that holds this host's availability zone.
pub(crate) const ZONE: &str = "availability_zone";

/// A cloud that is put together and not started.
pub(crate) struct Assembled {
    pub(crate) cloud: Cloud,
    pub(crate) parts: Parts,
    pub(crate) first: FirstStart,
    conductor: Conductor,
    hosts: Vec<Arc<cumulet_worker::Worker>>,
}

/// Opens everything that is on disk, makes what the first start makes, and wires the roles.
pub(crate) async fn assemble(state: &StateDir, config: &Config) -> Result<Assembled> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let options = Options { path: state.database(), readers: 4 };
    let store = connect(&options).await.with_context(|| format!("the database {}", options.path.display()))?;
    let sealer = Arc::new(state.sealer(true)?);
    let parts = Parts::new(store.clone(), clock.clone(), SharedRng::system(), sealer);
    let zone = config.text("availability_zone").to_owned();
    let plan = Plan { availability_zones: vec![zone.clone()], public_pool: pool::choose(config)? };
    let first = bootstrap(&parts, &plan).await.context("the first start")?;

    let bus = Arc::new(LocalBus::new());
    let wake = Wake::new();
    let driver = Driver::start(state, config, &first.cloud_id).await?;
    let cloud_config = CloudConfig {
        region: config.text("region").into(),
        availability_zones: vec![zone],
        public_pool: first.public_pool,
        cloud_id: first.cloud_id.clone(),
        hypervisor: driver.name().into(),
    };
    let cloud = Cloud::new(parts.clone(), wake.clone(), bus.clone(), cloud_config);
    let conductor = Conductor::new(store, bus.clone(), clock.clone(), wake, conductor_settings(config)?);
    let hosts = driver.workers(&HostParts { state, config, bus, clock })?;
    Ok(Assembled { cloud, parts, first, conductor, hosts })
}

fn conductor_settings(config: &Config) -> Result<Settings> {
    Ok(Settings {
        region: config.text("region").into(),
        owner: "conductor".into(),
        cpu_allocation_ratio: config.get("scheduler.cpu_allocation_ratio")?,
        ram_allocation_ratio: config.get("scheduler.ram_allocation_ratio")?,
        disk_allocation_ratio: config.get("scheduler.disk_allocation_ratio")?,
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
    pub(crate) async fn announce(&self, config: &Config, address: SocketAddr) -> Result<String> {
        let endpoint = format!("http://{address}");
        let pairs = [
            (ENDPOINT, endpoint.clone()),
            (REGION, config.text("region").to_owned()),
            (ZONE, config.text("availability_zone").to_owned()),
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
