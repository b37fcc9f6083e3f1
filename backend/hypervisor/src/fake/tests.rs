//! The simulated hypervisor: the contract that every driver keeps, and its own faults.

use cumulet_domain::{image::DiskFormat, network::Mac, spec::Throttle};

use super::*;
use crate::{DomainDisk, DomainNic, contract};

fn spec(instance: InstanceId) -> DomainSpec {
    DomainSpec {
        instance,
        generation: 1,
        instance_type: "t3.nano".into(),
        vcpus: 1,
        memory_mib: 64,
        nvram: None,
        disks: vec![],
        nics: vec![],
        console_log: "/dev/null".into(),
        uid: None,
    }
}

fn disk(name: &str, target: &str) -> DomainDisk {
    DomainDisk {
        path: Path::new("/disks").join(name),
        format: DiskFormat::Qcow2,
        backing: None,
        secret: None,
        bytes: 1 << 20,
        target: target.into(),
        serial: String::new(),
        boot: None,
        throttle: Throttle::default(),
    }
}

fn nic(number: u8) -> DomainNic {
    DomainNic {
        mac: Mac([2, 0x16, 0, 0, 0, number]),
        tap: format!("tap{number}"),
    }
}

const ONE: InstanceId = InstanceId::new(0x1111_1111_1111);
const TWO: InstanceId = InstanceId::new(0x2222_2222_2222);

#[tokio::test]
async fn keeps_the_contract() {
    let host = FakeHypervisor::new(FakeConfig::default()).unwrap();
    let make = async |id: InstanceId| DomainSpec {
        disks: vec![disk(&id.to_string(), "vda")],
        nics: vec![nic(1)],
        ..spec(id)
    };
    let extra = (disk("extra", "vda"), nic(2));
    contract::run(&*host, make, extra, [ONE, TWO]).await;
}

#[tokio::test]
async fn guests_outlive_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let config = FakeConfig {
        state_file: Some(dir.path().join("guests")),
        ..FakeConfig::default()
    };
    let host = FakeHypervisor::new(config.clone()).unwrap();
    for id in [ONE, TWO] {
        host.prepare(&spec(id)).await.unwrap();
        host.resume(id).await.unwrap();
    }
    host.ensure_absent(TWO).await.unwrap();
    drop(host);
    for _ in 0..2 {
        let again = FakeHypervisor::new(config.clone()).unwrap();
        assert_eq!(again.status(ONE).await.unwrap().power, Power::On);
        assert_eq!(again.status(TWO).await.unwrap().power, Power::Absent);
    }
}

#[tokio::test(start_paused = true)]
async fn one_hung_guest_holds_up_no_other() {
    let host = FakeHypervisor::new(FakeConfig::default()).unwrap();
    host.set_plan(FaultPlan {
        hang: [ONE].into(),
        ..FaultPlan::default()
    });
    let hung = tokio::spawn({
        let host = host.clone();
        async move { host.prepare(&spec(ONE)).await }
    });
    host.prepare(&spec(TWO)).await.unwrap();
    assert!(!hung.is_finished());
    host.set_plan(FaultPlan::default());
    assert_eq!(hung.await.unwrap(), Ok(Prepared::Paused));
}

#[tokio::test]
async fn a_guest_may_power_itself_off() {
    let host = FakeHypervisor::new(FakeConfig::default()).unwrap();
    host.prepare(&spec(ONE)).await.unwrap();
    let mut events = host.events();
    host.power_off(ONE, OffReason::GuestShutdown);
    let Event::Changed(status) = events.recv().await.unwrap() else {
        panic!("not a change");
    };
    assert_eq!(status.off_reason, Some(OffReason::GuestShutdown));
    host.power_off(TWO, OffReason::Crashed);
    assert_eq!(host.status(TWO).await.unwrap().power, Power::Absent);
}

#[tokio::test(start_paused = true)]
async fn a_guest_may_keep_a_disk() {
    let host = FakeHypervisor::new(FakeConfig::default()).unwrap();
    host.set_plan(FaultPlan {
        keeps_devices: true,
        ..FaultPlan::default()
    });
    host.prepare(&spec(ONE)).await.unwrap();
    let device = Device::Disk(disk("data", "vdb"));
    host.plug(ONE, &device).await.unwrap();
    let (began, patience) = (tokio::time::Instant::now(), Duration::from_secs(60));
    let unplug = async || host.unplug(ONE, &device.key(), patience).await;
    assert_eq!(unplug().await, Ok(Unplugged::Busy));
    assert_eq!(began.elapsed(), patience);
    assert!(host.devices(ONE).await.unwrap().has(&device.key()));
    host.set_plan(FaultPlan::default());
    assert_eq!(unplug().await, Ok(Unplugged::Gone));
    assert!(!host.devices(ONE).await.unwrap().has(&device.key()));
}

