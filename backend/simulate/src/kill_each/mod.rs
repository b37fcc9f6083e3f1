//! Runs for each crash point: a small cloud, in which one operation comes to the point, the role that comes there dies,
//! once or again and again, and is back after a while. Then everything must be as if nobody had died: all invariants
//! hold, what was asked is done once, and a bystander has noticed nothing.

mod bystander;
mod doom;
mod script;
mod storage;

use std::{collections::BTreeSet, fmt, sync::Arc, time::Duration};

use cumulet_backend::{
    conductor::{Duties, crash_points},
    store::Template,
};
use cumulet_bus::Bus;
use cumulet_domain::{Error, Result, crash::Point};

use crate::{
    faults::{FaultKinds, Faults},
    options::{Options, Sabotage},
    roles,
    run::{self, setup, setup::Cloud},
    world::World,
};
use bystander::Bystander;
use doom::{Doom, Mortals};
use script::Script;

/// How many hosts a run has, and room for how many instances.
const HOSTS: usize = 2;
const ROOM: usize = 12;

/// How soon everything must be at rest: a minute after the dead are back, who stay away for 20 s at the most.
const SOON: Duration = Duration::from_secs(120);

/// How long after a rest nobody may stir it: longer than anybody who died stays away.
const LATER: Duration = Duration::from_secs(60);

/// How the roles are spread over processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// All of them in one process, which dies as a whole.
    Together,
    /// Each in one of its own: the others live.
    Apart,
}

/// What is to be tried.
#[derive(Clone, Debug)]
pub struct Trial {
    /// The crash point of the deaths.
    pub point: Point,
    /// What is asked for, which becomes the point's operation.
    pub act: &'static str,
    /// How often at the most: some points are not passed again.
    pub deaths: u32,
    /// Who dies with it.
    pub layout: Layout,
    /// Whether a TerminateInstances comes as soon as a role has died.
    pub ended: bool,
    /// Decides all else.
    pub seed: u64,
}

impl fmt::Display for Trial {
    /// As the arguments that run it again.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let layout = match self.layout {
            Layout::Together => "together",
            Layout::Apart => "apart",
        };
        write!(
            f,
            "--only {} --act {} --deaths {} --roles {layout}",
            self.point.name, self.act, self.deaths
        )?;
        if self.ended {
            f.write_str(" --ended")?;
        }
        write!(f, " --seed {}", self.seed)
    }
}

/// What a trial came to.
#[derive(Debug)]
pub struct TrialOutcome {
    /// What is wrong, in words; nothing where all holds.
    pub problems: Vec<String>,
    /// How many died.
    pub deaths: u32,
    /// From the first death until everything was at rest, by virtual time.
    pub recovery: Duration,
    /// The points that were passed.
    pub passed: BTreeSet<String>,
    /// What came to pass, where it was kept.
    pub trace: String,
}

/// What can be asked for that becomes an operation.
pub fn acts(operation: &str) -> impl Iterator<Item = &'static str> {
    script::acts_of(operation)
}

/// Every trial of the points that a simulated cloud passes, for each act that comes to them: one death and three in a
/// row, of the one process and of the role alone; and, where something is left to end, an end that is asked for while the
/// role is away.
pub fn trials(points: &[Point], seed: u64) -> Vec<Trial> {
    let mut all = Vec::new();
    for point in points {
        for act in script::acts_at(point) {
            let trial = |deaths, layout, ended| Trial {
                point: point.clone(),
                act,
                deaths,
                layout,
                ended,
                seed,
            };
            for layout in [Layout::Together, Layout::Apart] {
                all.extend([1, 3].map(|deaths| trial(deaths, layout, false)));
            }
            if point.operation != "terminate" {
                all.push(trial(1, Layout::Apart, true));
            }
        }
    }
    all
}

/// The points that a simulated cloud passes where nobody dies.
///
/// # Errors
/// When a run can't be set up, when an operation has no script, and when a point is passed that is not listed.
pub fn survey(template: &Template, bus: &dyn Fn() -> Arc<dyn Bus>) -> Result<BTreeSet<String>> {
    let listed = crash_points();
    let operations: BTreeSet<_> = listed.iter().map(|point| point.operation).collect();
    let mut passed = BTreeSet::new();
    for operation in operations {
        if acts(operation).next().is_none() {
            return Err(Error::Internal(format!(
                "{operation} has crash points and no line in kill_each/script.rs"
            )));
        }
        for act in acts(operation) {
            let (plan, ended) = ((act, None), false);
            let attempt = in_thread(plan, ended, &Setting::of(Layout::Apart, 1), template, bus())?;
            if let Some(problem) = attempt.problems.first() {
                return Err(Error::Internal(format!("{act}, where nobody dies: {problem}")));
            }
            passed.extend(attempt.passed);
        }
    }
    let unknown: Vec<_> = passed
        .iter()
        .filter(|name| !listed.iter().any(|point| point.name == **name))
        .collect();
    if !unknown.is_empty() {
        return Err(Error::Internal(format!(
            "passed and in no operation's list of steps: {unknown:?}"
        )));
    }
    Ok(passed)
}

