//! Deaths at crash points: every operation has its run, some points of each role hold, and what is broken on purpose
//! so that only a death shows it is found, at the point where it shows.

#![allow(clippy::unwrap_used)] // a test may stop the world
use std::{collections::BTreeSet, sync::Arc};

use cumulet_backend::conductor::crash_points;
use cumulet_bus::{Bus, LocalBus};
use cumulet_domain::crash::Point;
use cumulet_simulate::{Layout, Sabotage, Trial, TrialOutcome, acts, attempt, survey, template, trials};

fn bus() -> Arc<dyn Bus> {
    Arc::new(LocalBus::new())
}

fn point(name: &str) -> Point {
    crash_points()
        .into_iter()
        .find(|point| point.name == name)
        .unwrap()
}

fn trial(name: &str, deaths: u32, layout: Layout) -> Trial {
    let point = point(name);
    Trial {
        act: acts(point.operation).next().unwrap(),
        point,
        deaths,
        layout,
        ended: false,
        seed: 1,
    }
}

fn go(trial: &Trial, sabotage: Option<Sabotage>) -> TrialOutcome {
    attempt(trial, sabotage, false, &template().unwrap(), bus()).unwrap()
}

#[test]
fn every_point_is_passed() {
    let passed = survey(&template().unwrap(), &bus).unwrap();
    let all = crash_points().into_iter().map(|point| point.name);
    assert_eq!(all.collect::<BTreeSet<_>>(), passed);
}

#[test]
fn one_point_of_each_role_and_the_same_run_again() {
    for name in [
        "launch.2.written",
        "start.5.claimed",
        "launch.16.started",
        "stop.13.heard",
        "attach-volume.5.waiting",
        "delete-volume.6.sent",
        "create-snapshot.9.kept",
    ] {
        for one in trials(&[point(name)], 1) {
            let came = go(&one, None);
            assert_eq!(came.problems, Vec::<String>::new(), "{one}");
            assert!(
                (1..=one.deaths).contains(&came.deaths),
                "{one}: {} deaths",
                came.deaths
            );
            assert!(came.passed.contains(name), "{one}");
            let again = go(&one, None);
            assert_eq!(
                (came.deaths, came.recovery),
                (again.deaths, again.recovery),
                "{one}"
            );
        }
    }
}

/// To its host an image's shutdown is a stop, and what runs again is started.
#[test]
fn a_host_dies_in_an_images_reboot_too() {
    for (name, act) in [("stop.9.off", "create-image"), ("start.16.started", "run-again")] {
        let all = trials(&[point(name)], 1);
        let theirs: Vec<_> = all.into_iter().filter(|one| one.act == act).collect();
        assert_eq!(theirs.len(), 5, "{name}: as any act");
        for one in theirs {
            let came = go(&one, None);
            assert_eq!(came.problems, Vec::<String>::new(), "{one}");
            assert!(
                (1..=one.deaths).contains(&came.deaths),
                "{one}: {} deaths",
                came.deaths
            );
        }
    }
}

#[test]
fn a_token_that_is_forgotten_is_found_where_the_answer_is_lost_after_the_commit() {
    for (name, found) in [
        ("launch.2.written", false),
        ("launch.3.committed", true),
        ("launch.7.sent", false),
    ] {
        let came = go(&trial(name, 1, Layout::Apart), Some(Sabotage::ForgetTokens));
        assert_eq!(!came.problems.is_empty(), found, "{name}: {:?}", came.problems);
    }
}

#[test]
fn a_recovery_that_is_left_out_is_found_where_a_host_dies_and_nowhere_else() {
    for (name, layout, found) in [
        ("launch.3.committed", Layout::Apart, false),
        ("launch.3.committed", Layout::Together, true),
        ("launch.7.sent", Layout::Apart, false),
        ("reboot.8.begun", Layout::Apart, true),
    ] {
        let came = go(&trial(name, 1, layout), Some(Sabotage::NoRecovery));
        assert_eq!(
            !came.problems.is_empty(),
            found,
            "{name}, {layout:?}: {:?}",
            came.problems
        );
    }
}
