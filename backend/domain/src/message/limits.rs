//! Limits of reports: what is looked at of each field before a report counts for anything. A field that comes to be
//! has to be named here, and so has a kind of report, or this does not compile. Whoever takes reports calls it.

use super::{
    Heartbeat, HostResources, InstanceReport, OffReason, Outcome, Power, Report, ReportContent,
    SnapshotOutcome, VolumeOutcome,
    words::{UNTOLD, is_for_tenants},
};
use crate::{
    host::{MAX_PROBLEMS, NotReady, check_host_name, check_metrics, check_name, one_line},
    host_address::{check_console_address, check_tunnel_address},
    snapshot::{MAX_PROGRESS, SnapshotProgress, is_digest},
    volume::{MAX_ATTACHED, is_pool_name},
};

/// Instances of one host at the most.
pub const MAX_INSTANCES: usize = 100_000;

/// The words of a failure at the most, in characters; what is longer is cut.
pub const MAX_FAILURE: usize = 2000;

/// The most that a host can have, so that sums over many hosts are numbers yet.
pub const MAX_VCPUS: u32 = 1 << 20;

/// See [`MAX_VCPUS`]: an exbibyte and more, in MiB and in GiB.
pub const MAX_SIZE: u64 = 1 << 40;

/// The bytes of a snapshot at the most: an exbibyte.
const MAX_BYTES: u64 = 1 << 60;

/// The volumes that one guest keeps at the most.
const MAX_KEPT: usize = 100;

/// The snapshots that a host may have begun: twice those that it takes at once.
const MAX_TAKEN: usize = 4 * MAX_ATTACHED;

/// The last moment of the year 9999, in milliseconds.
const END: i64 = 253_402_300_799_999;

impl Report {
    /// The report as far as it is within the limits, and what was left out of it, in words.
    ///
    /// # Errors
    /// Why it is no report at all, in words. It would be as wrong the next time.
    pub fn within_limits(self) -> Result<(Report, Vec<String>), String> {
        let Report { host, at, content } = self;
        check_host_name(&host.0)?;
        if !(0..=END).contains(&at.0) {
            return Err("its time is none".into());
        }
        let mut left_out = Vec::new();
        let content = match content {
            ReportContent::Heartbeat(told) => {
                ReportContent::Heartbeat(Box::new(told.within_limits(&mut left_out)?))
            }
            ReportContent::Changed(report) => ReportContent::Changed(report.within_limits()?),
            ReportContent::Done(outcome) => ReportContent::Done(outcome.within_limits(&mut left_out)?),
            ReportContent::VolumeDone(outcome) => {
                ReportContent::VolumeDone(outcome.within_limits(&mut left_out))
            }
            ReportContent::SnapshotDone(outcome) => {
                ReportContent::SnapshotDone(outcome.within_limits(&mut left_out)?)
            }
            ReportContent::NetworkApplied { vpc, generation } => {
                countable("the policy's generation", generation)?;
                ReportContent::NetworkApplied { vpc, generation }
            }
            ReportContent::MetadataApplied { instance, revision } => {
                countable("the snapshot's revision", revision)?;
                ReportContent::MetadataApplied { instance, revision }
            }
            ReportContent::Full(reports) => {
                if reports.len() > MAX_INSTANCES {
                    return Err(format!("it is about more than {MAX_INSTANCES} instances"));
                }
                let checked = reports.into_iter().map(InstanceReport::within_limits);
                ReportContent::Full(checked.collect::<Result<_, _>>()?)
            }
        };
        Ok((Report { host, at, content }, left_out))
    }
}

/// Generations and revisions are kept as signed numbers, and grow.
fn countable(what: &str, number: u64) -> Result<(), String> {
    match i64::try_from(number) {
        Ok(number) if number < i64::MAX => Ok(()),
        _ => Err(format!("{what} is more than there can be")),
    }
}

impl InstanceReport {
    fn within_limits(self) -> Result<Self, String> {
        let InstanceReport {
            instance,
            generation,
            power,
            off_reason,
        } = self;
        countable("the instance's generation", generation)?;
        let off_reason = match (power, off_reason) {
            (Power::On, _) | (_, None) => None,
            (Power::Off | Power::Absent, Some(reason)) => match reason {
                OffReason::GuestShutdown | OffReason::Commanded | OffReason::Crashed => Some(reason),
            },
        };
        Ok(InstanceReport {
            instance,
            generation,
            power,
            off_reason,
        })
    }
}

impl Outcome {
    fn within_limits(self, left_out: &mut Vec<String>) -> Result<Self, String> {
        let Outcome {
            operation,
            report,
            failure,
            permanent,
            mut kept,
            root,
        } = self;
        if kept.len() > MAX_KEPT {
            left_out.push(format!("{} volumes that a guest keeps", kept.len() - MAX_KEPT));
            kept.truncate(MAX_KEPT);
        }
        Ok(Outcome {
            operation,
            report: report.within_limits()?,
            failure: failure.map(|text| words_of(&text, left_out)),
            permanent,
            kept,
            root,
        })
    }
}

impl VolumeOutcome {
    fn within_limits(self, left_out: &mut Vec<String>) -> Self {
        let VolumeOutcome {
            operation,
            volume,
            failure,
            permanent,
        } = self;
        VolumeOutcome {
            operation,
            volume,
            failure: failure.map(|text| words_of(&text, left_out)),
            permanent,
        }
    }
}

