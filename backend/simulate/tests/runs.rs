//! Whole runs: the same seed is the same run, nothing is violated where nothing is broken, and what is broken
//! on purpose is found.

#![allow(clippy::unwrap_used)] // a test may stop the world
use std::sync::Arc;

use cumulet_bus::{Bus, LocalBus};
use cumulet_simulate::{Invariant, Options, Outcome, Sabotage, run, template};

fn options(seed: u64, faults: &str) -> Options {
    Options {
        hosts: 3,
        instances: 12,
        seed,
        faults: faults.parse().unwrap(),
        sabotage: None,
        trace: false,
    }
}

fn go(options: &Options) -> Outcome {
    let bus: Arc<dyn Bus> = Arc::new(LocalBus::new());
    run(options, &template().unwrap(), bus).unwrap()
}

fn must_hold(outcome: &Outcome) {
    assert!(
        outcome.holds(),
        "seed {}: {:#?}",
        outcome.seed,
        outcome.violations
    );
}

#[test]
fn where_nothing_goes_wrong_everything_runs() {
    let outcome = go(&options(1, "none"));
    must_hold(&outcome);
    assert_eq!(
        outcome.instances.get("running"),
        Some(&12),
        "{:?}",
        outcome.instances
    );
    assert_eq!(outcome.faults, Default::default());
}

#[test]
fn the_same_seed_is_the_same_run() {
    for faults in ["none", "default"] {
        let (one, other) = (go(&options(7, faults)), go(&options(7, faults)));
        assert_eq!((&one.digest, one.events), (&other.digest, other.events));
        assert_ne!(one.digest, go(&options(8, faults)).digest);
    }
}

#[test]
fn some_seeds_with_all_kinds_of_faults() {
    for seed in 1..20 {
        must_hold(&go(&options(seed, "default")));
    }
}

#[test]
fn seeds_that_once_went_wrong() {
    let lines = include_str!("../regressions.txt")
        .lines()
        .filter(|line| !line.starts_with('#'));
    let mut runs = 0;
    for line in lines {
        let mut words = line.split_whitespace();
        let mut number = || words.next().unwrap().parse::<usize>().unwrap();
        let (seed, hosts, instances) = (number(), number(), number());
        let options = Options {
            hosts,
            instances,
            ..options(seed as u64, words.next().unwrap())
        };
        must_hold(&go(&options));
        runs += 1;
    }
    assert!(runs > 0);
}

#[test]
fn hypervisors_that_are_slow_for_a_while_delay_launches_and_end_none() {
    let (mut spells, mut late, mut slowest) = (0, 0, 0.0_f64);
    for seed in 1..16 {
        let outcome = go(&options(seed, "slow"));
        must_hold(&outcome);
        spells += outcome.counts.slow_spells;
        late += outcome.counts.late_calls;
        slowest = slowest.max(outcome.launch_virtual_ms.max);
    }
    assert!(spells > 15 && late > 15, "{spells} spells, {late} late calls");
    assert!(slowest > 60_000.0, "no launch was delayed: {slowest} ms");
    let (one, other) = (go(&options(3, "slow")), go(&options(3, "slow")));
    assert_eq!((&one.digest, one.events), (&other.digest, other.events));
}

#[test]
fn slow_hypervisors_beside_everything_else() {
    for seed in 1..12 {
        must_hold(&go(&options(
            seed,
            "slow,loss,repeat,reorder,worker,host,hypervisor,guest",
        )));
    }
}

/// What is broken on purpose must be found within some seeds.
fn is_found(sabotage: Sabotage, faults: &str, invariant: Invariant) {
    let found = (1..40).any(|seed| {
        let outcome = go(&Options {
            sabotage: Some(sabotage),
            ..options(seed, faults)
        });
        outcome
            .violations
            .iter()
            .any(|found| found.invariant == invariant)
    });
    assert!(found, "{sabotage:?} was not found");
}

#[test]
fn a_guest_that_stays_is_found() {
    is_found(Sabotage::KeepGuests, "none", Invariant::I1);
}

#[test]
fn an_outcome_that_is_never_told_is_found() {
    is_found(Sabotage::Mute, "none", Invariant::I2);
}

#[test]
fn a_claim_that_is_not_charged_is_found() {
    is_found(Sabotage::NoClaim, "none", Invariant::I3);
}

#[test]
fn a_token_that_is_forgotten_is_found() {
    is_found(Sabotage::ForgetTokens, "none", Invariant::I4);
}

#[test]
fn a_row_that_is_lost_is_found() {
    is_found(Sabotage::LoseRows, "none", Invariant::I5);
}

#[test]
fn an_instance_without_its_root_volume_is_found() {
    is_found(Sabotage::LoseAttachments, "none", Invariant::I1);
}

#[test]
fn an_address_that_is_not_given_back_is_found() {
    is_found(Sabotage::KeepAddresses, "none", Invariant::I1);
}

#[test]
fn a_worker_that_gives_up_what_is_late_is_found() {
    is_found(Sabotage::GiveUpWhatIsLate, "slow", Invariant::I9);
}

#[test]
fn a_hold_that_outlives_its_operation_is_found() {
    is_found(Sabotage::KeepHolds, "none", Invariant::I10);
}

#[test]
fn a_volume_whose_data_is_forgotten_is_found() {
    is_found(Sabotage::ForgetVolumes, "none", Invariant::I11);
}

#[test]
fn a_worker_that_obeys_old_commands_is_found() {
    is_found(Sabotage::IgnoreGenerations, "repeat,reorder,delay", Invariant::I6);
}
