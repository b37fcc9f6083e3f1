//! The cases.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use cumulet_bus::Bus as _;
use cumulet_domain::{
    id::{InstanceId, OperationId},
    message::{Action, Command, OffReason, Power, Query, ReportContent},
    time::{Clock as _, Timestamp},
};
use cumulet_hypervisor::{Hypervisor as _, fake::FaultPlan};
use proptest::prelude::*;
use tokio::sync::watch;

use super::{Host, destroy, make, name, report, run, stop};
use crate::{
    MetadataSink as _,
    testing::{VPC, instance, metadata, policy, spec},
};

#[tokio::test]
async fn the_life_of_an_instance_leaves_nothing() {
    let mut host = Host::start().await;
    assert_eq!(host.worker.inventory().await.unwrap(), []);
    let done = host.order(run(1, 1, &[1])).await;
    assert_eq!((done.report, done.failure), (report(1, 1, Power::On, None), None));
    assert_eq!(host.full().await, [report(1, 1, Power::On, None)]);
    assert_eq!(host.sink.registered(), [instance(1)]);
    let answer = host
        .bus
        .query(&name(), Query::ConsoleOutput(instance(1)))
        .await
        .unwrap();
    assert!(String::from_utf8(answer).unwrap().contains("cumulet-fake ready"));

    let done = host.order(stop(1, 2)).await;
    let stopped = report(1, 2, Power::Off, Some(OffReason::Commanded));
    assert_eq!((done.report, done.failure), (stopped.clone(), None));
    assert_eq!(host.sink.registered(), []);
    assert_eq!(host.full().await, [stopped]);

    let done = host.order(run(1, 3, &[1])).await;
    assert_eq!(done.report, report(1, 3, Power::On, None));
    let reboot = Action::Reboot {
        instance: instance(1),
        generation: 4,
    };
    assert_eq!(host.order(reboot).await.failure, None);
    assert_eq!(host.power(1).await, Power::On);

    let done = host.order(destroy(1, 5)).await;
    assert_eq!(
        (done.report, done.failure),
        (report(1, 5, Power::Absent, None), None)
    );
    assert_eq!(host.worker.inventory().await.unwrap(), []);
    assert_eq!(host.full().await, []);
    let left = std::fs::read_dir(host.dir.path().join("hosts/one/vpcs"))
        .unwrap()
        .count();
    assert_eq!(left, 0, "the policy's file");
    // Said again it is only told again.
    assert_eq!(
        host.order(destroy(1, 5)).await.report,
        report(1, 5, Power::Absent, None)
    );
}

#[tokio::test]
async fn what_is_late_or_old_is_dropped() {
    let mut host = Host::start().await;
    host.order(run(1, 5, &[1])).await;
    host.send(destroy(1, 4)).await;
    host.send(stop(1, 3)).await;
    let late = Command {
        operation: Some(OperationId::new(77)),
        deadline: Timestamp(host.clock.now().0 - 1),
        action: destroy(1, 6),
        keys: Vec::new(),
        storage: None,
    };
    host.bus.send(&name(), late).await.unwrap();
    // A later command of the same instance is done after those were judged.
    assert_eq!(host.order(run(1, 5, &[1])).await.report.power, Power::On);
    assert_eq!(host.worker.counters().read(), (2, 1, 1));
    host.order(destroy(1, 7)).await;
    host.send(run(1, 6, &[1])).await;
    host.send(run(1, 7, &[1])).await;
    host.order(destroy(1, 7)).await;
    assert_eq!(host.power(1).await, Power::Absent, "what was destroyed stays so");
}

#[tokio::test]
async fn what_was_stopped_before_it_came_is_not_run_by_a_late_command() {
    let mut host = Host::start().await;
    for _ in 0..2 {
        // Told again as often as it is asked for.
        assert_eq!(
            host.order(stop(1, 3)).await.report,
            report(1, 3, Power::Absent, None)
        );
    }
    host.die_and_come_back().await;
    host.send(run(1, 2, &[1])).await;
    host.order(stop(1, 3)).await;
    assert_eq!(host.power(1).await, Power::Absent);
    assert_eq!(host.order(run(1, 4, &[1])).await.report.power, Power::On);
}

