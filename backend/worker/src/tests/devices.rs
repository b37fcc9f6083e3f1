//! A raised generation that reaches a guest that runs: disks and interfaces come and go, and the guest stays.

use std::{io, path::Path, sync::Mutex};

use async_trait::async_trait;
use cumulet_domain::{
    id::VolumeId,
    spec::{InstanceSpec, NicSpec, Throttle},
};
use cumulet_hypervisor::fake::FaultPlan;

use super::*;
use crate::{
    disks::{DiskFile, Disks, May},
    testing::{data, interface},
};

/// Instance 1 with these volumes, each with its size, and these interfaces.
fn with(generation: u64, volumes: &[(u8, u64)], nics: &[u8]) -> Action {
    let mut spec = spec(1, generation);
    spec.disks.extend(volumes.iter().map(|(n, gib)| data(*n, *gib)));
    spec.nics = (0..)
        .zip(nics)
        .map(|(device_index, n)| NicSpec {
            device_index,
            vpc: VPC,
            interface: interface(*n),
        })
        .collect();
    Action::Run {
        spec: Box::new(spec),
        policy: Arc::new(policy(generation, nics)),
    }
}

/// Volumes by their numbers, with their sizes in GiB.
type Sizes<N> = &'static [(N, u64)];

impl Host {
    /// The sizes of the guest's disks in GiB, by its volumes' numbers; the root's is 0.
    async fn disks(&self) -> BTreeMap<u64, u64> {
        let has = self.hypervisor.devices(instance(1)).await.unwrap();
        let number = |disk: &cumulet_hypervisor::PluggedDisk| {
            crate::layout::volume_of(&disk.path).map_or(0, |volume| volume.number() & 0xff)
        };
        let disks = has
            .disks
            .iter()
            .map(|disk| (number(disk), disk.bytes.unwrap() >> 30));
        disks.collect()
    }

    async fn boots(&self) -> usize {
        let console = self.hypervisor.console_tail(instance(1), 4096).await.unwrap();
        String::from_utf8(console)
            .unwrap()
            .matches("cumulet-fake ready")
            .count()
    }

    async fn attached(&self) -> usize {
        let there = self.network.inventory().await.unwrap();
        there.vpcs.get(&VPC).map_or(0, |vpc| vpc.interfaces.len())
    }
}

#[tokio::test]
async fn disks_come_grow_and_go_while_the_guest_runs() {
    let mut host = Host::start().await;
    let steps: [(Sizes<u8>, Sizes<u64>); 5] = [
        (&[], &[(0, 1)]),
        (&[(1, 3), (2, 1)], &[(0, 1), (1, 3), (2, 1)]),
        (&[(1, 5), (3, 2)], &[(0, 1), (1, 5), (3, 2)]),
        (&[(1, 4), (3, 2)], &[(0, 1), (1, 5), (3, 2)]),
        (&[], &[(0, 1)]),
    ];
    for (generation, (volumes, expected)) in (1..).zip(steps) {
        for _ in 0..2 {
            let done = host.order(with(generation, volumes, &[1])).await;
            assert_eq!(
                (done.report, done.failure),
                (report(1, generation, Power::On, None), None)
            );
        }
        assert_eq!(host.disks().await, BTreeMap::from_iter(expected.iter().copied()));
    }
    assert_eq!(host.boots().await, 1, "it is the same guest");
    host.order(stop(1, 6)).await;
    host.order(with(7, &[(2, 9)], &[1])).await;
    assert_eq!(
        (host.disks().await, host.boots().await),
        ([(0, 1), (2, 9)].into(), 2)
    );
    host.order(destroy(1, 8)).await;
    assert_eq!(host.worker.inventory().await.unwrap(), []);
}

#[tokio::test]
async fn a_disk_gets_faster_and_slower_while_the_guest_runs() {
    let mut host = Host::start().await;
    for (generation, bytes) in (1..).zip([None, Some(5 << 20), Some(5 << 20), Some(9 << 20), None]) {
        let most = Throttle {
            bytes,
            operations: bytes.map(|bytes| bytes >> 10),
        };
        let mut action = with(generation, &[(1, 3)], &[1]);
        if let Action::Run { spec, .. } = &mut action {
            spec.disks[1].throttle = most;
        }
        assert_eq!(host.order(action).await.failure, None);
        let has = host.hypervisor.devices(instance(1)).await.unwrap();
        let bounds: Vec<_> = has.disks.iter().map(|disk| disk.throttle).collect();
        assert_eq!(bounds, [Throttle::default(), most]);
    }
    assert_eq!(host.boots().await, 1);
}

