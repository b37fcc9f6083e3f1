//! The inventory of this host, for the audit: a look beside whatever runs, which makes and changes nothing.

use std::path::Path;

use anyhow::{Context, Result, bail};
use cumulet_domain::id::HostId;
use cumulet_worker::{
    HostObject, Rbd, inventory as list,
    network::{Config as NetworkConfig, FakeHostNetwork, LinuxNetwork},
};

use super::{Driver, ceph, host::name};
use crate::{config::Config, state::StateDir};

/// Everything that is on this host because of a cloud; of simulated hosts, those of one name alone where one is given.
pub(crate) async fn inventory(
    state: &StateDir,
    config: &Config,
    cloud: &str,
    host: Option<&str>,
) -> Result<Vec<HostObject>> {
    let scratch = state.path().join(format!(".audit-{}", std::process::id()));
    let found = observe(state, config, cloud, &scratch, host).await;
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
    host: Option<&str>,
) -> Result<Vec<HostObject>> {
    let mut found = Vec::new();
    let simulated = config.driver.text() == "fake";
    if host.is_some() || !simulated {
        known(state, &name(config)?)?;
    }
    match Driver::observe(state, config, cloud, scratch).await? {
        Driver::Real { hypervisor, .. } => {
            let name = name(config)?;
            let network = NetworkConfig::new(cloud, state.run().join("network"));
            let network = LinuxNetwork::observer(network).context("the host's network")?;
            let (host, pool) = (HostId(name), ceph::read(config)?.map(Rbd::new));
            found.extend(list(state.path(), &host, &*hypervisor, &network, pool.as_ref()).await?);
        }
        Driver::Fake { hosts } => {
            let network = FakeHostNetwork::new();
            for simulated in hosts {
                if host.is_none_or(|host| host == simulated.name) {
                    let id = HostId(simulated.name);
                    let hypervisor = &*simulated.hypervisor;
                    found.extend(list(state.path(), &id, hypervisor, &network, None).await?);
                }
            }
        }
    }
    Ok(found)
}

/// That a host of this name has run here: another one has nothing here, which would pass for a loss of all.
fn known(state: &StateDir, name: &str) -> Result<()> {
    let hosts = state.path().join("hosts");
    if hosts.join(name).is_dir() {
        return Ok(());
    }
    let entries = std::fs::read_dir(&hosts).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    let here = if names.is_empty() {
        "none has".to_owned()
    } else {
        format!("here have: {}", names.join(", "))
    };
    bail!(
        "no host of the name {name} has run with the state directory {} ({here}); \
         --host or CUMULET_HOST names the host, and each is audited on its own machine",
        state.path().display()
    )
}
