//! The wiring of the stores of images and of snapshots to hosts that do not have their directories: the door of the
//! conductor's process, and a host's client of it.

use std::{net::TcpListener, path::Path, sync::Arc};

use anyhow::{Context, Result, ensure};
use cumulet_certs::Sealer;
use cumulet_domain::{rng::SharedRng, time::Clock};
use cumulet_gateway::storage::StorageDoor;
use cumulet_worker::{
    image_cache::{DirectoryImages, ImageSource},
    remote::{Grants, RemoteImages, RemoteSnapshots, StorageClient},
    snapshots::{DirectorySnapshots, SnapshotData},
};
use tokio::sync::watch;

use super::listen::bind;
use crate::{
    config::Config,
    roles::{Role, Roles},
    state::StateDir,
};

/// Binds the door's address; `None` where there is to be none. Processes of one machine may share a file of settings:
/// the conductor's is the one that serves.
pub(super) fn prepare(config: &Config, roles: &Roles) -> Result<Option<TcpListener>> {
    check(config, roles)?;
    let listen = &config.storage.listen;
    match listen.is_empty() || !roles.has(Role::Conductor) {
        true => Ok(None),
        false => bind(listen.text(), listen.name()).map(Some),
    }
}

/// That a host's settings are such.
pub(crate) fn check(config: &Config, roles: &Roles) -> Result<()> {
    let url = &config.storage.url;
    if url.is_empty() || !roles.has(Role::Compute) {
        return Ok(());
    }
    ensure!(
        !config.bus.is_empty(),
        "configuration: {} is for a host of a cluster; without `bus` this process has the directories itself",
        url.name()
    );
    let ca_file = &config.storage.ca_file;
    ensure!(
        ca_file.is_empty() || url.text().starts_with("https:"),
        "configuration: {} is for an https URL; {} is {:?}",
        ca_file.name(),
        url.name(),
        url.text()
    );
    client(config).map(drop)
}

fn client(config: &Config) -> Result<StorageClient> {
    let (url, ca_file) = (&config.storage.url, config.storage.ca_file.text());
    let ca_file = (!ca_file.is_empty()).then(|| Path::new(ca_file));
    StorageClient::new(url.text(), ca_file)
        .with_context(|| format!("configuration: {} = {:?}", url.name(), url.text()))
}

/// Serves the state directory's stores until `shutdown` says so.
pub(super) fn serve(
    listener: TcpListener,
    state: &StateDir,
    sealer: Arc<Sealer>,
    clock: Arc<dyn Clock>,
    mut shutdown: watch::Receiver<bool>,
) -> impl Future<Output = Result<()>> + Send + use<> {
    let door = StorageDoor {
        sealer,
        clock,
        images: state.images(),
        snapshots: state.snapshots(),
    };
    async move {
        let mut running = door.start(vec![listener])?;
        tokio::select! {
            ended = running.ended() => return ended.context("the storage door"),
            _ = shutdown.wait_for(|stop| *stop) => {}
        }
        // Who is cut off goes on elsewhere, or when it is back.
        running.stop().await.context("the storage door")
    }
}

/// Where a host has images and snapshots.
pub(super) struct HostStores {
    pub(super) images: Arc<dyn ImageSource>,
    pub(super) snapshots: Arc<dyn SnapshotData>,
    pub(super) grants: Arc<Grants>,
}

/// The directories, or the door that is configured.
pub(super) fn of_host(config: &Config, state: &StateDir, rng: &SharedRng) -> Result<HostStores> {
    if config.storage.url.is_empty() {
        return Ok(HostStores {
            images: Arc::new(DirectoryImages::new(state.images())),
            snapshots: Arc::new(DirectorySnapshots::new(&state.snapshots())),
            grants: Grants::unneeded(),
        });
    }
    let (client, grants) = (Arc::new(client(config)?), Grants::new());
    Ok(HostStores {
        images: Arc::new(RemoteImages::new(client.clone(), grants.clone())),
        snapshots: Arc::new(RemoteSnapshots::new(client, grants.clone(), rng.clone())),
        grants,
    })
}

#[cfg(test)]
mod tests;
