//! The wiring of the control plane: the database, the API behind the door, and the engines.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use cumulet_backend::{
    api::{Cloud, CloudConfig, Parts, Quotas, SharedRng, services},
    bootstrap::{self, FirstPlan, FirstStart, bootstrap},
    conductor::{Conductor, Driver, Duties, Settings, Wake},
    retention::{Retention, RetentionPeriod},
    store::{Store, connect, settings},
};
use cumulet_bus::Bus;
use cumulet_certs::Sealer;
use cumulet_domain::time::Clock;
use tokio::sync::watch;

use super::{DRIVER, ENDPOINT, REGION, ZONE, host, pool, scheduler};
use crate::{
    config::{Config, Setting},
    roles::{Role, Roles},
    state::StateDir,
    telemetry::Progress,
};

/// What opens the database in this process.
pub(crate) struct Control {
    pub(crate) cloud: Cloud,
    pub(crate) parts: Parts,
    pub(crate) first: FirstStart,
    conductor: Conductor,
    duties: Duties,
}

/// Opens the database and makes what the first start makes.
pub(super) async fn open(
    state: &StateDir,
    config: &Config,
    clock: Arc<dyn Clock>,
    progress: &Progress,
) -> Result<(Parts, FirstStart)> {
    progress.step("opening the database and bringing its schema up to date");
    let options = state.options(config, 4)?;
    let store = connect(&options)
        .await
        .with_context(|| format!("the database {}", options.location))?;
    let swept = cumulet_backend::images::sweep(&state.images()).context("the store of images")?;
    if swept > 0 {
        tracing::info!(swept, "removed what was left of imports that ended early");
    }
    progress.step("making what the first start makes: keys, an account, its network");
    let fresh = !state.master_key().exists();
    let sealer = Arc::new(match bootstrap::existing(store.read()).await? {
        Some(_) => state.sealer()?,
        None => state.first_sealer()?,
    });
    check_key(state, &store, &sealer).await?;
    let parts = Parts::new(store, clock, SharedRng::system(), sealer);
    let plan = FirstPlan {
        availability_zones: vec![config.availability_zone.text().to_owned()],
        public_pool: pool::choose(config)?,
    };
    let first = bootstrap(&parts, &plan).await.context("the first start")?;
    cumulet_domain::crash::up("made");
    let checked = check_key(state, &parts.store, &parts.sealer).await;
    if checked.is_err() && fresh {
        // Another process was first to start this cloud; what was made here seals nothing.
        std::fs::remove_file(state.master_key())?;
    }
    checked?;
    Ok((parts, first))
}

/// That the master key is the cloud's, where the cloud was started before.
pub(crate) async fn check_key(state: &StateDir, store: &Store, sealer: &Sealer) -> Result<()> {
    ensure!(
        bootstrap::has_key(store.read(), sealer).await?,
        "the master key {} is not this cloud's: copy the one of a process that opens its database",
        state.master_key().display()
    );
    Ok(())
}

/// The dependencies of a control plane beside the database.
pub(super) struct ControlDeps<'a> {
    pub(super) config: &'a Config,
    pub(super) roles: &'a Roles,
    pub(super) bus: Arc<dyn Bus>,
    /// Where clients find the API; empty in a process that has no door.
    pub(super) endpoint: String,
    pub(super) hypervisor: String,
}

