//! `cumulet admin host`.

use std::{collections::BTreeMap, net::Ipv4Addr, process::ExitCode, time::Duration};

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use cumulet_backend::{
    api::hosts::{self, Given, HostView, Window},
    entity::columns::Ipv4,
};
use cumulet_domain::{host::Metrics, id::HostId, time::Timestamp};
use serde::Serialize;

use super::{super::operator, CloudArgs, Listing};
use crate::telemetry::say;

/// `cumulet admin host`.
#[derive(Debug, Subcommand)]
pub(crate) enum Host {
    /// List the hosts: what they are to the scheduler, what they have and what is on them.
    List(Listing),
    /// Show one host, with what it tells of itself.
    Show(Show),
    /// Confirm where a host's tunnels end and where it takes console connections: a step of joining, and of each
    /// change of these addresses. Nobody goes by what a host says of that alone.
    Confirm(Confirm),
    /// Let a host take nothing new.
    Disable(Because),
    /// Let a host take new instances again.
    Enable(One),
    /// Let a host take nothing new and print the instances that are on it, which stay: their users stop or
    /// terminate them.
    Drain(Because),
    /// Take a host without instances out of the cloud.
    Remove(One),
    /// Forget which pool of Ceph's the cloud's volumes are in, which is the one that a host has told first: from then on
    /// it is the one that a host tells next. Refused as long as volumes are in it.
    ForgetPool(Pool),
    /// Plan maintenance, which the host's instances show as a scheduled event, or cancel it.
    Maintenance(Maintenance),
}

/// One host.
#[derive(Args, Debug)]
pub(crate) struct One {
    #[command(flatten)]
    cloud: CloudArgs,
    /// The host's name.
    host: String,
}

/// `cumulet admin host forget-pool`.
#[derive(Args, Debug)]
pub(crate) struct Pool {
    #[command(flatten)]
    cloud: CloudArgs,
}

/// `cumulet admin host show`.
#[derive(Args, Debug)]
pub(crate) struct Show {
    #[command(flatten)]
    listing: Listing,
    /// The host's name.
    host: String,
}

/// `cumulet admin host confirm`.
#[derive(Args, Debug)]
pub(crate) struct Confirm {
    #[command(flatten)]
    one: One,
    /// Where its tunnels end; without it, where the host says.
    #[arg(long)]
    tunnel_address: Option<Ipv4Addr>,
    /// Where it takes console connections, a host and a port; without it, where the host says.
    #[arg(long)]
    console_address: Option<String>,
}

/// One host and a reason.
#[derive(Args, Debug)]
pub(crate) struct Because {
    #[command(flatten)]
    one: One,
    /// Why, for the list.
    #[arg(long, default_value = "")]
    reason: String,
}

/// `cumulet admin host maintenance`.
#[derive(Args, Debug)]
pub(crate) struct Maintenance {
    #[command(flatten)]
    because: Because,
    /// When it begins, such as 2027-03-01T22:00:00Z.
    #[arg(long, required_unless_present = "cancel")]
    start: Option<String>,
    /// How long it takes, in minutes.
    #[arg(long, default_value_t = 120)]
    minutes: u32,
    /// Take the plan back.
    #[arg(long, conflicts_with = "start")]
    cancel: bool,
}

#[derive(Serialize)]
struct Used {
    used: i64,
    max: i64,
}

/// An address as the host says it, and as it is gone by.
#[derive(Serialize)]
struct Address {
    told: Option<String>,
    confirmed: Option<String>,
}

impl Address {
    fn line(&self) -> Option<String> {
        let confirmed = self.confirmed.as_deref().unwrap_or("none");
        match &self.told {
            told if *told == self.confirmed => self.confirmed.clone(),
            Some(told) => Some(format!("{told}, not confirmed (confirmed: {confirmed})")),
            None => Some(format!("not told (confirmed: {confirmed})")),
        }
    }
}