#[tokio::test]
async fn a_stop_of_what_has_no_record_keeps_its_disk() {
    let mut host = Host::start().await;
    host.order(run(1, 1, &[1])).await;
    host.order(stop(1, 2)).await;
    let files = host
        .dir
        .path()
        .join("hosts/one/instances")
        .join(instance(1).to_string());
    std::fs::write(files.join("record.json"), "damaged").unwrap();
    std::fs::write(files.join("disk.qcow2"), "precious").unwrap();
    host.die_and_come_back().await;
    host.order(stop(1, 3)).await;
    host.die_and_come_back().await;
    assert!(files.join("disk.qcow2").exists());
}

#[tokio::test]
async fn what_comes_back_after_its_end_is_destroyed_once_more() {
    let mut host = Host::start().await;
    host.order(run(9, 1, &[9])).await;
    host.order(destroy(9, 2)).await;
    host.hypervisor.prepare(&stray(9)).await.unwrap();
    let command = Command {
        operation: None,
        deadline: host.clock.now().after(Duration::from_secs(60)),
        action: destroy(9, 2),
        keys: Vec::new(),
        storage: None,
    };
    host.bus.send(&name(), command).await.unwrap();
    assert_eq!(host.changed().await, report(9, 2, Power::Absent, None));
    assert_eq!(host.power(9).await, Power::Absent);
}

