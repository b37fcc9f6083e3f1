//! `cumulet simulate`: the control plane with simulated hosts in one process under a virtual clock, and the
//! verdict on what must hold.

use std::{
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::{Context, Result};
use clap::Args;
use cumulet_simulate::{FaultKind, FaultKinds, Faults, Invariant, Options, Outcome, run, template};
use serde::Serialize;

use super::{jobs, kill_each::KillEach};
use crate::{telemetry::say, wiring};

/// See the module.
#[derive(Args, Debug)]
pub(crate) struct Simulate {
    /// How many hosts.
    #[arg(long, default_value_t = 5, value_name = "N")]
    hosts: usize,
    /// How many instances at a time.
    #[arg(long, default_value_t = 20, value_name = "N")]
    instances: usize,
    /// What decides all else: the same seed is the same run.
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// A run for each seed of a range, such as 1..1000 (both included), in place of --seed.
    #[arg(long, value_name = "FROM..TO", value_parser = range)]
    seeds: Option<(u64, u64)>,
    /// What goes wrong: none, default (another choice for each seed), or some of the kinds in --kinds.
    #[arg(long, default_value = "default", value_name = "KINDS")]
    faults: FaultKinds,
    /// Runs at the same time.
    #[arg(long, default_value_t = 1, value_name = "N")]
    jobs: usize,
    /// Print JSON, a line for each run.
    #[arg(long)]
    json: bool,
    /// Print everything that comes to pass.
    #[arg(long)]
    trace: bool,
    /// List the kinds of faults, and do nothing else.
    #[arg(long)]
    kinds: bool,
    #[command(flatten)]
    each: KillEach,
}

fn range(text: &str) -> Result<(u64, u64), String> {
    let (from, to) = text.split_once("..").ok_or("a range is FROM..TO")?;
    let number = |text: &str| text.parse::<u64>().map_err(|error| format!("{text:?}: {error}"));
    let (from, to) = (number(from)?, number(to.trim_start_matches('='))?);
    if from > to {
        return Err(format!("{from} is more than {to}"));
    }
    Ok((from, to))
}

impl Simulate {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        if self.kinds {
            for (_, name, what) in FaultKind::ALL {
                say(format_args!("{name:<12}{}", what.trim()));
            }
            return Ok(ExitCode::SUCCESS);
        }
        if self.each.wanted() {
            return self.each.run(self.seed, self.jobs, self.trace);
        }
        let (from, to) = self.seeds.unwrap_or((self.seed, self.seed));
        let next = AtomicU64::new(from);
        let total = Mutex::new(Total::default());
        jobs::at_once(self.jobs, || self.some(&next, to, &total))?;
        let total = total.into_inner().unwrap_or_else(PoisonError::into_inner);
        if to > from && !self.json {
            total.tell();
        }
        Ok(if total.failed.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }

    /// Takes one seed after the other.
    fn some(&self, next: &AtomicU64, to: u64, total: &Mutex<Total>) -> Result<()> {
        let template = template()?;
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed > to {
                return Ok(());
            }
            let options = Options {
                hosts: self.hosts,
                instances: self.instances,
                seed,
                faults: self.faults.clone(),
                sabotage: None,
                trace: self.trace,
            };
            let outcome =
                run(&options, &template, wiring::local_bus()).with_context(|| format!("seed {seed}"))?;
            let single = self.seeds.is_none();
            if self.json {
                let peak = if single { peak_memory_kib() } else { None };
                let line = Line {
                    outcome: &outcome,
                    holds: outcome.holds(),
                    peak_memory_kib: peak,
                };
                say(serde_json::to_string(&line)?);
            } else if single || !outcome.holds() {
                if self.trace {
                    say(outcome.trace.trim_end());
                }
                self.tell(&outcome);
            }
            total.lock().unwrap_or_else(PoisonError::into_inner).add(&outcome);
        }
    }

    fn tell(&self, outcome: &Outcome) {
        let seed = outcome.seed;
        say(format_args!(
            "seed {seed}: {} hosts, instances {:?}, {:.0} s of virtual time in {:.2} s",
            outcome.hosts, outcome.instances, outcome.virtual_seconds, outcome.wall_seconds
        ));
        if outcome.faults != Faults::default() {
            say(format_args!("  faults {:?}", outcome.faults));
        }
        let counts: Vec<_> = outcome
            .counts
            .each()
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .collect();
        let counts: Vec<_> = counts
            .iter()
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        say(format_args!("  {}", counts.join(", ")));
        say(format_args!(
            "  {:.0} starts a second",
            outcome.starts_per_wall_second
        ));
        for (name, of) in [
            ("launch to start, virtual", outcome.launch_virtual_ms),
            ("launch to start, wall", outcome.launch_wall_ms),
            ("API call, wall", outcome.call_wall_ms),
        ] {
            say(format_args!(
                "  {name:<26}p50 {:.1} ms, p90 {:.1}, p99 {:.1}, max {:.1} (of {})",
                of.p50, of.p90, of.p99, of.max, of.count
            ));
        }
        if let Some(peak) = peak_memory_kib() {
            say(format_args!("  memory at the most {} MiB", peak / 1024));
        }
        verdicts(outcome);
        say(format_args!(
            "  digest {} of {} events",
            outcome.digest, outcome.events
        ));
        if !outcome.holds() {
            say(format_args!(
                "  again: cumulet simulate --hosts {} --instances {} --faults {} --seed {seed} --trace",
                self.hosts, self.instances, self.faults
            ));
        }
    }
}

/// What holds, and what does not.
fn verdicts(outcome: &Outcome) {
    for (invariant, name) in Invariant::ALL {
        let found = outcome
            .violations
            .iter()
            .find(|found| found.invariant == invariant);
        say(format_args!(
            "  {:<36}{}",
            name,
            if found.is_some() { "VIOLATED" } else { "holds" }
        ));
        for words in found.iter().flat_map(|found| &found.told) {
            say(format_args!("    {words}"));
        }
    }
}

/// An outcome for machines.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    outcome: &'a Outcome,
    holds: bool,
    peak_memory_kib: Option<u64>,
}

/// What many runs came to.
#[derive(Default)]
struct Total {
    runs: u64,
    failed: Vec<u64>,
    counts: std::collections::BTreeMap<&'static str, u64>,
    killed_at: std::collections::BTreeSet<String>,
}

impl Total {
    fn add(&mut self, outcome: &Outcome) {
        self.runs += 1;
        if !outcome.holds() {
            self.failed.push(outcome.seed);
        }
        for (name, count) in outcome.counts.each() {
            *self.counts.entry(name).or_default() += count;
        }
        self.killed_at.extend(outcome.killed_at.iter().cloned());
    }

    fn tell(&self) {
        let counts: Vec<_> = self
            .counts
            .iter()
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        say(format_args!("{} runs: {}", self.runs, counts.join(", ")));
        say(format_args!("killed at {} crash points", self.killed_at.len()));
        match self.failed.as_slice() {
            [] => say("all invariants hold in all of them"),
            failed => say(format_args!(
                "{} went wrong, with the seeds {failed:?}",
                failed.len()
            )),
        }
    }
}

/// The most memory that the process has had.
fn peak_memory_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches("kB").trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_include_both_ends() {
        assert_eq!(range("1..1000"), Ok((1, 1000)));
        assert_eq!(range("3..=3"), Ok((3, 3)));
        assert!(range("5").is_err() && range("2..1").is_err() && range("a..b").is_err());
    }
}
