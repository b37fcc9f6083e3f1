//! The contract suite of the driver trait, run on each driver. It panics at the first thing that is not as it
//! must be, as tests do.
#![allow(clippy::expect_used)]

use std::{future::Future, path::PathBuf, time::Duration};

use cumulet_domain::{
    console::ConsoleKind,
    id::InstanceId,
    message::{OffReason, Power},
    spec::Throttle,
};

use tokio::io::AsyncReadExt as _;

use crate::{
    ConsoleStream, Copying, Device, DeviceKey, Devices, DiskCopy, DomainDisk, DomainNic, DomainSpec, Event,
    Hypervisor, Prepared, Unplugged,
};

/// How long an event may take.
const SOON: Duration = Duration::from_secs(20);

/// Runs the suite on a driver without guests. `spec` makes a guest's specification, of a disk and an interface that
/// exist, and the `extra` ones are no guest's; the guest never has to react to anything.
pub async fn run<F: Future<Output = DomainSpec>>(
    driver: &dyn Hypervisor,
    spec: impl Fn(InstanceId) -> F,
    extra: (DomainDisk, DomainNic),
    ids: [InstanceId; 2],
) {
    let capabilities = driver.capabilities().await.expect("capabilities");
    assert!(capabilities.vcpus > 0 && capabilities.memory_mib > 0);
    let profile = driver.profile().await.expect("profile");
    assert_eq!(profile.check(), Ok(()));
    assert!(profile.architecture.is_some());
    for name in ["hypervisor_type", "hypervisor_version", "cpu_info:topology:cores"] {
        assert!(profile.capabilities.contains_key(name), "{name}: {profile:?}");
    }
    let [one, two] = ids;
    nothing_is_there(driver, one).await;
    starts_in_two_phases(driver, &spec(one).await).await;
    takes_and_gives_disks(driver, &spec(one).await, &extra.0).await;
    takes_and_gives_interfaces(driver, &spec(one).await, &extra.1).await;
    copies_disks(driver, &spec(one).await).await;
    goes_off_and_on(driver, &spec(one).await).await;
    let second = spec(two).await;
    assert_eq!(driver.prepare(&second).await, Ok(Prepared::Paused));
    let mut listed: Vec<_> = driver
        .list()
        .await
        .expect("list")
        .iter()
        .map(|s| s.instance)
        .collect();
    listed.sort();
    let mut both = vec![one, two];
    both.sort();
    assert_eq!(listed, both, "the driver lists its own guests and no others");
    for id in ids {
        assert_eq!(driver.ensure_absent(id).await, Ok(()));
        nothing_is_there(driver, id).await;
    }
}

