//! One simulation run: a cloud is set up, used under faults, left to recover, and checked.

mod chaos;
pub(crate) mod setup;

use std::{sync::Arc, time::Instant};

use cumulet_backend::{
    conductor::crash_points,
    store::{Template, failed},
};
use cumulet_bus::Bus;
use cumulet_domain::{Error, Result};
use sea_orm::{EntityTrait as _, PaginatorTrait as _};

use crate::{
    check,
    client::LOOK,
    dice::Dice,
    faults::Faults,
    options::Options,
    outcome::{Invariant, Latencies, Outcome},
    roles,
    world::World,
};
use setup::Cloud;

/// How long everything may take to be at rest when nothing goes wrong any more, in virtual milliseconds.
const RECOVERY: u64 = 20 * 60 * 1000;

/// How long the latest message may still be on its way.
const HOUR: u64 = 3_600_000;

/// Runs, in this thread. `template` is an empty database, and `bus` is the bus that messages go over
/// when nothing goes wrong.
///
/// # Errors
/// When the run can't be set up: whatever goes wrong later is in the outcome.
pub fn run(options: &Options, template: &Template, bus: Arc<dyn Bus>) -> Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .map_err(|error| Error::internal(&error))?;
    let outcome = runtime.block_on(go(options, template, bus));
    roles::no_more_points();
    outcome
}

/// A template for [`run`].
///
/// # Errors
/// Those of the database.
pub fn template() -> Result<Template> {
    // Whoever makes a run may be killed in it.
    drop(crash_points());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .map_err(|error| Error::internal(&error))?;
    runtime.block_on(Template::make())
}

async fn go(options: &Options, template: &Template, bus: Arc<dyn Bus>) -> Result<Outcome> {
    let began = Instant::now();
    let faults = Faults::choose(&options.faults, &Dice::new(options.seed.rotate_left(32)));
    let world = World::new(options.seed, faults, options.sabotage, options.trace);
    let cloud = setup::build(options, &world, template, bus).await?;
    world.watch(cloud.store.clone());
    let first = use_it(options, &world, &cloud).await?;
    world.calm();
    cloud.heal();
    recover(&world, &cloud).await?;
    cloud.hosts.iter().for_each(|host| host.count_dropped());
    let states = check::Rows::load(&cloud.store).await?.states();
    world.over();
    Ok(outcome(options, &world, states, began, first))
}

/// Clients use the cloud; when its guests began to start.
async fn use_it(options: &Options, world: &Arc<World>, cloud: &Cloud) -> Result<Instant> {
    until_hosts(options.hosts, cloud).await?;
    let first = Instant::now();
    let clients = cloud.clients(options, world);
    let each = options.instances.div_ceil(clients.len().max(1));
    let mut tasks = Vec::new();
    if world.quiet() {
        for client in clients {
            tasks.push(tokio::spawn(client.load(each)));
        }
    } else {
        world.rage();
        cloud.replan();
        let until = world.clock.elapsed() + world.dice.number(60_000..180_000);
        chaos::start(world, cloud);
        for client in clients {
            tasks.push(tokio::spawn(client.churn(each, until)));
        }
    }
    for task in tasks {
        if task.await.is_err() {
            world.violate(Invariant::Errors, format_args!("a client panicked"));
        }
    }
    Ok(first)
}

/// Until every host has registered.
pub(crate) async fn until_hosts(wanted: usize, cloud: &Cloud) -> Result<()> {
    for _ in 0..60 {
        let hosts = cumulet_backend::entity::host::Entity::find()
            .count(cloud.store.read())
            .await
            .map_err(failed)?;
        if hosts >= wanted as u64 {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
    Err(Error::Unavailable("the hosts did not register".into()))
}

/// Waits until everything is as it shall be; what is not in time, is not.
async fn recover(world: &Arc<World>, cloud: &Cloud) -> Result<()> {
    let late = world.seen().counts.delayed > 0 && world.dice.chance(0.2);
    settle(world, cloud).await?;
    if late {
        // The latest messages come yet, and must not change a thing.
        tokio::time::sleep(std::time::Duration::from_millis(HOUR)).await;
        settle(world, cloud).await?;
    }
    Ok(())
}

/// Waits until everything is at rest and nothing is wrong with it; what is not in time, is wrong.
pub(crate) async fn settle(world: &Arc<World>, cloud: &Cloud) -> Result<()> {
    let until = world.clock.elapsed() + RECOVERY;
    loop {
        let over = world.clock.elapsed() >= until;
        if over || check::is_quiet(&cloud.store).await? {
            let only_slow = world.planned().is_only_slow();
            let findings = check::all(&cloud.store, &cloud.hosts, &cloud.ledger, only_slow).await?;
            if findings.is_empty() {
                world.note(format_args!("at rest"));
                return Ok(());
            }
            if over {
                for (invariant, words) in findings {
                    world.violate(invariant, format_args!("{words}"));
                }
                return Ok(());
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

#[allow(clippy::cast_precision_loss)] // milliseconds and counts
fn outcome(
    options: &Options,
    world: &World,
    instances: std::collections::BTreeMap<String, u64>,
    began: Instant,
    first: Instant,
) -> Outcome {
    let (digest, events, trace) = world.trace().finish();
    let violations = world.violations();
    let mut seen = world.seen();
    let took = seen
        .watches
        .last_start
        .map_or(0.0, |last| (last - first).as_secs_f64());
    Outcome {
        seed: options.seed,
        hosts: options.hosts,
        instances,
        faults: world.planned().clone(),
        virtual_seconds: world.clock.elapsed() as f64 / 1000.0,
        wall_seconds: began.elapsed().as_secs_f64(),
        starts_per_wall_second: if took > 0.0 {
            seen.counts.starts as f64 / took
        } else {
            0.0
        },
        launch_virtual_ms: Latencies::of(&mut seen.watches.virtual_launch),
        launch_wall_ms: Latencies::of(&mut seen.watches.wall_launch),
        call_wall_ms: Latencies::of(&mut seen.watches.wall_call),
        counts: seen.counts.clone(),
        violations,
        events,
        digest,
        killed_at: seen.killed_at.iter().cloned().collect(),
        trace,
    }
}