impl Control {
    pub(super) fn new(parts: Parts, first: FirstStart, deps: ControlDeps<'_>) -> Result<Self> {
        let ControlDeps {
            config, roles, bus, ..
        } = deps;
        let wake = Wake::new();
        let cloud_config = CloudConfig {
            region: config.region.text().into(),
            availability_zones: vec![config.availability_zone.text().to_owned()],
            public_pool: first.public_pool,
            cloud_id: first.cloud_id.clone(),
            endpoint: deps.endpoint,
            hypervisor: deps.hypervisor,
            retention: retention(config)?,
            public_addresses: config.quota.public_addresses.get()?,
            quotas: Quotas::default(),
            modification_cooldown: Duration::from_secs(config.volumes.modification_cooldown.get()?),
            volume_store: config.volumes.store.get()?,
        };
        let scheduler = scheduler::scheduler(config, parts.rng.clone())?;
        let cloud = Cloud::new(parts.clone(), wake.clone(), bus.clone(), cloud_config)
            .with_scheduler(scheduler.clone());
        let settings = conductor_settings(config, roles)?;
        let (store, sealer, clock) = (parts.store.clone(), parts.sealer.clone(), parts.clock.clone());
        let conductor =
            Conductor::new(Driver::new(store, sealer, bus, clock, wake, settings).with_scheduler(scheduler));
        Ok(Control {
            cloud,
            parts,
            first,
            conductor,
            duties: Duties {
                place: roles.has(Role::Scheduler),
                drive: roles.has(Role::Conductor),
            },
        })
    }

    /// The engines; clones count together.
    pub(super) fn conductor(&self) -> &Conductor {
        &self.conductor
    }

    /// Runs the engines until `shutdown` says so.
    pub(super) fn conduct(
        &self,
        shutdown: watch::Receiver<bool>,
    ) -> impl Future<Output = Result<()>> + Send + use<> {
        let (conductor, duties) = (self.conductor.clone(), self.duties);
        async move { conductor.run(duties, shutdown).await.context("the conductor") }
    }

    /// Says that this process's roles are there, again and again, until `shutdown` says so.
    pub(super) fn heartbeat(
        &self,
        roles: &Roles,
        host: String,
        mut shutdown: watch::Receiver<bool>,
    ) -> impl Future<Output = Result<()>> + Send + use<> {
        let (parts, roles) = (self.parts.clone(), roles.clone());
        async move {
            let mut timer = tokio::time::interval(services::INTERVAL);
            loop {
                tokio::select! {
                    _ = timer.tick() => {}
                    _ = shutdown.wait_for(|stop| *stop) => return Ok(()),
                }
                for role in roles.iter().filter(|role| role.controls()) {
                    let (id, now) = (format!("{role}@{host}"), parts.clock.now());
                    let version = env!("CARGO_PKG_VERSION");
                    let written = services::heartbeat(&parts.store, &id, role.name(), &host, version, now);
                    if let Err(error) = written.await {
                        tracing::warn!(%role, %error, "could not say that it is there");
                    }
                }
            }
        }
    }

    /// Writes down where the cloud answers, for `cumulet env`.
    pub(crate) async fn announce(&self, config: &Config) -> Result<String> {
        let endpoint = format!("http://{}", self.cloud.config.endpoint);
        let pairs = [
            (ENDPOINT, endpoint.clone()),
            (REGION, config.region.text().to_owned()),
            (ZONE, config.availability_zone.text().to_owned()),
            (DRIVER, config.driver.text().to_owned()),
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

fn conductor_settings(config: &Config, roles: &Roles) -> Result<Settings> {
    Ok(Settings {
        region: config.region.text().into(),
        // The same after a restart, so that what this process had leased is gone on with at once.
        owner: format!("{}/{roles}", host::name(config)?),
        cpu_allocation_ratio: config.scheduler.cpu_allocation_ratio.get()?,
        ram_allocation_ratio: config.scheduler.ram_allocation_ratio.get()?,
        disk_allocation_ratio: config.scheduler.disk_allocation_ratio.get()?,
        retention: retention(config)?,
        hosts_are_here: config.bus.text().is_empty(),
    })
}

fn retention(config: &Config) -> Result<Retention> {
    let keep = |setting: &Setting<u64>| setting.get().map(RetentionPeriod::seconds);
    let config = &config.retention;
    Ok(Retention {
        terminated_instances: keep(&config.terminated_instances)?,
        client_tokens: keep(&config.client_tokens)?,
        operations: keep(&config.operations)?,
        audit_log: keep(&config.audit_log)?,
        audit_log_bytes: config.audit_log_bytes.get()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_configured_is_kept_as_long_as_the_backend_says() {
        let config = Config::of(&[]);
        assert_eq!(retention(&config).unwrap(), Retention::default());
    }
}
