//! The wiring of a process: the one place that knows which bus, which database, which hypervisor and which
//! host network it has. A process with all roles is no special case.

mod bus;
pub(crate) mod ceph;
mod console;
mod control;
mod door;
mod fake;
pub(crate) mod guests;
mod host;
mod images;
mod inventory;
pub(crate) mod listen;
mod metadata;
mod pool;
mod scheduler;
mod snapshots;
mod storage;

use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
};

use anyhow::{Context, Result};
use cumulet_bus::Bus;
use cumulet_domain::time::{Clock, SystemClock};
use cumulet_metadata::link::Server as MetadataServer;
use tokio::{sync::watch, task::JoinSet};

use console::Consoles;

use crate::{
    config::Config,
    metrics,
    roles::{Role, Roles},
    state::StateDir,
    telemetry::Progress,
};

pub(crate) use bus::{local as local_bus, prefix as bus_prefix};
pub(crate) use console::{
    endpoint as console_endpoint, token_time as console_token_time, try_addresses as try_console_addresses,
};
pub(crate) use control::{Control, check_key};
pub(crate) use door::{bind, door};
pub(crate) use host::{Driver, HostParts};
pub(crate) use images::{ImageFile, TINY, converter, import_image, tiny};
pub(crate) use inventory::inventory;
pub(crate) use listen::bind as listen;
pub(crate) use storage::check as check_storage;

/// The setting that holds the API's address.
pub(crate) const ENDPOINT: &str = "endpoint";
/// The setting that holds the region's name.
pub(crate) const REGION: &str = "region";
/// The setting that holds this host's availability zone.
pub(crate) const ZONE: &str = "availability_zone";

/// The setting that holds the driver that the cloud last ran with.
pub(crate) const DRIVER: &str = "driver";

/// A process's roles, put together and not started.
pub(crate) struct Assembled {
    /// What opens the database, where a role does.
    pub(crate) control: Option<Control>,
    /// What runs instances here: `kvm`, `qemu` or `fake`; where the role is not here, what is configured.
    pub(crate) hypervisor: String,
    /// The metadata service for another process of this host; it ends when this is dropped.
    metadata: Option<MetadataServer>,
    consoles: Consoles,
    /// Where hosts get images and snapshots.
    storage: Option<TcpListener>,
    hosts: Vec<Arc<cumulet_worker::Worker>>,
    bus: Arc<dyn Bus>,
    metrics: Option<SocketAddr>,
    roles: Roles,
    host: String,
    state: StateDir,
}

/// Opens what is on disk and on the bus, makes what the first start makes, and wires the roles.
pub(crate) async fn assemble(
    state: &StateDir,
    config: &Config,
    roles: &Roles,
    endpoint: String,
    progress: &Progress,
) -> Result<Assembled> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let opened = if roles.control() {
        Some(control::open(state, config, clock.clone(), progress).await?)
    } else {
        None
    };
    let first = opened.as_ref().map(|(_, first)| first.cloud_id.clone());
    let cloud_id = first.unwrap_or_else(|| config.cloud.text().to_owned());
    let bus = bus::open(config, roles, &cloud_id, clock.clone(), progress).await?;
    let consoles = console::prepare(config, roles, opened.as_ref().map(|(parts, _)| parts)).await?;
    let storage = storage::prepare(config, roles)?;
    let by_itself = roles.has(Role::Metadata) && !roles.has(Role::Compute);
    let metadata = by_itself
        .then(|| metadata::serve(state, clock.clone()))
        .transpose()?;
    let host_parts = HostParts {
        state,
        config,
        bus: bus.clone(),
        clock,
        served: roles.has(Role::Metadata),
        console: consoles.address(),
    };
    let (hosts, hypervisor) = match roles.has(Role::Compute) {
        true => hosts(&host_parts, &cloud_id, progress).await?,
        false => (Vec::new(), config.driver.text().to_owned()),
    };
    let deps = control::ControlDeps {
        config,
        roles,
        bus: bus.clone(),
        endpoint,
        hypervisor: hypervisor.clone(),
    };
    let control = opened
        .map(|(parts, first)| Control::new(parts, first, deps))
        .transpose()?;
    Ok(Assembled {
        control,
        hypervisor,
        metadata,
        consoles,
        storage,
        hosts,
        bus,
        metrics: config.metrics.listen.given()?,
        roles: roles.clone(),
        host: host::name(config)?,
        state: state.clone(),
    })
}

/// Connects to what runs instances here; the hosts, and what it is.
async fn hosts(
    parts: &HostParts<'_>,
    cloud_id: &str,
    progress: &Progress,
) -> Result<(Vec<Arc<cumulet_worker::Worker>>, String)> {
    progress.step(match parts.config.driver.text() {
        "libvirt" => "asking libvirt what it is, and trying whether KVM runs a guest",
        _ => "starting the simulated hosts",
    });
    let driver = Driver::start(parts.state, parts.config, cloud_id).await?;
    let hypervisor = driver.name().to_owned();
    Ok((driver.workers(parts)?, hypervisor))
}

impl Assembled {
    /// Starts the engines and the hosts; they run until `shutdown` says so.
    pub(crate) fn start(
        &mut self,
        control: Option<&Control>,
        shutdown: &watch::Receiver<bool>,
    ) -> JoinSet<Result<()>> {
        let mut tasks = JoinSet::new();
        if let Some(control) = control {
            tasks.spawn(control.conduct(shutdown.clone()));
            if self.roles.has(Role::Conductor) {
                let (store, clock) = (control.parts.store.clone(), control.parts.clock.clone());
                tasks.spawn(snapshots::sweep(&self.state, store, clock, shutdown.clone()));
            }
            if let Some(listener) = self.storage.take() {
                let (sealer, clock) = (control.parts.sealer.clone(), control.parts.clock.clone());
                tasks.spawn(storage::serve(
                    listener,
                    &self.state,
                    sealer,
                    clock,
                    shutdown.clone(),
                ));
            }
            tasks.spawn(control.heartbeat(&self.roles, self.host.clone(), shutdown.clone()));
        }
        if let Some(address) = self.metrics {
            let sources = metrics::Sources {
                bus: self.bus.clone(),
                store: control.map(|control| control.parts.store.clone()),
                conductor: control.map(|control| control.conductor().clone()),
                workers: self.hosts.clone(),
            };
            tasks.spawn(metrics::serve(address, sources, shutdown.clone()));
        }
        self.consoles.start(&self.hosts, &mut tasks, shutdown);
        for worker in self.hosts.drain(..) {
            let until = shutdown.clone();
            tasks.spawn(async move { worker.run(until).await.context("the compute worker") });
        }
        if let Some(server) = self.metadata.take() {
            let mut until = shutdown.clone();
            tasks.spawn(async move {
                drop(until.wait_for(|stop| *stop).await);
                drop(server);
                Ok(())
            });
        }
        tasks
    }
}