#[tokio::test]
async fn interfaces_come_and_go_while_the_guest_runs() {
    let mut host = Host::start().await;
    for (generation, nics) in (1..).zip([&[1][..], &[1, 7, 8], &[1, 8], &[1]]) {
        let done = host.order(with(generation, &[], nics)).await;
        assert_eq!(
            (done.report, done.failure),
            (report(1, generation, Power::On, None), None)
        );
        let has = host.hypervisor.devices(instance(1)).await.unwrap();
        let macs: Vec<_> = has.nics.iter().map(|nic| nic.mac).collect();
        assert_eq!(macs, nics.iter().map(|n| interface(*n).mac).collect::<Vec<_>>());
        assert_eq!(host.attached().await, nics.len());
    }
    assert_eq!(host.boots().await, 1);
    host.order(destroy(1, 9)).await;
    assert_eq!(host.worker.inventory().await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_does_not_let_go_is_told_of_and_asked_again() {
    let mut host = Host::start().await;
    host.kill().await;
    host.worker = host.another_worker();
    let patience = Duration::from_secs(15);
    Arc::get_mut(&mut host.worker).unwrap().config.unplug_grace = patience;
    host.run().await;
    host.order(with(1, &[(1, 1), (2, 1)], &[1])).await;
    let plan = |keeps_devices| FaultPlan {
        keeps_devices,
        ..FaultPlan::default()
    };
    host.hypervisor.set_plan(plan(true));
    let began = tokio::time::Instant::now();
    let done = host.order(with(2, &[(3, 1)], &[1])).await;
    let (one, two) = (data(1, 1).volume, data(2, 1).volume);
    let failure = format!("the guest uses {one} and {two} and has not let go of it");
    assert_eq!((done.failure, done.permanent), (Some(failure), false));
    assert_eq!(done.report, report(1, 2, Power::On, None));
    let took = began.elapsed();
    assert!(
        (patience..patience + Duration::from_secs(2)).contains(&took),
        "{took:?}"
    );
    // What was to come is there all the same.
    assert_eq!(host.disks().await, [(0, 1), (1, 1), (2, 1), (3, 1)].into());
    // An end does not wait for it.
    let began = tokio::time::Instant::now();
    host.send(with(2, &[(3, 1)], &[1])).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    host.order(Action::Stop {
        instance: instance(1),
        generation: 3,
        force: true,
    })
    .await;
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    host.hypervisor.set_plan(plan(false));
    assert_eq!(host.order(with(4, &[(3, 1)], &[1])).await.failure, None);
    assert_eq!(host.disks().await, [(0, 1), (3, 1)].into());
}

#[tokio::test]
async fn a_worker_that_dies_on_the_way_goes_on() {
    let mut host = Host::start().await;
    host.order(with(1, &[(1, 1)], &[1])).await;
    host.hypervisor.set_plan(FaultPlan {
        hang: [instance(1)].into(),
        ..FaultPlan::default()
    });
    let operation = host.send(with(2, &[(2, 2)], &[1])).await;
    let path = host
        .dir
        .path()
        .join("hosts/one/instances")
        .join(instance(1).to_string())
        .join("spec.json");
    let noted = || {
        serde_json::from_slice::<InstanceSpec>(&std::fs::read(&path).unwrap())
            .unwrap()
            .generation
    };
    while noted() != 2 {
        tokio::task::yield_now().await;
    }
    host.kill().await;
    host.hypervisor.set_plan(FaultPlan::default());
    host.network = Arc::new(FakeHostNetwork::new());
    host.worker = host.another_worker();
    host.spawn();
    assert_eq!(host.outcome(operation).await.failure, None);
    assert_eq!(
        (host.disks().await, host.boots().await),
        ([(0, 1), (2, 2)].into(), 1)
    );
}

#[tokio::test]
async fn interfaces_of_two_vpcs_are_refused() {
    let mut host = Host::start().await;
    let Action::Run { mut spec, policy } = with(1, &[], &[1, 2]) else {
        unreachable!()
    };
    spec.nics[1].vpc = VpcId::new(9);
    let done = host.order(Action::Run { spec, policy }).await;
    assert!(done.permanent);
    assert_eq!(
        done.failure.as_deref(),
        Some("the instance has interfaces of more than one VPC")
    );
}

/// Disks of which it is told what may be done for them.
#[derive(Default)]
struct Asked(Mutex<Vec<(Option<VolumeId>, bool)>>);

#[async_trait]
impl Disks for Asked {
    fn uses_images(&self) -> bool {
        true
    }

    async fn ensure(&self, disk: &DiskFile<'_>, may: May) -> io::Result<bool> {
        let volume = crate::layout::volume_of(disk.path);
        self.0.lock().unwrap().push((volume, may.grow));
        Ok(true)
    }

    async fn make(&self, _: &DiskFile<'_>) -> io::Result<()> {
        Ok(())
    }

    async fn copy(&self, _: &DiskFile<'_>, _: &Path) -> io::Result<()> {
        Ok(())
    }

    async fn capacity_gib(&self, _: &[std::path::PathBuf]) -> io::Result<u64> {
        Ok(1 << 20)
    }
}

/// A volume that has grown while it was attached to nothing is as large as it is to be when a guest gets it; what a
/// guest has in hands, that guest's process alone makes larger.
#[tokio::test(start_paused = true)]
async fn a_file_grows_before_a_guest_gets_it_and_never_under_one() {
    let asked = Arc::new(Asked::default());
    let disks = asked.clone();
    let mut host = Host::going(FaultPlan::default(), |deps| deps.disks = disks).await;
    host.until_ready(true).await;
    let image = host.worker.cache.path(spec(1, 1).disks[0].image().unwrap());
    std::fs::write(image, b"x").unwrap();
    let (one, other) = (data(1, 1).volume, data(2, 1).volume);
    for (generation, volumes, expected) in [
        (1, &[][..], vec![(None, true)]),
        (2, &[(1, 3)], vec![(None, false), (Some(one), true)]),
        (
            3,
            &[(1, 4), (2, 5)],
            vec![(None, false), (Some(one), false), (Some(other), true)],
        ),
    ] {
        let done = host.order(with(generation, volumes, &[1])).await;
        assert_eq!(done.failure, None);
        let asked = std::mem::take(&mut *asked.0.lock().unwrap());
        assert_eq!(asked, expected, "{generation}");
    }
    assert_eq!(host.disks().await, [(0, 1), (1, 4), (2, 5)].into());
}
