//! Faults from outside of roles and hosts, as long as the faulty part of a run lasts: kills, power cuts,
//! partitions, jumps of clocks.

use std::{future::Future, sync::Arc};

use cumulet_domain::message::OffReason;

use super::setup::Cloud;
use crate::{host::Host, world::World};

const HOUR: u64 = 3_600_000;

/// How long something is taken away, in milliseconds.
const WHILE: std::ops::Range<u64> = 1000..120_000;

/// Begins.
pub(super) fn start(world: &Arc<World>, cloud: &Cloud) {
    let faults = world.planned().clone();
    let hosts = &cloud.hosts;
    let (api, conductors, bus) = (&cloud.api, &cloud.conductors, &cloud.bus);
    now_and_then(world, faults.kills, |_| {
        let (api, conductors) = (api.clone(), conductors.clone());
        move |world| {
            if world.dice.chance(0.5) {
                api.kill();
            } else if let Some(conductor) = world.dice.pick(&conductors) {
                conductor.kill();
            }
            std::future::ready(())
        }
    });
    now_and_then(world, faults.guest_crashes, |_| {
        let hosts = hosts.clone();
        move |world| {
            let by_itself = world.dice.chance(0.5);
            if let Some(host) = world.dice.pick(&hosts) {
                host.guest_goes_off(if by_itself {
                    OffReason::GuestShutdown
                } else {
                    OffReason::Crashed
                });
            }
            std::future::ready(())
        }
    });
    now_and_then(world, faults.clock_jumps, |_| {
        |world: Arc<World>| {
            let seconds = i64::try_from(world.dice.number(0..7200)).unwrap_or(0) - 3600;
            world.count(|counts| counts.clock_jumps += 1);
            world.note(format_args!("the clocks jump by {seconds} s"));
            world.clock.jump(seconds * 1000);
            std::future::ready(())
        }
    });
    let bus = bus.clone();
    taken_away(world, hosts, faults.partitions, move |world, host, away| {
        world.count(|counts| counts.partitions += u64::from(away));
        world.note(format_args!("{}: cut off {away}", host.id));
        bus.cut(&host.id, away);
    });
    taken_away(world, hosts, faults.freezes, |world, host, away| {
        world.count(|counts| counts.freezes += u64::from(away));
        host.freeze(away);
    });
    taken_away(world, hosts, faults.power_cuts, |world, host, away| {
        world.count(|counts| counts.power_cuts += u64::from(away));
        host.power(!away);
    });
}

/// Something happens so many times an hour, on the average.
fn now_and_then<A, F>(world: &Arc<World>, times: u64, act: impl FnOnce(&Arc<World>) -> A)
where
    A: Fn(Arc<World>) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    if times == 0 {
        return;
    }
    let (world, act) = (world.clone(), act(world));
    tokio::spawn(async move {
        loop {
            world.pause(0..2 * HOUR / times).await;
            if !world.rages() {
                return;
            }
            act(world.clone()).await;
        }
    });
}

/// A host is taken something away so many times an hour, and given it back after a while.
fn taken_away(
    world: &Arc<World>,
    hosts: &[Arc<Host>],
    times: u64,
    change: impl Fn(&World, &Host, bool) + Clone + Send + Sync + 'static,
) {
    let hosts = hosts.to_vec();
    now_and_then(world, times, move |_| {
        move |world: Arc<World>| {
            let host = world.dice.pick(&hosts).cloned();
            let change = change.clone();
            async move {
                if let Some(host) = host {
                    change(&world, &host, true);
                    world.pause(WHILE).await;
                    change(&world, &host, false);
                }
            }
        }
    });
}