#[tokio::test]
async fn a_guest_that_goes_off_is_told_of_and_not_started_by_a_repetition() {
    let mut host = Host::start().await;
    for (n, reason) in [(1, OffReason::GuestShutdown), (2, OffReason::Crashed)] {
        host.order(run(n, 1, &[1, 2])).await;
        host.hypervisor.power_off(instance(n), reason);
        assert_eq!(host.changed().await, report(n, 1, Power::Off, Some(reason)));
        let again = host.order(run(n, 1, &[1, 2])).await;
        assert_eq!(again.report, report(n, 1, Power::Off, Some(reason)));
        assert_eq!(host.power(n).await, Power::Off);
        // Its stop keeps the reason.
        assert_eq!(
            host.order(stop(n, 2)).await.report,
            report(n, 2, Power::Off, Some(reason))
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_destroy_does_not_wait_for_a_guest_that_does_not_listen() {
    let mut host = Host::start().await;
    host.order(run(1, 1, &[1])).await;
    host.hypervisor.set_plan(FaultPlan {
        deaf_per_mille: 1000,
        ..FaultPlan::default()
    });
    let began = tokio::time::Instant::now();
    host.send(stop(1, 2)).await;
    host.order(destroy(1, 3)).await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(host.worker.inventory().await.unwrap(), []);
}

#[tokio::test]
async fn one_hung_guest_holds_up_no_other_and_failures_are_told() {
    let mut host = Host::start().await;
    host.hypervisor.set_plan(FaultPlan {
        hang: [instance(1)].into(),
        refuse: [instance(2)].into(),
        ..FaultPlan::default()
    });
    let hung = host.send(run(1, 1, &[1, 2, 3])).await;
    let refused = host.order(run(2, 1, &[1, 2, 3])).await;
    assert!(refused.permanent && refused.failure.is_some());
    assert_eq!(host.order(run(3, 1, &[1, 2, 3])).await.report.power, Power::On);
    // The one in between is reported at the generation that was carried out: none.
    assert!(host.full().await.contains(&report(1, 0, Power::Absent, None)));
    host.hypervisor.set_plan(FaultPlan::default());
    assert_eq!(host.outcome(hung).await.report, report(1, 1, Power::On, None));
    assert_eq!(
        host.order(run(2, 1, &[1, 2, 3])).await.report.power,
        Power::On,
        "tried again"
    );
}

#[tokio::test]
async fn a_worker_that_comes_back_finds_its_guests_and_goes_on() {
    let mut host = Host::start().await;
    host.order(run(1, 1, &[1])).await;
    let snapshot = Arc::new(metadata(1, 9));
    host.send(Action::Metadata(snapshot)).await;
    host.until(|c| matches!(c, ReportContent::MetadataApplied { revision: 9, .. }).then_some(()))
        .await;
    let before = host.worker.inventory().await.unwrap();
    host.hypervisor.set_plan(FaultPlan {
        hang: [instance(2)].into(),
        ..FaultPlan::default()
    });
    let cut = host.send(run(2, 2, &[1, 2])).await;
    while host.worker.slots.record(instance(2)).is_none() {
        tokio::task::yield_now().await;
    }
    host.die_and_come_back().await;
    assert_eq!(host.sink.0.lock().unwrap().get(&instance(1)), Some(&9));
    let after: BTreeSet<_> = host.worker.inventory().await.unwrap().into_iter().collect();
    assert!(
        before.iter().all(|object| after.contains(object)),
        "{before:?} {after:?}"
    );
    host.hypervisor.set_plan(FaultPlan::default());
    assert_eq!(host.outcome(cut).await.report, report(2, 2, Power::On, None));
    assert_eq!(host.power(1).await, Power::On);

    // A guest that went off while nobody looked.
    if let Some((stop, task)) = host.running.take() {
        stop.send_replace(true);
        task.await.unwrap();
    }
    host.hypervisor.power_off(instance(1), OffReason::GuestShutdown);
    host.worker = make(
        &host.dir,
        &host.bus,
        &host.clock,
        &host.hypervisor,
        &host.network,
        &host.sink,
    );
    let (_stop, stopped) = watch::channel(false);
    let worker = host.worker.clone();
    tokio::spawn(async move { worker.run(stopped).await });
    assert_eq!(
        host.changed().await,
        report(1, 1, Power::Off, Some(OffReason::GuestShutdown))
    );
}

#[tokio::test]
async fn a_destroy_that_was_cut_off_is_finished_whatever_the_time() {
    let mut host = Host::start().await;
    host.order(run(1, 1, &[1])).await;
    host.hypervisor.set_plan(FaultPlan {
        hang: [instance(1)].into(),
        ..FaultPlan::default()
    });
    let cut = host.send(destroy(1, 2)).await;
    while host
        .worker
        .slots
        .record(instance(1))
        .is_none_or(|r| r.pending.is_none())
    {
        tokio::task::yield_now().await;
    }
    host.clock.advance(Duration::from_secs(3600));
    host.die_and_come_back().await;
    host.hypervisor.set_plan(FaultPlan::default());
    // A test can't end what a worker has under way, so the one that died tells its outcome too, first or second.
    for _ in 0..2 {
        let outcome = host.outcome(cut).await;
        assert_eq!(outcome.report, report(1, 2, Power::Absent, None));
        assert_eq!(outcome.failure, None);
    }
    assert_eq!(host.worker.inventory().await.unwrap(), []);
}

#[tokio::test]
async fn policies_are_applied_newest_first() {
    let mut host = Host::start().await;
    host.order(run(1, 1, &[1])).await;
    let applied = |c| match c {
        ReportContent::NetworkApplied { vpc, generation } => Some((vpc, generation)),
        _ => None,
    };
    host.send(Action::Network(Arc::new(policy(7, &[1])))).await;
    assert_eq!(host.until(applied).await, (VPC, 7));
    host.send(Action::Network(Arc::new(policy(6, &[1])))).await;
    assert_eq!(
        host.until(applied).await,
        (VPC, 7),
        "an older one changes nothing"
    );
    // A launch whose policy was overtaken still has its interface.
    assert_eq!(host.order(run(2, 2, &[1, 2])).await.failure, None);
}

#[tokio::test]
async fn unknown_guests_are_reported_and_left_alone() {
    let mut host = Host::start().await;
    host.hypervisor.prepare(&stray(9)).await.unwrap();
    assert_eq!(host.full().await, [report(9, 0, Power::On, None)]);
    assert_eq!(host.power(9).await, Power::On);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Commands come repeated and in any order; in the end each instance is as its newest command says.
    #[test]
    fn the_newest_command_wins(
        arrivals in prop::collection::vec((1_u8..4, 1_u64..8), 1..40),
        kinds in prop::collection::vec(0_u8..3, 32),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut host = Host::start().await;
            let mut newest: HashMap<u8, u64> = HashMap::new();
            // What a generation of an instance is does not depend on how often and when it comes.
            let kind = |n: u8, generation: u64| kinds[usize::from(n) * 8 + usize::try_from(generation).unwrap()];
            for (n, generation) in arrivals {
                let action = match kind(n, generation) {
                    0 => run(n, generation, &[1, 2, 3]),
                    1 => stop(n, generation),
                    _ => destroy(n, generation),
                };
                host.send(action).await;
                let top = newest.entry(n).or_default();
                *top = generation.max(*top);
            }
            for (n, generation) in &newest {
                // The newest again, so that there is an outcome to wait for.
                let (action, allowed) = match kind(*n, *generation) {
                    0 => (run(*n, *generation, &[1, 2, 3]), [Power::On, Power::On]),
                    1 => (stop(*n, *generation), [Power::Off, Power::Absent]),
                    _ => (destroy(*n, *generation), [Power::Absent, Power::Absent]),
                };
                let done = host.order(action).await;
                assert!(allowed.contains(&done.report.power), "{done:?}");
                assert!(allowed.contains(&host.power(*n).await));
                assert_eq!(done.report.generation, *generation);
            }
        });
    }
}

/// What the worker itself costs: run by hand, with `--release` and `--ignored`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn many_launches() {
    const MANY: u64 = 10_000;
    let mut host = Host::start().await;
    let began = std::time::Instant::now();
    for n in 0..MANY {
        let mut spec = spec(1, 1);
        spec.id = InstanceId::new((1 << 50) + n);
        let policy = Arc::new(policy(n + 1, &[1]));
        host.send(Action::Run {
            spec: Box::new(spec),
            policy,
        })
        .await;
    }
    for _ in 0..MANY {
        host.until(|c| matches!(c, ReportContent::Done(_)).then_some(()))
            .await;
    }
    println!("{:.0} launches/s", 10_000.0 / began.elapsed().as_secs_f64());
    let began = std::time::Instant::now();
    assert_eq!(host.full().await.len(), 10_000);
    println!("a full report: {:?}", began.elapsed());
}

