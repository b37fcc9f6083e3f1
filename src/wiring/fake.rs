//! Simulated hosts as they are configured: capacity, profile and metrics.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use cumulet_domain::host::{HostProfile, check_metrics};
use cumulet_hypervisor::{
    Hypervisor,
    fake::{FakeConfig, FakeHypervisor, FaultPlan},
};
use cumulet_worker::FixedMetrics;

use crate::config::{Config, Setting};

/// The file in which a simulated host keeps its guests.
pub(super) const GUESTS: &str = "guests.json";

/// A simulated host.
pub(crate) struct Simulated {
    pub(super) name: String,
    pub(super) hypervisor: Arc<dyn Hypervisor>,
    pub(super) metrics: FixedMetrics,
}

/// The hosts with these names; what they keep is below `folder`.
pub(super) fn hosts(folder: &Path, config: &Config, names: Vec<String>) -> Result<Vec<Simulated>> {
    let latency = Duration::from_millis(config.fake.latency_ms.get()?);
    let plan = FaultPlan {
        latency_min: latency,
        latency_max: latency,
        ..FaultPlan::default()
    };
    let mut all = Vec::new();
    let hosts = names.into_iter().enumerate();
    let hosts = hosts
        .map(|(i, name)| {
            let folder = folder.join("hosts").join(&name);
            std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
            let HostProfile {
                architecture,
                capabilities,
            } = profile(config, i)?;
            let fake = FakeConfig {
                seed: i as u64,
                vcpus: config.fake.vcpus.get()?,
                memory_mib: config.fake.memory_mib.get()?,
                architecture: architecture.unwrap_or_default(),
                capabilities,
                plan: plan.clone(),
                state_file: Some(folder.join(GUESTS)),
                ..FakeConfig::default()
            };
            let context = || folder.display().to_string();
            let hypervisor = FakeHypervisor::new(fake).with_context(context)?;
            all.push(hypervisor.clone());
            Ok(Simulated {
                name,
                hypervisor,
                metrics: metrics(config, i)?,
            })
        })
        .collect::<Result<_>>()?;
    let file = config.fake.slow_file.text();
    if !file.is_empty() {
        follow(file.into(), plan, all);
    }
    Ok(hosts)
}

/// How often the file is looked at that makes simulated hypervisors slow.
const LOOK: Duration = Duration::from_millis(50);

/// Makes hosts as slow as a file says, while it is there: from the beginning, and whenever it comes or goes.
fn follow(file: PathBuf, plan: FaultPlan, hosts: Vec<Arc<FakeHypervisor>>) {
    let mut followed = None;
    let mut look = move || {
        let told = std::fs::read_to_string(&file).ok();
        let slow = told
            .and_then(|text| text.trim().parse().ok())
            .map(Duration::from_millis);
        if slow != followed {
            followed = slow;
            let now = slow.map_or_else(|| plan.clone(), FaultPlan::slow);
            hosts.iter().for_each(|host| host.set_plan(now.clone()));
        }
    };
    look();
    tokio::spawn(async move {
        let mut timer = tokio::time::interval(LOOK);
        loop {
            timer.tick().await;
            look();
        }
    });
}

fn profile(config: &Config, host: usize) -> Result<HostProfile> {
    let architecture = turn(&config.fake.architecture, host);
    ensure!(
        ["x86_64", "arm64"].contains(&architecture),
        "configuration: fake.architecture = {architecture:?}; expecting x86_64 or arm64"
    );
    let profile = HostProfile {
        architecture: Some(architecture.into()),
        capabilities: pairs(&config.fake.capabilities, host)?,
    };
    let wrong = |reason| anyhow::anyhow!("configuration: fake.capabilities: {reason}");
    profile.check().map_err(wrong)?;
    Ok(profile)
}

fn metrics(config: &Config, host: usize) -> Result<FixedMetrics> {
    let number = |(name, value): (String, String)| {
        let value = value.parse();
        Ok((name, value.context("configuration: fake.metrics")?))
    };
    let told = pairs(&config.fake.metrics, host)?.into_iter().map(number);
    let told = told.collect::<Result<_>>()?;
    check_metrics(&told).map_err(|reason| anyhow::anyhow!("configuration: fake.metrics: {reason}"))?;
    Ok(FixedMetrics(told))
}

/// What a key says of a host: hosts take turns where it says several things.
fn turn(setting: &Setting<String>, host: usize) -> &str {
    let said: Vec<&str> = setting.text().split(';').map(str::trim).collect();
    said.get(host % said.len().max(1)).copied().unwrap_or_default()
}

/// The `name=value` that a key says of a host.
fn pairs(setting: &Setting<String>, host: usize) -> Result<BTreeMap<String, String>> {
    let said = turn(setting, host).split(',').map(str::trim);
    let one = |text: &str| match text.split_once('=') {
        Some((name, value)) => Ok((name.trim().to_owned(), value.trim().to_owned())),
        None => bail!(
            "configuration: {}: {text:?}; expecting name=value, separated by commas",
            setting.name()
        ),
    };
    said.filter(|text| !text.is_empty()).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_take_turns_with_what_is_configured() {
        let config = Config::of(&[
            ("fake.architecture", "x86_64; arm64"),
            ("fake.capabilities", "ssd = true, cpu_info:model=a=b;"),
            ("fake.metrics", "cpu.percent=90; cpu.percent = 5"),
        ]);
        for (host, architecture, capabilities, busy) in
            [(0, "x86_64", 2, 90), (1, "arm64", 0, 5), (2, "x86_64", 2, 90)]
        {
            let profile = profile(&config, host).unwrap();
            assert_eq!(profile.architecture.as_deref(), Some(architecture));
            assert_eq!(profile.capabilities.len(), capabilities);
            assert_eq!(metrics(&config, host).unwrap().0["cpu.percent"], busy);
        }
        assert_eq!(profile(&config, 0).unwrap().capabilities["cpu_info:model"], "a=b");
    }

    #[test]
    fn by_default_they_are_alike_and_tell_no_metrics() {
        let config = Config::of(&[]);
        let profile = profile(&config, 3).unwrap();
        assert_eq!(profile.architecture.as_deref(), Some("x86_64"));
        assert!(profile.capabilities.is_empty() && metrics(&config, 3).unwrap().0.is_empty());
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (key, value) in [
            ("fake.architecture", "aarch64"),
            ("fake.capabilities", "ssd"),
            ("fake.capabilities", "=true"),
            ("fake.metrics", "cpu.percent=much"),
        ] {
            let config = Config::of(&[(key, value)]);
            let error = profile(&config, 0).and(metrics(&config, 0)).unwrap_err();
            assert!(format!("{error:#}").contains(key), "{key} = {value}: {error:#}");
        }
    }
}