#[derive(Serialize)]
struct Shown {
    host: String,
    state: &'static str,
    alive: bool,
    ready: bool,
    not_ready_reason: Option<String>,
    not_ready_cure: Option<String>,
    last_seen: String,
    availability_zone: String,
    hypervisor: String,
    hypervisor_type: Option<String>,
    hypervisor_version: Option<String>,
    architecture: Option<String>,
    capabilities: BTreeMap<String, String>,
    metrics: Metrics,
    problems: Vec<String>,
    rbd: Option<String>,
    tunnel_address: Address,
    console_address: Address,
    vcpus: Used,
    memory_mib: Used,
    disk_gib: Used,
    instances: Vec<String>,
    aggregates: Vec<String>,
    disabled_reason: Option<String>,
    maintenance: Option<[String; 2]>,
}

impl TryFrom<HostView> for Shown {
    type Error = cumulet_domain::Error;

    fn try_from(view: HostView) -> Result<Self, Self::Error> {
        let row = view.row;
        let used = |used, max| Used { used, max };
        let planned = row.maintenance_start.zip(row.maintenance_end);
        let told = |name: &str| view.capabilities.get(name).cloned();
        let address = |address: Option<Ipv4>| address.map(|address| address.to_string());
        let tunnel_address = Address {
            told: address(row.tunnel_address),
            confirmed: address(row.confirmed_tunnel),
        };
        Ok(Shown {
            hypervisor_type: told("hypervisor_type"),
            hypervisor_version: told("hypervisor_version"),
            state: view.standing.name(),
            alive: view.alive,
            ready: view.alive && row.not_ready_reason.is_none(),
            not_ready_reason: row.not_ready_reason,
            not_ready_cure: row.not_ready_cure,
            last_seen: Timestamp(row.last_seen).to_string(),
            vcpus: used(row.vcpus_used, row.vcpus_max.to_db()),
            memory_mib: used(row.memory_mib_used, row.memory_mib_max.to_db()),
            disk_gib: used(row.disk_gib_used, row.disk_gib_max.to_db()),
            instances: view.instances.iter().map(ToString::to_string).collect(),
            aggregates: view.aggregates,
            capabilities: view.capabilities,
            metrics: view.metrics,
            problems: view.problems,
            rbd: row.rbd,
            tunnel_address,
            console_address: Address {
                told: row.console_address,
                confirmed: row.confirmed_console,
            },
            maintenance: planned.map(|(start, end)| [start, end].map(|at| Timestamp(at).to_string())),
            host: row.id,
            availability_zone: row.availability_zone,
            hypervisor: row.hypervisor,
            architecture: row.architecture,
            disabled_reason: row.disabled_reason,
        })
    }
}

impl Shown {
    /// Everything: the line of the list, then what the host tells.
    fn lines(&self) -> String {
        let mut lines = self.line();
        let mut add = |name: &str, value: &str| lines.push_str(&format!("\n    {name}  {value}"));
        add("hypervisor", &self.hypervisor);
        for (name, text) in [
            ("not ready", &self.not_ready_reason),
            ("what helps", &self.not_ready_cure),
        ] {
            if let Some(text) = text {
                add(name, text);
            }
        }
        for problem in &self.problems {
            add("problem", problem);
        }
        for (name, address) in [
            ("tunnel address", &self.tunnel_address),
            ("console address", &self.console_address),
        ] {
            if let Some(text) = address.line() {
                add(name, &text);
            }
        }
        if let Some(pool) = &self.rbd {
            add("volumes' pool", pool);
        }
        add("architecture", self.architecture.as_deref().unwrap_or("not told"));
        for (name, value) in &self.capabilities {
            add(name, value);
        }
        for (name, value) in &self.metrics {
            add(name, &value.to_string());
        }
        for name in &self.aggregates {
            add("aggregate", name);
        }
        lines
    }