#[tokio::test]
async fn what_is_sent_again_while_it_waits_waits_once() {
    let mut host = Host::start().await;
    let plan = FaultPlan {
        hang: [instance(1)].into(),
        ..FaultPlan::default()
    };
    host.hypervisor.set_plan(plan);
    let command = Command {
        operation: Some(OperationId::new(99)),
        deadline: host.clock.now().after(Duration::from_secs(300)),
        action: run(1, 1, &[1]),
        keys: Vec::new(),
        storage: None,
    };
    for _ in 0..50 {
        host.bus.send(&name(), command.clone()).await.unwrap();
    }
    // Another's is taken in after those, so they have all been taken in.
    host.order(run(2, 1, &[2])).await;
    host.hypervisor.set_plan(FaultPlan::default());
    let last = host.send(destroy(1, 2)).await;
    let mut told = 0;
    host.until(|c| match c {
        ReportContent::Done(done) if done.operation == last => Some(()),
        ReportContent::Done(done) => {
            told += u32::from(done.operation == OperationId::new(99));
            None
        }
        _ => None,
    })
    .await;
    assert!((1..=2).contains(&told), "{told} were kept");
    assert_eq!(host.worker.counters().read(), (0, 0, 49));
}

#[tokio::test]
async fn what_was_begun_and_is_too_late_is_over() {
    let mut host = Host::start().await;
    host.order(run(1, 1, &[1])).await;
    let plan = FaultPlan {
        hang: [instance(1)].into(),
        ..FaultPlan::default()
    };
    host.hypervisor.set_plan(plan);
    let reboot = Action::Reboot {
        instance: instance(1),
        generation: 2,
    };
    host.send(reboot).await;
    let pending = |host: &Host| host.worker.slots.record(instance(1)).unwrap().pending;
    while pending(&host).is_none() {
        tokio::task::yield_now().await;
    }
    host.clock.advance(Duration::from_secs(600));
    host.die_and_come_back().await;
    let over = async {
        while pending(&host).is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let over = tokio::time::timeout(Duration::from_secs(20), over).await;
    assert!(over.is_ok(), "it is pending for ever");
    assert_eq!(host.power(1).await, Power::On);
}

/// A guest that the worker did not make.
fn stray(n: u8) -> cumulet_hypervisor::DomainSpec {
    cumulet_hypervisor::DomainSpec {
        instance: instance(n),
        generation: 1,
        instance_type: String::new(),
        vcpus: 1,
        memory_mib: 1,
        nvram: None,
        disks: vec![],
        nics: vec![],
        console_log: "/dev/null".into(),
        uid: None,
    }
}
