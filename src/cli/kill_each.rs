//! `cumulet simulate --kill-each`: a simulated cloud for each crash point of each operation, in which the role that comes
//! to the point dies, and the verdict on what must hold when they are back.

use std::{
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use cumulet_backend::conductor::crash_points;
use cumulet_domain::crash::Point;
use cumulet_simulate::{Layout, Trial, TrialOutcome, acts, attempt, survey, template, trials};

use super::jobs;
use crate::{telemetry::say, wiring};

/// See the module.
#[derive(Args, Debug)]
pub(crate) struct KillEach {
    /// Kill the role that comes to a crash point, in a run for each point of each operation: once and again and again, the
    /// whole process and a role alone, and with a TerminateInstances meanwhile.
    #[arg(long, conflicts_with_all = ["hosts", "instances", "seeds", "faults", "json"])]
    kill_each: bool,
    /// Of these, only one point (`launch.7.sent`) or operation (`launch`).
    #[arg(long, requires = "kill_each", value_name = "POINT")]
    only: Option<String>,
    /// Of these, only those in which this is asked for, where several calls become one operation (`copy-volume` takes a
    /// snapshot).
    #[arg(long, requires = "kill_each", value_name = "WHAT")]
    act: Option<String>,
    /// Of these, only those with so many deaths in a row; with --roles, whatever the number is.
    #[arg(long, requires = "kill_each", value_name = "N")]
    deaths: Option<u32>,
    /// Of these, only those in which all roles die together, or each by itself.
    #[arg(long, requires = "kill_each", value_name = "HOW")]
    roles: Option<Roles>,
    /// Of these, only those in which TerminateInstances is asked for while the dead are away.
    #[arg(long, requires = "kill_each")]
    ended: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Roles {
    Together,
    Apart,
}

impl Roles {
    fn layout(self) -> Layout {
        match self {
            Roles::Together => Layout::Together,
            Roles::Apart => Layout::Apart,
        }
    }
}

impl KillEach {
    pub(crate) fn wanted(&self) -> bool {
        self.kill_each
    }

    pub(crate) fn run(&self, seed: u64, jobs: usize, trace: bool) -> Result<ExitCode> {
        let began = Instant::now();
        let passed = survey(&template()?, &wiring::local_bus)?;
        let points = self.points()?;
        if let Some(point) = points.iter().find(|point| !passed.contains(&point.name)) {
            bail!("nothing comes to {}: is it passed at all?", point.name);
        }
        let trials = self.chosen(&points, seed)?;
        let total = Mutex::new(Total::default());
        let next = AtomicUsize::new(0);
        jobs::at_once(jobs, || some(&trials, &next, trace, &total))?;
        let total = total.into_inner().unwrap_or_else(PoisonError::into_inner);
        total.tell(trials.len(), points.len(), began.elapsed());
        Ok(if total.failed == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }

    fn points(&self) -> Result<Vec<Point>> {
        let mut points = crash_points();
        if let Some(only) = &self.only {
            points.retain(|point| point.name == *only || point.operation == only);
            if points.is_empty() {
                bail!(
                    "--only {only}: there is no such point or operation; `cumulet crash-points` lists them"
                );
            }
        }
        Ok(points)
    }

    fn chosen(&self, points: &[Point], seed: u64) -> Result<Vec<Trial>> {
        let mut all = trials(points, seed);
        if let (Some(deaths), Some(roles)) = (self.deaths, self.roles) {
            // Any number of deaths can be asked for like this.
            let trial = |(point, act): (&Point, _)| Trial {
                point: point.clone(),
                act,
                deaths,
                layout: roles.layout(),
                ended: self.ended,
                seed,
            };
            let pairs = points
                .iter()
                .flat_map(|point| acts(point.operation).map(move |act| (point, act)));
            all = pairs.map(trial).collect();
        }
        all.retain(|trial| {
            self.act.as_ref().is_none_or(|act| trial.act == act)
                && self.deaths.is_none_or(|deaths| trial.deaths == deaths)
                && self.roles.is_none_or(|roles| trial.layout == roles.layout())
                && (!self.ended || trial.ended)
        });
        if all.is_empty() {
            bail!("of the points that a simulated cloud passes, none is left to be tried");
        }
        Ok(all)
    }
}

/// Takes one trial after the other.
fn some(trials: &[Trial], next: &AtomicUsize, trace: bool, total: &Mutex<Total>) -> Result<()> {
    let template = template()?;
    while let Some(trial) = trials.get(next.fetch_add(1, Ordering::Relaxed)) {
        let came =
            attempt(trial, None, trace, &template, wiring::local_bus()).with_context(|| trial.to_string())?;
        if trace {
            say(came.trace.trim_end());
        }
        for problem in &came.problems {
            say(format_args!("{}: {problem}", trial.point.name));
        }
        if !came.problems.is_empty() {
            say(format_args!(
                "  again: cumulet simulate --kill-each {trial} --trace"
            ));
        }
        total.lock().unwrap_or_else(PoisonError::into_inner).add(&came);
    }
    Ok(())
}

/// What all of them came to.
#[derive(Default)]
struct Total {
    failed: usize,
    deaths: u64,
    slowest: Duration,
}

impl Total {
    fn add(&mut self, came: &TrialOutcome) {
        self.failed += usize::from(!came.problems.is_empty());
        self.deaths += u64::from(came.deaths);
        self.slowest = self.slowest.max(came.recovery);
    }

    fn tell(&self, trials: usize, points: usize, took: Duration) {
        let held = if self.failed == 0 {
            "everything holds in all of them".to_owned()
        } else {
            format!("{} went wrong", self.failed)
        };
        say(format_args!(
            "{points} points, {trials} runs, {} deaths in {:.1} s; at rest after {:.0} s of virtual time at the most: {held}",
            self.deaths,
            took.as_secs_f64(),
            self.slowest.as_secs_f64()
        ));
    }
}