impl SnapshotOutcome {
    fn within_limits(self, left_out: &mut Vec<String>) -> Result<Self, String> {
        let SnapshotOutcome {
            operation,
            taken,
            failure,
            permanent,
        } = self;
        if taken.is_empty() == failure.is_none() || taken.len() > MAX_ATTACHED {
            return Err("snapshots were taken of an instance's volumes, or it has failed".into());
        }
        for each in &taken {
            if !is_digest(&each.manifest) {
                return Err("a snapshot's manifest is known by its SHA-256".into());
            }
            if each.bytes.max(each.fresh_bytes) > MAX_BYTES {
                return Err("a snapshot has more bytes than there can be".into());
            }
        }
        Ok(SnapshotOutcome {
            operation,
            taken,
            failure: failure.map(|text| words_of(&text, left_out)),
            permanent,
        })
    }
}

/// The words of a failure. It is never dropped for them: it would pass for a success.
fn words_of(failure: &str, left_out: &mut Vec<String>) -> String {
    match one_line(failure, MAX_FAILURE) {
        text if text.is_empty() => "it does not say why".to_owned(),
        text if is_for_tenants(&text) => text,
        text => {
            left_out.push(format!("the words of a failure: {text}"));
            UNTOLD.to_owned()
        }
    }
}

/// Whether a host can have so much.
fn possible(has: &HostResources) -> Result<(), String> {
    let HostResources {
        vcpus,
        memory_mib,
        disk_gib,
    } = *has;
    if vcpus > MAX_VCPUS || memory_mib > MAX_SIZE || disk_gib > MAX_SIZE {
        return Err("it is more than a host can have".into());
    }
    Ok(())
}

/// How far snapshots have come: of as many as a host takes, and none is whole.
fn progress_within(mut told: Vec<SnapshotProgress>, left_out: &mut Vec<String>) -> Vec<SnapshotProgress> {
    if told.len() > MAX_TAKEN {
        left_out.push(format!("how far {} snapshots have come", told.len() - MAX_TAKEN));
        told.truncate(MAX_TAKEN);
    }
    for each in &mut told {
        each.percent = each.percent.min(MAX_PROGRESS);
    }
    told
}

/// A host that tells a wrong address is not one without tunnels: it is one that nobody reaches.
fn unreachable() -> NotReady {
    NotReady {
        reason: "its tunnel address can't be a host's".into(),
        cure: Some("set `network.tunnel_address` there to an address that the other hosts reach".into()),
    }
}

/// Why a host is not ready, with a reason that tenants may read; what they may not is what the operator reads.
fn not_ready_within(told: NotReady) -> NotReady {
    let NotReady { reason, cure } = told.within_limits();
    if is_for_tenants(&reason) {
        return NotReady { reason, cure };
    }
    let cure = cure.map_or_else(|| reason.clone(), |cure| format!("{reason}; what helps: {cure}"));
    NotReady {
        reason: UNTOLD.to_owned(),
        cure: Some(cure),
    }
    .within_limits()
}

/// A host's public key is 32 bytes in unpadded base64url; whether it is one, whoever seals with it finds.
fn public_key(text: &str) -> Result<(), String> {
    let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    match text.len() == 43 && text.bytes().all(is_digit) {
        true => Ok(()),
        false => Err("it is not 43 digits of base64url".to_owned()),
    }
}

/// A Ceph cluster's id is a UUID; a pool's name is one of Ceph's that needs no quotes anywhere.
fn check_pool(told: &str) -> Result<(), String> {
    let (fsid, pool) = told.split_once('/').unwrap_or((told, ""));
    let is_id = fsid.len() == 36 && fsid.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    match is_id && is_pool_name(pool) {
        true => Ok(()),
        false => Err("it is not FSID/POOL".to_owned()),
    }
}

impl Heartbeat {
    fn within_limits(self, left_out: &mut Vec<String>) -> Result<Self, String> {
        let Heartbeat {
            resources,
            hypervisor,
            availability_zone,
            tunnel_address,
            console_address,
            profile,
            metrics,
            not_ready,
            disk_key,
            problems,
            rbd,
            snapshots,
        } = self;
        check_name("its hypervisor's name", &hypervisor)?;
        check_name("its zone's name", &availability_zone)?;
        let mut keep = |what: &str, found: Result<(), String>| {
            let wrong = found.err();
            let good = wrong.is_none();
            left_out.extend(wrong.map(|why| format!("{what}: {why}")));
            good
        };
        let resources = Some(resources).filter(|has| keep("what it has", possible(has)));
        let has_tunnel = tunnel_address.is_some();
        let tunnel_address = tunnel_address.filter(|address| {
            let found = check_tunnel_address(*address).map_err(|why| format!("{address}: {why}"));
            keep("its tunnel address", found)
        });
        let unreachable = (has_tunnel && tunnel_address.is_none()).then(unreachable);
        // The text is not repeated: it may be long.
        let found = |text: &str| check_console_address(text).map_err(str::to_owned);
        let console_address = console_address.filter(|text| keep("its console address", found(text)));
        let profile = profile.filter(|profile| keep("what it says that it is", profile.check()));
        let disk_key = disk_key.filter(|key| keep("its public key", public_key(key)));
        let rbd = rbd.filter(|pool| keep("the pool that it reaches", check_pool(pool)));
        let metrics = Some(metrics).filter(|metrics| keep("its metrics", check_metrics(metrics)));
        Ok(Heartbeat {
            resources: resources.unwrap_or_default(),
            hypervisor,
            availability_zone,
            tunnel_address,
            console_address,
            profile,
            metrics: metrics.unwrap_or_default(),
            not_ready: not_ready.map(not_ready_within).or(unreachable),
            disk_key,
            problems: problems
                .iter()
                .take(MAX_PROBLEMS)
                .map(|text| one_line(text, crate::host::MAX_REASON))
                .filter(|text| !text.is_empty())
                .collect(),
            rbd,
            snapshots: progress_within(snapshots, left_out),
        })
    }
}

#[cfg(test)]
mod tests;