    fn line(&self) -> String {
        let part = |used: &Used| format!("{}/{}", used.used, used.max);
        let mut line = format!(
            "{:20}  {:11}  {:9}  {}  {}  vcpus {}  memory {} MiB  disk {} GiB  {} instances",
            self.host,
            self.state,
            match (self.alive, self.ready) {
                (true, true) => "up",
                (true, false) => "not ready",
                (false, _) => "down",
            },
            self.last_seen,
            self.availability_zone,
            part(&self.vcpus),
            part(&self.memory_mib),
            part(&self.disk_gib),
            self.instances.len(),
        );
        if let Some(why) = &self.disabled_reason {
            line.push_str(&format!("  ({why})"));
        }
        if let Some(why) = self.not_ready_reason.as_ref().filter(|_| self.alive) {
            line.push_str(&format!("  ({why})"));
        }
        if let Some([start, end]) = &self.maintenance {
            line.push_str(&format!("  maintenance {start} to {end}"));
        }
        line
    }
}

impl Host {
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self {
            Host::List(listing) => operator::run(&listing.cloud.clone(), |_, parts| async move {
                let found: Vec<Shown> = hosts::list(&parts)
                    .await?
                    .into_iter()
                    .map(Shown::try_from)
                    .collect::<Result<_, _>>()?;
                listing.print(&found, Shown::line)
            }),
            Host::Show(Show { listing, host }) => {
                operator::run(&listing.cloud.clone(), |_, parts| async move {
                    let found = hosts::show(&parts, &HostId(host)).await?;
                    listing.print(&[Shown::try_from(found)?], Shown::lines)
                })
            }
            Host::Confirm(confirm) => confirm.run(),
            Host::Disable(Because { one, reason }) => operator::run(&one.cloud, |_, parts| async move {
                Ok(hosts::disable(&parts, &HostId(one.host), &reason).await?)
            }),
            Host::Enable(one) => operator::run(&one.cloud, |_, parts| async move {
                Ok(hosts::enable(&parts, &HostId(one.host)).await?)
            }),
            Host::Drain(Because { one, reason }) => operator::run(&one.cloud, |_, parts| async move {
                let left = hosts::drain(&parts, &HostId(one.host), &reason).await?;
                left.instances.iter().for_each(say);
                Ok(())
            }),
            Host::Remove(one) => operator::run(&one.cloud, |_, parts| async move {
                Ok(hosts::remove(&parts, &HostId(one.host)).await?)
            }),
            Host::ForgetPool(pool) => operator::run(&pool.cloud, |_, parts| async move {
                match hosts::forget_pool(&parts).await? {
                    Some(pool) => say(format_args!("{pool} is forgotten")),
                    None => say("there was none"),
                }
                Ok(())
            }),
            Host::Maintenance(plan) => plan.run(),
        }
    }
}

impl Confirm {
    fn run(self) -> Result<ExitCode> {
        let given = Given {
            tunnel: self.tunnel_address,
            console: self.console_address,
        };
        operator::run(&self.one.cloud, |_, parts| async move {
            let confirmed = hosts::confirm(&parts, &HostId(self.one.host), given).await?;
            let none = || "none".to_owned();
            let tunnel = confirmed.tunnel.map_or_else(none, |address| address.to_string());
            say(format_args!("tunnel address   {tunnel}"));
            say(format_args!(
                "console address  {}",
                confirmed.console.unwrap_or_else(none)
            ));
            Ok(())
        })
    }
}

impl Maintenance {
    fn run(self) -> Result<ExitCode> {
        let Because { one, reason } = self.because;
        let host = HostId(one.host);
        let window = match self.start {
            None => None,
            Some(text) => {
                let start = Timestamp::parse(&text).context("--start: expected 2027-03-01T22:00:00Z")?;
                let end = start.after(Duration::from_secs(60 * u64::from(self.minutes)));
                Some(Window { start, end })
            }
        };
        operator::run(&one.cloud, |_, parts| async move {
            match window {
                Some(window) => hosts::plan_maintenance(&parts, &host, window, &reason).await?,
                None => hosts::cancel_maintenance(&parts, &host).await?,
            }
            Ok(())
        })
    }
}