#[tokio::test]
async fn what_a_host_is_can_be_configured() {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let host = FakeHypervisor::new(FakeConfig {
        vcpus: 8,
        architecture: "arm64".into(),
        capabilities: [pair("ssd", "true"), pair("hypervisor_version", "7")].into(),
        ..FakeConfig::default()
    });
    let profile = host.unwrap().profile().await.unwrap();
    assert_eq!(profile.architecture.as_deref(), Some("arm64"));
    for (name, value) in [
        ("ssd", "true"),
        ("hypervisor_type", "fake"),
        ("hypervisor_version", "7"),
        ("cpu_info:topology:cores", "8"),
    ] {
        assert_eq!(profile.capabilities[name], value, "{name}");
    }
}

/// All that it was told, in order.
#[derive(Default)]
struct Notes(Mutex<Vec<Seen>>);

impl Witness for Notes {
    fn saw(&self, what: Seen) {
        self.0.lock().unwrap().push(what);
    }
}

impl Notes {
    fn of(host: &FakeHypervisor) -> Arc<Notes> {
        let notes = Arc::new(Notes::default());
        host.watched_by(notes.clone());
        notes
    }

    fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

#[tokio::test(start_paused = true)]
async fn a_witness_is_told_of_all_that_comes_to_pass() {
    let host = FakeHypervisor::new(FakeConfig::default()).unwrap();
    let notes = Notes::of(&host);
    for _ in 0..2 {
        host.prepare(&spec(ONE)).await.unwrap();
        host.resume(ONE).await.unwrap();
    }
    assert_eq!(notes.take(), [Seen::On(ONE), Seen::Runs(ONE)]);
    host.reboot(ONE, Duration::ZERO).await.unwrap();
    host.ensure_off(ONE, Duration::ZERO).await.unwrap();
    host.ensure_absent(ONE).await.unwrap();
    assert_eq!(notes.take(), [Seen::StartsOver(ONE), Seen::Off(ONE)]);
    host.set_plan(FaultPlan {
        failures_per_mille: 1000,
        ..FaultPlan::default()
    });
    assert!(host.prepare(&spec(ONE)).await.is_err());
    assert_eq!(notes.take(), [Seen::Failed(ONE)]);
    for (lies, is_permanent) in [(false, false), (true, true)] {
        host.set_plan(FaultPlan {
            refuses_what_is_late: lies,
            ..FaultPlan::slow(Duration::from_secs(60))
        });
        let late = host.prepare(&spec(ONE)).await.unwrap_err();
        assert_eq!(late.is_permanent(), is_permanent);
        assert_eq!(notes.take(), [Seen::Late(ONE)]);
        // It has its effect all the same.
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(notes.take(), [Seen::On(ONE)]);
        host.set_plan(FaultPlan::default());
        host.ensure_absent(ONE).await.unwrap();
        assert_eq!(notes.take(), [Seen::Off(ONE)]);
    }
    host.set_plan(FaultPlan {
        leaves_guests: true,
        ..FaultPlan::default()
    });
    host.prepare(&spec(ONE)).await.unwrap();
    host.ensure_absent(ONE).await.unwrap();
    assert_eq!(notes.take(), [Seen::On(ONE)]);
    assert_eq!(host.guests()[0].0.power, Power::On);
}

#[tokio::test(start_paused = true)]
async fn nothing_that_was_under_way_when_the_power_was_cut_has_an_effect() {
    let host = FakeHypervisor::new(FakeConfig::default()).unwrap();
    host.prepare(&spec(ONE)).await.unwrap();
    let notes = Notes::of(&host);
    host.set_plan(FaultPlan::slow(Duration::from_secs(5)));
    let under_way = tokio::spawn({
        let host = host.clone();
        async move { host.prepare(&spec(TWO)).await }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    host.lose_power();
    assert!(matches!(under_way.await.unwrap(), Err(Error::Away(_))));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(notes.take(), [Seen::Off(ONE)]);
    let there: Vec<_> = host
        .guests()
        .iter()
        .map(|(guest, _)| (guest.power, guest.off_reason))
        .collect();
    assert_eq!(there, [(Power::Off, Some(OffReason::Crashed))]);
    // It has power again.
    host.prepare(&spec(TWO)).await.unwrap();
    assert_eq!(notes.take(), [Seen::On(TWO)]);
}