/// Copies of a guest that runs are whole after a while, which is told once; they can be given up.
async fn copies_disks(driver: &dyn Hypervisor, spec: &DomainSpec) {
    let id = spec.instance;
    assert_eq!(driver.copying(id).await, Ok(Copying::Nothing));
    let copies = |name: &str| -> Vec<DiskCopy> {
        let each = spec.disks.iter().map(|disk| DiskCopy {
            disk: disk.path.clone(),
            copy: disk.path.with_extension(name),
            secret: None,
        });
        each.collect()
    };
    let none = DiskCopy {
        disk: "/none".into(),
        copy: "/none.copy".into(),
        secret: None,
    };
    assert!(driver.copy_disks(id, &[none]).await.is_err());
    assert_eq!(driver.copy_disks(id, &copies("copy")).await, Ok(()));
    let mut patience = 200;
    loop {
        match driver.copying(id).await {
            Ok(Copying::Running { .. }) if patience > 0 => {
                patience -= 1;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            other => break assert_eq!(other, Ok(Copying::Done)),
        }
    }
    assert_eq!(driver.copying(id).await, Ok(Copying::Nothing), "it is told once");
    assert_eq!(driver.copy_disks(id, &copies("other")).await, Ok(()));
    for _ in 0..2 {
        assert_eq!(driver.stop_copying(id).await, Ok(()));
    }
    assert!(!matches!(driver.copying(id).await, Ok(Copying::Running { .. })));
}

/// What is not there can be ended, and can't be resumed.
async fn nothing_is_there(driver: &dyn Hypervisor, id: InstanceId) {
    let status = driver.status(id).await.expect("status");
    assert_eq!((status.power, status.paused), (Power::Absent, false));
    assert_eq!(driver.ensure_off(id, Duration::ZERO).await, Ok(()));
    assert_eq!(driver.ensure_off(id, Duration::from_millis(1)).await, Ok(()));
    assert_eq!(driver.ensure_absent(id).await, Ok(()));
    assert!(driver.resume(id).await.is_err());
    assert!(driver.reboot(id, Duration::ZERO).await.is_err());
    assert!(driver.screenshot(id).await.is_err());
    assert!(driver.devices(id).await.is_err());
    let none = DeviceKey::Disk("/none".into());
    assert_eq!(
        driver.unplug(id, &none, Duration::ZERO).await,
        Ok(Unplugged::Gone)
    );
    assert!(driver.resize(id, "/none".as_ref(), 1).await.is_err());
    assert!(driver.copy_disks(id, &[]).await.is_err());
    assert!(driver.copying(id).await.is_err());
    assert_eq!(driver.stop_copying(id).await, Ok(()));
    let none = driver.throttle(id, "/none".as_ref(), Throttle::default()).await;
    assert!(none.is_err());
    for kind in ConsoleKind::ALL {
        assert!(driver.open_console(id, kind).await.is_err());
    }
    assert!(
        !driver
            .list()
            .await
            .expect("list")
            .iter()
            .any(|s| s.instance == id)
    );
}

/// Prepared is on and paused; resumed is on; both can be said twice.
async fn starts_in_two_phases(driver: &dyn Hypervisor, spec: &DomainSpec) {
    let id = spec.instance;
    for _ in 0..2 {
        assert_eq!(driver.prepare(spec).await, Ok(Prepared::Paused));
        let status = driver.status(id).await.expect("status");
        assert_eq!((status.power, status.paused), (Power::On, true));
    }
    for _ in 0..2 {
        assert_eq!(driver.resume(id).await, Ok(()));
        let status = driver.status(id).await.expect("status");
        assert_eq!((status.power, status.paused), (Power::On, false));
        assert_eq!(driver.prepare(spec).await, Ok(Prepared::Running));
    }
    assert!(driver.console_tail(id, 10).await.expect("console").len() <= 10);
    let picture = driver.screenshot(id).await.expect("screenshot");
    assert!(picture.starts_with(&[0xff, 0xd8, 0xff]), "not a JPEG");
    assert_eq!(driver.reboot(id, Duration::from_millis(1)).await, Ok(()));
    assert_eq!(driver.status(id).await.expect("status").power, Power::On);
}

/// A guest that runs gets a disk and a larger one at once; one that is off is started with what it was told last.
async fn takes_and_gives_disks(driver: &dyn Hypervisor, spec: &DomainSpec, extra: &DomainDisk) {
    let (id, device) = (spec.instance, Device::Disk(extra.clone()));
    let larger = extra.bytes * 2;
    let before = devices(driver, id).await;
    assert_eq!(
        (before.disks.len(), before.nics.len()),
        (spec.disks.len(), spec.nics.len())
    );
    for (disk, told) in before.disks.iter().zip(&spec.disks) {
        assert_eq!((&disk.path, &disk.target), (&told.path, &told.target));
        assert!(disk.bytes.is_some_and(|bytes| bytes > 0));
    }
    for _ in 0..2 {
        assert_eq!(driver.plug(id, &device).await, Ok(()));
    }
    // A larger one is left alone.
    for bytes in [larger, larger, 1] {
        assert_eq!(driver.resize(id, &extra.path, bytes).await, Ok(()));
    }
    slows_disks(driver, id, extra).await;
    let now = devices(driver, id).await;
    let others = now.disks.iter().filter(|disk| disk.path != extra.path);
    assert!(others.eq(&before.disks), "the others are as they were");
    assert_eq!(now.nics, before.nics, "and so are the interfaces");
    let disk = now.disks.iter().find(|disk| disk.path == extra.path);
    let disk = disk.expect("it has the disk");
    assert!(
        !before.disks.iter().any(|other| other.target == disk.target),
        "{now:?}"
    );
    assert_eq!(disk.bytes, Some(larger));
    assert_eq!(open_disks(driver).await, files(id, &now));
    is_asked_and_goes_off(driver, id, &device.key()).await;
    assert_eq!(open_disks(driver).await, [], "it is off");
    assert!(driver.resize(id, &extra.path, 1).await.is_err(), "it is off");
    is_told_while_it_is_off(driver, spec, &device).await;
}

/// The same with interfaces: a guest that runs gets one more at once, and keeps it when it starts over.
async fn takes_and_gives_interfaces(driver: &dyn Hypervisor, spec: &DomainSpec, extra: &DomainNic) {
    let (id, device) = (spec.instance, Device::Nic(extra.clone()));
    let before = devices(driver, id).await;
    assert!(!before.nics.is_empty(), "it is its second one");
    let told = spec.nics.iter().map(|nic| (nic.mac, &nic.tap));
    let has = before.nics.iter().map(|nic| (nic.mac, &nic.tap));
    assert!(has.eq(told), "{before:?}");
    for _ in 0..2 {
        assert_eq!(driver.plug(id, &device).await, Ok(()));
    }
    for starts_over in [false, true] {
        if starts_over {
            assert_eq!(driver.reboot(id, Duration::from_millis(1)).await, Ok(()));
        }
        let now = devices(driver, id).await;
        let others = now.nics.iter().filter(|nic| nic.mac != extra.mac);
        assert!(others.eq(&before.nics), "the others are as they were: {now:?}");
        assert_eq!(now.disks, before.disks, "and so are the disks");
        let its = now.nics.iter().filter(|nic| nic.mac == extra.mac);
        assert!(its.map(|nic| &nic.tap).eq([&extra.tap]), "once: {now:?}");
    }
    is_asked_and_goes_off(driver, id, &device.key()).await;
    is_told_while_it_is_off(driver, spec, &device).await;
}

/// What a guest has.
async fn devices(driver: &dyn Hypervisor, id: InstanceId) -> Devices {
    driver.devices(id).await.expect("devices")
}

/// A guest that runs is asked for a device, and goes off.
async fn is_asked_and_goes_off(driver: &dyn Hypervisor, id: InstanceId, key: &DeviceKey) {
    // Whether it lets go of it is the guest's; that the answer is true, the driver's.
    let answer = driver.unplug(id, key, Duration::from_millis(1)).await;
    let keeps = devices(driver, id).await.has(key);
    assert_eq!(answer, Ok(if keeps { Unplugged::Busy } else { Unplugged::Gone }));
    assert_eq!(driver.ensure_off(id, Duration::ZERO).await, Ok(()));
    assert!(
        !devices(driver, id).await.has(key),
        "what it was asked for it does not come back with"
    );
}

/// A guest that is off has a device and has it not, as it is told, until it is started from a specification again.
async fn is_told_while_it_is_off(driver: &dyn Hypervisor, spec: &DomainSpec, device: &Device) {
    let (id, key) = (spec.instance, device.key());
    for (unplugged, expected) in [(false, true), (true, false)] {
        for _ in 0..2 {
            match unplugged {
                true => assert_eq!(driver.unplug(id, &key, SOON).await, Ok(Unplugged::Gone)),
                false => assert_eq!(driver.plug(id, device).await, Ok(())),
            }
            assert_eq!(devices(driver, id).await.has(&key), expected);
        }
    }
    assert_eq!(driver.plug(id, device).await, Ok(()));
    assert_eq!(driver.prepare(spec).await, Ok(Prepared::Paused));
    assert!(
        !devices(driver, id).await.has(&key),
        "one that is off is defined anew"
    );
    assert_eq!(driver.resume(id).await, Ok(()));
}

/// A disk of a guest that runs may do more or less in a second at once, within what the host lets every disk do.
async fn slows_disks(driver: &dyn Hypervisor, id: InstanceId, extra: &DomainDisk) {
    for (bytes, operations) in [
        (Some(5 << 20), Some(500)),
        (None, Some(300)),
        (None, None),
        (Some(7 << 20), None),
        (Some(5 << 20), Some(500)),
    ] {
        let own = Throttle { bytes, operations };
        for _ in 0..2 {
            assert_eq!(driver.throttle(id, &extra.path, own).await, Ok(()));
        }
        let has = driver.devices(id).await.expect("devices");
        let disk = has.disks.iter().find(|disk| disk.path == extra.path);
        assert_eq!(disk.expect("it has the disk").throttle, driver.bounded(own));
    }
}

/// All that is in guests' hands.
async fn open_disks(driver: &dyn Hypervisor) -> Vec<(InstanceId, PathBuf)> {
    let mut open = driver.open_disks().await.expect("open disks");
    open.sort();
    open
}

/// The files of a guest's disks.
fn files(id: InstanceId, has: &Devices) -> Vec<(InstanceId, PathBuf)> {
    let mut files: Vec<_> = has.disks.iter().map(|disk| (id, disk.path.clone())).collect();
    files.sort();
    files
}

/// The serial console ends with the guest's process.
async fn console_ends(mut console: Box<dyn ConsoleStream>) {
    let mut rest = Vec::new();
    let read = tokio::time::timeout(SOON, console.read_to_end(&mut rest)).await;
    // Some say that it has ended, others that it has broken.
    drop(read.expect("the console of a guest that is off goes on"));
}

/// A guest that is ended is told of, keeps its reason, and starts again.
async fn goes_off_and_on(driver: &dyn Hypervisor, spec: &DomainSpec) {
    let id = spec.instance;
    let mut events = driver.events();
    let console = driver.open_console(id, ConsoleKind::Serial).await;
    let console = console.expect("a guest that is on has a serial console");
    for grace in [Duration::from_millis(10), Duration::ZERO] {
        assert_eq!(driver.ensure_off(id, grace).await, Ok(()));
    }
    let told = async {
        loop {
            match events.recv().await.expect("events end") {
                Event::Changed(s) if s.instance == id && s.power == Power::Off => break,
                _ => {}
            }
        }
    };
    tokio::time::timeout(SOON, told)
        .await
        .expect("nobody told that the guest went off");
    console_ends(console).await;
    assert!(driver.open_console(id, ConsoleKind::Serial).await.is_err());
    let status = driver.status(id).await.expect("status");
    assert_eq!(status.power, Power::Off);
    assert_eq!(status.off_reason, Some(OffReason::Commanded));
    assert!(driver.resume(id).await.is_err(), "what is off can't be resumed");
    let slower = driver.throttle(id, &spec.disks[0].path, Throttle::default());
    assert!(slower.await.is_err(), "and not be slowed down");
    assert_eq!(driver.prepare(spec).await, Ok(Prepared::Paused));
    assert_eq!(driver.resume(id).await, Ok(()));
}