/// Runs a trial, in this thread. `template` and `bus` are those of [`crate::run`].
///
/// # Errors
/// When it can't be set up: whatever goes wrong later is in what it came to.
pub fn attempt(
    trial: &Trial,
    sabotage: Option<Sabotage>,
    keep_trace: bool,
    template: &Template,
    bus: Arc<dyn Bus>,
) -> Result<TrialOutcome> {
    let setting = Setting {
        sabotage,
        keep_trace,
        ..Setting::of(trial.layout, trial.seed)
    };
    let plan = (trial.act, Some((trial.point.clone(), trial.deaths)));
    in_thread(plan, trial.ended, &setting, template, bus)
}

/// What a run is set up with.
struct Setting {
    layout: Layout,
    seed: u64,
    sabotage: Option<Sabotage>,
    keep_trace: bool,
}

impl Setting {
    fn of(layout: Layout, seed: u64) -> Self {
        Setting {
            layout,
            seed,
            sabotage: None,
            keep_trace: false,
        }
    }
}

/// What is asked for, and the point at which how many die in it.
type Plan = (&'static str, Option<(Point, u32)>);

fn in_thread(
    plan: Plan,
    ended: bool,
    setting: &Setting,
    template: &Template,
    bus: Arc<dyn Bus>,
) -> Result<TrialOutcome> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .map_err(|error| Error::internal(&error))?;
    let attempt = runtime.block_on(go(plan, ended, setting, template, bus));
    roles::no_more_points();
    attempt
}

async fn go(
    (act, death): Plan,
    ended: bool,
    setting: &Setting,
    template: &Template,
    bus: Arc<dyn Bus>,
) -> Result<TrialOutcome> {
    let (world, cloud, doom) = build(act, setting, template, bus).await?;
    let mut script = Script::new(act, &world, &cloud)?;
    let bystander = Bystander::launch(&mut script).await?;
    script.prepare().await?;
    doom.plan(death.clone());
    let began = world.clock.elapsed();
    script.ask(death.as_ref().map(|(point, _)| point.step)).await?;
    if death.is_some() {
        script.until_dead(&doom).await;
    }
    if ended {
        script.terminate().await?;
    }
    run::settle(&world, &cloud).await?;
    let recovery = Duration::from_millis(world.clock.elapsed() - began);
    if recovery > SOON {
        script.wrong(format!(
            "everything was at rest only after {} s",
            recovery.as_secs()
        ));
    }
    tokio::time::sleep(LATER).await;
    run::settle(&world, &cloud).await?;
    script.check(ended).await?;
    // What is left goes, and nothing is left of it.
    doom.calm();
    script.terminate().await?;
    run::settle(&world, &cloud).await?;
    bystander.check(&mut script).await?;
    world.over();
    let (_, _, trace) = world.trace().finish();
    let mut problems = script.problems;
    problems.extend(world.violations().into_iter().flat_map(|violation| {
        let name = format!("{:?}", violation.invariant);
        violation
            .told
            .into_iter()
            .map(move |words| format!("{name}: {words}"))
    }));
    Ok(TrialOutcome {
        problems,
        deaths: doom.deaths(),
        recovery,
        passed: doom.passed(),
        trace,
    })
}

async fn build(
    act: &str,
    setting: &Setting,
    template: &Template,
    bus: Arc<dyn Bus>,
) -> Result<(Arc<World>, Cloud, Arc<Doom>)> {
    let options = Options {
        hosts: HOSTS,
        instances: ROOM,
        seed: setting.seed,
        faults: FaultKinds::None,
        sabotage: setting.sabotage,
        trace: setting.keep_trace,
    };
    let world = World::new(
        setting.seed,
        Faults::default(),
        setting.sabotage,
        setting.keep_trace,
    );
    let processes: &[Duties] = match setting.layout {
        Layout::Together => &[Duties::ALL],
        Layout::Apart => &[
            Duties {
                place: true,
                drive: false,
            },
            Duties {
                place: false,
                drive: true,
            },
        ],
    };
    let cloud = setup::build_with(
        &options,
        &world,
        template,
        bus,
        (processes, storage::store_of(act)),
    )
    .await?;
    world.watch(cloud.store.clone());
    let doom = Arc::new(Doom::default());
    let (Some(scheduler), Some(conductor)) = (cloud.conductors.first(), cloud.conductors.last()) else {
        return Err(Error::Internal("a cloud without a conductor".into()));
    };
    let mortals = Mortals {
        together: setting.layout == Layout::Together,
        api: cloud.api.clone(),
        scheduler: scheduler.clone(),
        conductor: conductor.clone(),
        hosts: cloud.hosts.clone(),
    };
    mortals.meet(&world, &doom);
    run::until_hosts(HOSTS, &cloud).await?;
    // Messages, requests and transactions take some time from now on; nothing else goes wrong.
    world.rage();
    cloud.replan();
    Ok((world, cloud, doom))
}
