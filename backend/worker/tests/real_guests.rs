//! A whole host: real guests through libvirt, with the kernel's network. Runs as root where
//! `CUMULET_TEST_LIBVIRT` names a libvirtd on this machine and `CUMULET_TEST_IMAGE` the tiny image.
#![cfg(feature = "libvirt")]
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::{
    collections::{BTreeSet, HashMap},
    net::{Ipv4Addr, TcpListener},
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use cumulet_bus::{Bus as _, LocalBus, ReportMailbox};
use cumulet_domain::{
    account::AccountId,
    id::{
        HostId, ImageId, InstanceId, NetworkInterfaceId, OperationId, ReservationId, SecurityGroupId,
        SubnetId, VolumeId, VpcId,
    },
    image::{DiskFormat, Firmware, ImageRef},
    message::{Action, Command, OffReason, Outcome, Power, Query, ReportContent},
    metadata::{InstanceMetadata, MetadataOptions},
    network::{Cidr, GroupPolicy, InterfacePolicy, Mac, SubnetPolicy, VpcPolicy},
    spec::{DiskSource, DiskSpec, InstanceSpec, NicSpec, Throttle},
    time::{Clock as _, SystemClock, Timestamp},
    volume::VolumeStore,
};
use cumulet_hypervisor::libvirt::{Accel, Guests, Libvirt, LibvirtConfig};
use cumulet_worker::{
    DiskFiles, Free, MetadataSink, ObjectKind, ProcMetrics, Worker, WorkerConfig, WorkerDeps,
    disks::QemuDisks,
    image_cache::DirectoryImages,
    network::{Config, LinuxNetwork},
    remote::Grants,
    snapshots::DirectorySnapshots,
};
use sha2::{Digest as _, Sha256};
use tokio::{sync::watch, task::JoinHandle};

/// Holds listeners as the metadata service does, and answers nobody.
#[derive(Default)]
struct Sink(Mutex<HashMap<VpcId, TcpListener>>, Mutex<BTreeSet<InstanceId>>);

impl MetadataSink for Sink {
    fn put(&self, snapshot: &InstanceMetadata) {
        self.1.lock().unwrap().insert(snapshot.instance);
    }
    fn remove(&self, instance: InstanceId) {
        self.1.lock().unwrap().remove(&instance);
    }
    fn serve(&self, vpc: VpcId, listener: TcpListener) -> Result<(), String> {
        self.0.lock().unwrap().insert(vpc, listener);
        Ok(())
    }
    fn stop(&self, vpc: VpcId) {
        self.0.lock().unwrap().remove(&vpc);
    }
    fn registered(&self) -> Vec<InstanceId> {
        self.1.lock().unwrap().iter().copied().collect()
    }
}

struct Host {
    bus: LocalBus,
    reports: ReportMailbox,
    worker: Arc<Worker>,
    running: (watch::Sender<bool>, JoinHandle<()>),
}

fn name() -> HostId {
    HostId("one".into())
}

async fn worker(dir: &Path, cloud: &str, uri: &str, bus: &LocalBus) -> Arc<Worker> {
    let config = LibvirtConfig {
        uri: uri.into(),
        cloud: cloud.into(),
        accel: Accel::Qemu,
        guests: Guests {
            may_be_root: true,
            ..Guests::default()
        },
        ceph: None,
    };
    let deps = WorkerDeps {
        bus: Arc::new(bus.clone()),
        clock: Arc::new(SystemClock),
        hypervisor: Libvirt::start(config).await.unwrap(),
        files: Arc::new(DiskFiles),
        tasks: Arc::new(Free),
        network: Arc::new(LinuxNetwork::new(Config::new(cloud, dir.join("run"))).unwrap()),
        disks: Arc::new(QemuDisks::new("qemu-img")),
        images: Arc::new(DirectoryImages::new(dir.join("images"))),
        snapshots: Arc::new(DirectorySnapshots::new(&dir.join("snapshots"))),
        grants: Grants::unneeded(),
        rng: cumulet_domain::rng::SharedRng::seeded(7),
        metadata: Arc::new(Sink::default()),
        metrics: Arc::new(ProcMetrics::default()),
    };
    let mut config = WorkerConfig::new(name(), dir, "us-east-1a");
    config.heartbeat = Duration::from_secs(1);
    Worker::new(config, deps).unwrap()
}

fn start(worker: &Arc<Worker>) -> (watch::Sender<bool>, JoinHandle<()>) {
    let (stop, stopped) = watch::channel(false);
    let worker = worker.clone();
    (
        stop,
        tokio::spawn(async move { worker.run(stopped).await.unwrap() }),
    )
}

impl Host {
    async fn send(&self, operation: u64, action: Action) {
        let command = Command {
            operation: Some(OperationId::new(operation)),
            deadline: SystemClock.now().after(Duration::from_secs(120)),
            action,
            keys: Vec::new(),
            storage: None,
        };
        self.bus.send(&name(), command).await.unwrap();
    }

    async fn order(&mut self, operation: u64, action: Action) -> Outcome {
        self.send(operation, action).await;
        self.until(|c| match c {
            ReportContent::Done(done) if done.operation.number() == operation => Some(done),
            _ => None,
        })
        .await
    }

    async fn until<T>(&mut self, mut wanted: impl FnMut(ReportContent) -> Option<T>) -> T {
        let found = async {
            loop {
                if let Some(found) = wanted(self.reports.next().await.unwrap().accept().content) {
                    return found;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(90), found)
            .await
            .unwrap()
    }

    async fn console_has(&self, id: InstanceId, text: &str) {
        let mut timer = tokio::time::interval(Duration::from_millis(200));
        for _ in 0..300 {
            timer.tick().await;
            let console = self.bus.query(&name(), Query::ConsoleOutput(id)).await.unwrap();
            if String::from_utf8_lossy(&console).contains(text) {
                return;
            }
        }
        let console = self.bus.query(&name(), Query::ConsoleOutput(id)).await.unwrap();
        panic!(
            "the console never said {text:?}: {}",
            String::from_utf8_lossy(&console)
        );
    }

    async fn kinds(&self) -> Vec<ObjectKind> {
        self.worker
            .inventory()
            .await
            .unwrap()
            .iter()
            .map(|o| o.kind)
            .collect()
    }
}

fn image(dir: &Path) -> Option<ImageRef> {
    let bytes = std::fs::read(std::env::var_os("CUMULET_TEST_IMAGE")?).unwrap();
    let sha256 = hex::encode(Sha256::digest(&bytes));
    std::fs::create_dir(dir.join("images")).unwrap();
    std::fs::write(dir.join("images").join(&sha256), &bytes).unwrap();
    Some(ImageRef {
        id: ImageId::new(1 << 40),
        from_snapshot: false,
        encrypted: false,
        sha256,
        format: DiskFormat::Qcow2,
        size_bytes: bytes.len() as u64,
        virtual_bytes: 1 << 30,
    })
}

fn random() -> u64 {
    InstanceId::random(&mut rand::rng()).number()
}

/// An instance in a VPC of its own.
fn instance(image: ImageRef) -> (InstanceSpec, VpcPolicy) {
    let (id, vpc) = (InstanceId::new(random()), VpcId::new(random()));
    let (subnet, group) = (SubnetId::new(random()), SecurityGroupId::new(random()));
    let nic = NetworkInterfaceId::new(random());
    let block = Cidr::new(Ipv4Addr::new(10, 77, 0, 0), 24);
    let interface = InterfacePolicy {
        id: nic,
        subnet,
        mac: Mac::of(nic),
        private_ip: Ipv4Addr::new(10, 77, 0, 10),
        public_ip: None,
        hostname: "ip-10-77-0-10".into(),
        groups: vec![group],
    };
    let policy = VpcPolicy {
        vpc,
        generation: 1,
        cidr: block,
        subnets: vec![SubnetPolicy {
            id: subnet,
            cidr: block,
        }],
        interfaces: vec![interface.clone()],
        groups: vec![GroupPolicy {
            id: group,
            rules: vec![],
            members: vec![],
        }],
        tunnel: None,
    };
    let metadata = InstanceMetadata {
        instance: id,
        revision: 1,
        options: MetadataOptions::default(),
        account: AccountId(123_456_789_012),
        reservation: ReservationId::new(random()),
        image: image.id,
        instance_type: "t3.nano".into(),
        architecture: "x86_64".into(),
        launch_index: 0,
        private_dns_name: "ip-10-77-0-10.ec2.internal".into(),
        public_dns_name: None,
        region: "us-east-1".into(),
        availability_zone: "us-east-1a".into(),
        availability_zone_id: "use1-az1".into(),
        placement_group: None,
        partition_number: None,
        public_keys: vec![],
        interfaces: vec![],
        root_device: "/dev/xvda".into(),
        data_devices: Vec::new(),
        user_data: None,
        pending_time: Timestamp(0),
        tags: vec![],
    };
    let spec = InstanceSpec {
        id,
        generation: 1,
        instance_type: "t3.nano".into(),
        vcpus: 1,
        memory_mib: 128,
        firmware: Firmware::LegacyBios,
        disks: vec![DiskSpec {
            volume: VolumeId::new(id.number()),
            device: "/dev/xvda".into(),
            source: DiskSource::Image(image),
            size_gib: 1,
            boot_order: Some(1),
            throttle: Throttle::default(),
            encrypted: false,
        }],
        nics: vec![NicSpec {
            device_index: 0,
            vpc,
            interface,
        }],
        metadata: Arc::new(metadata),
    };
    (spec, policy)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_lives_and_leaves_nothing() {
    let Ok(uri) = std::env::var("CUMULET_TEST_LIBVIRT") else {
        return println!("not run: CUMULET_TEST_LIBVIRT is not set");
    };
    let dir = tempfile::tempdir().unwrap();
    let Some(image) = image(dir.path()) else {
        return println!("not run: CUMULET_TEST_IMAGE is not set");
    };
    let cloud = format!("t{:06x}", random() & 0xff_ffff);
    let bus = LocalBus::new();
    let reports = bus.report_mailbox().await.unwrap();
    let worker = worker(dir.path(), &cloud, &uri, &bus).await;
    let running = start(&worker);
    let mut host = Host {
        bus,
        reports,
        worker,
        running,
    };
    host.until(|c| matches!(c, ReportContent::Heartbeat { .. }).then_some(()))
        .await;
    let (spec, policy) = instance(image);
    let (id, policy) = (spec.id, Arc::new(policy));
    let run = |generation| Action::Run {
        spec: Box::new(InstanceSpec {
            generation,
            ..spec.clone()
        }),
        policy: policy.clone(),
    };
    let began = Instant::now();
    let done = host.order(1, run(1)).await;
    println!("launched after {:?}", began.elapsed());
    assert_eq!((done.failure, done.report.power), (None, Power::On));
    // By DHCP, through its interface.
    host.console_has(id, "10.77.0.10").await;
    println!("has its address after {:?}", began.elapsed());
    let picture = host.bus.query(&name(), Query::Screenshot(id)).await.unwrap();
    assert!(picture.starts_with(&[0xff, 0xd8, 0xff]));
    let there = host.kinds().await;
    for kind in [
        ObjectKind::Domain,
        ObjectKind::Disk,
        ObjectKind::Metadata,
        ObjectKind::Interface,
        ObjectKind::Namespace,
        ObjectKind::Dhcp,
        ObjectKind::Firewall,
    ] {
        assert!(there.contains(&kind), "{kind:?} in {there:?}");
    }

    // A raised generation brings a volume to the guest that runs, and the next one takes it away.
    let volume = VolumeId::new(random());
    let mut more = InstanceSpec {
        generation: 2,
        ..spec.clone()
    };
    more.disks.push(DiskSpec {
        volume,
        device: "/dev/sdf".into(),
        source: DiskSource::Volume {
            store: VolumeStore::Local,
            format: DiskFormat::Qcow2,
            create: true,
            generation: 1,
            from: None,
        },
        size_gib: 1,
        boot_order: None,
        throttle: Throttle::default(),
        encrypted: false,
    });
    let plug = Action::Run {
        spec: Box::new(more),
        policy: policy.clone(),
    };
    for (operation, action) in [(10, plug), (11, run(3))] {
        let began = Instant::now();
        let done = host.order(operation, action).await;
        println!("devices changed after {:?}", began.elapsed());
        assert_eq!((done.failure, done.report.power), (None, Power::On));
    }
    let kept = dir.path().join(format!("hosts/one/volumes/{volume}.qcow2"));
    assert!(kept.exists(), "a volume outlives what it was attached to");
    let with_volume = [&there[..], &[ObjectKind::Volume]].concat();
    assert_eq!(host.kinds().await, with_volume);
    let delete = Action::DeleteVolume {
        store: VolumeStore::Local,
        volume,
        generation: 2,
    };
    host.send(12, delete).await;
    let deleted = host.until(|content| match content {
        ReportContent::VolumeDone(done) => Some(done.failure),
        _ => None,
    });
    assert_eq!(deleted.await, None);
    assert!(!kept.exists());
    assert_eq!(host.kinds().await, there);

    // The worker dies and comes back: the guest has everything, and is the same.
    host.running.1.abort();
    host.worker = crate::worker(dir.path(), &cloud, &uri, &host.bus).await;
    host.running = start(&host.worker);
    host.until(|c| matches!(c, ReportContent::Full(_)).then_some(()))
        .await;
    assert_eq!(host.kinds().await, there);

    let stop = |generation| Action::Stop {
        instance: id,
        generation,
        force: false,
    };
    let began = Instant::now();
    let done = host.order(2, stop(4)).await;
    println!("stopped after {:?}", began.elapsed());
    assert_eq!((done.failure, done.report.power), (None, Power::Off));
    assert_eq!(done.report.off_reason, Some(OffReason::Commanded));
    assert_eq!(host.kinds().await, [ObjectKind::Domain, ObjectKind::Disk]);
    let done = host.order(3, run(5)).await;
    assert_eq!((done.failure, done.report.power), (None, Power::On));

    let destroy = Action::Destroy {
        kept: None,
        instance: id,
        generation: 6,
    };
    let began = Instant::now();
    let done = host.order(4, destroy).await;
    println!("destroyed after {:?}", began.elapsed());
    assert_eq!((done.failure, done.report.power), (None, Power::Absent));
    assert_eq!(host.kinds().await, []);
    host.running.0.send_replace(true);
}
