//! The conductor against a host that the test plays: commands are taken from the bus, reports are given
//! back, and rows must follow.

use std::{sync::Arc, time::Duration};

use cumulet_backend::Cloud;
use cumulet_bus::{Bus, Delivery, HostMailbox, LocalBus};
use cumulet_certs::{MasterKey, Sealer};
use cumulet_compute::instances::{self, InstanceView, LaunchSpec, MetadataChange};
use cumulet_core::{CloudConfig, Parts, Quotas, Wake, retention::Retention};
use cumulet_domain::{
    account::{Principal, Role},
    id::{HostId, ImageId, InstanceId},
    image::{Architecture, BootMode, DiskFormat},
    instance::{ShutdownBehavior, State},
    message::{
        Action, Command, Heartbeat, HostResources, InstanceReport, OffReason, Outcome, Power, Report,
        ReportContent,
    },
    network::{Cidr, Direction, Traffic},
    rng::SharedRng,
    time::SystemClock,
};
use cumulet_network::security_groups::{self, GroupName, NewRule, PeerSpec};
use cumulet_operations::{Driver, Duties, Settings};
use cumulet_operator::bootstrap::{FirstPlan, bootstrap};
use cumulet_storage::images;
use cumulet_store::{
    connect,
    entity::{
        account,
        columns::{Amount, Owner},
        host, interface, operation,
    },
    scratch::Scratch,
};
use sea_orm::EntityTrait;
use tokio::sync::watch;

use crate::Conductor;

mod belongs;
mod damaged;
mod faults;
mod floods;
mod heartbeats;
mod interfaces;
mod launches;
mod metadata;
mod other_host;
mod progress;
pub(crate) mod races;
mod readiness;
mod tunnels;

/// How long something that must happen may take.
const SOON: Duration = Duration::from_secs(10);

struct Rig {
    cloud: Cloud,
    who: Principal,
    image: ImageId,
    bus: Arc<LocalBus>,
    mailbox: HostMailbox,
    conductor: Conductor,
    _stop: watch::Sender<bool>,
    _database: Scratch,
}

fn this_host() -> HostId {
    HostId("host-a".into())
}

impl Rig {
    async fn start() -> Rig {
        Rig::with_vcpus(16).await
    }

    async fn with_vcpus(vcpus: u32) -> Rig {
        let database = Scratch::migrated().await;
        let store = connect(&database.options(2)).await.unwrap();
        let rng = SharedRng::seeded(7);
        let sealer = Arc::new(Sealer::new(MasterKey::from_bytes([3; 32])));
        let clock = Arc::new(SystemClock);
        let parts = Parts::new(store.clone(), clock.clone(), rng, sealer);
        let pool: Cidr = "198.18.4.0/24".parse().unwrap();
        let plan = FirstPlan {
            availability_zones: vec!["us-east-1a".into()],
            public_pool: pool,
        };
        let first = bootstrap(&parts, &plan).await.unwrap();
        let image = images::NewImage {
            account: first.account,
            name: "tiny".into(),
            description: String::new(),
            public: true,
            architecture: Architecture::X86_64,
            format: DiskFormat::Qcow2,
            sha256: "ab".repeat(32),
            size_bytes: 1 << 20,
            virtual_bytes: 1 << 30,
            root_device: "/dev/xvda".into(),
            boot_mode: BootMode::LegacyBios,
        };
        let image = images::add(&parts, image).await.unwrap().id();
        let (bus, wake) = (Arc::new(LocalBus::new()), Wake::new());
        let config = CloudConfig {
            region: "us-east-1".into(),
            availability_zones: vec!["us-east-1a".into()],
            public_pool: first.public_pool,
            cloud_id: first.cloud_id,
            hypervisor: "fake".into(),
            endpoint: "127.0.0.1:8773".into(),
            retention: Retention::default(),
            public_addresses: 0,
            quotas: Quotas::default(),
            modification_cooldown: std::time::Duration::ZERO,
            volume_store: cumulet_domain::volume::VolumeStore::Local,
        };
        let settings = Settings {
            region: "us-east-1".into(),
            owner: "test".into(),
            cpu_allocation_ratio: 1.0,
            ram_allocation_ratio: 1.0,
            disk_allocation_ratio: 1.0,
            retention: Retention::default(),
            hosts_are_here: false,
        };
        let mailbox = bus.host_mailbox(&this_host()).await.unwrap();
        let (stop, stopped) = watch::channel(false);
        let sealer = parts.sealer.clone();
        let driver = Driver::new(store, sealer, bus.clone(), clock, wake.clone(), settings);
        let conductor = Conductor::new(driver);
        tokio::spawn(conductor.clone().run(Duties::ALL, stopped));
        let who = Principal {
            account: first.account,
            user_id: "AIDATEST".into(),
            user_name: "admin".into(),
            access_key_id: first.access_key_id,
            role: Role::Administrator,
        };
        let cloud = Cloud::new(parts, wake, bus.clone(), config);
        let rig = Rig {
            cloud,
            who,
            image,
            bus,
            mailbox,
            conductor,
            _stop: stop,
            _database: database,
        };
        rig.heartbeat(vcpus).await;
        rig
    }

    async fn say(&self, content: ReportContent) {
        let report = Report {
            host: this_host(),
            at: self.cloud.now(),
            content,
        };
        until("the conductor listens", async || {
            self.bus.report(report.clone()).await.is_ok()
        })
        .await;
    }

    async fn heartbeat(&self, vcpus: u32) {
        let resources = HostResources {
            vcpus,
            memory_mib: 65_536,
            disk_gib: 100,
        };
        let (hypervisor, availability_zone) = ("fake".into(), "us-east-1a".into());
        self.say(ReportContent::Heartbeat(Box::new(Heartbeat {
            resources,
            hypervisor,
            availability_zone,
            ..Heartbeat::default()
        })))
        .await;
        until("the host is registered", async || self.host().await.is_some()).await;
    }

    async fn host(&self) -> Option<host::Model> {
        host::Entity::find_by_id("host-a")
            .one(self.cloud.store.read())
            .await
            .unwrap()
    }

    async fn launch(&self, change: impl FnOnce(&mut LaunchSpec)) -> InstanceId {
        let mut spec = LaunchSpec::new(self.image, "t3.nano");
        change(&mut spec);
        instances::launch(&self.cloud, &self.who, spec)
            .await
            .unwrap()
            .instances[0]
            .id()
    }

    /// The next command that passes `wanted`; others are dropped, as a bus may.
    async fn command(&mut self, wanted: impl Fn(&Action) -> bool) -> Command {
        let next = async {
            loop {
                match self.mailbox.next().await {
                    Some(Delivery::Command(command)) if wanted(&command.action) => return command.accept(),
                    Some(Delivery::Command(command)) => command.ack(),
                    Some(Delivery::Query(..)) => {}
                    None => panic!("the bus has closed"),
                }
            }
        };
        tokio::time::timeout(SOON, next)
            .await
            .expect("a command should have come")
    }

    async fn answer(&self, command: &Command, power: Power, failure: Option<&str>) {
        let (instance, generation) = command.action.instance().unwrap();
        let report = InstanceReport {
            instance,
            generation,
            power,
            off_reason: None,
        };
        let operation = command.operation.unwrap();
        let failure = failure.map(str::to_owned);
        self.say(ReportContent::Done(Outcome {
            operation,
            report,
            failure,
            permanent: true,
            kept: Vec::new(),
            root: None,
        }))
        .await;
    }

    async fn view(&self, id: InstanceId) -> InstanceView {
        instances::get(&self.cloud, &self.who, id).await.unwrap()
    }

    async fn until_state(&self, id: InstanceId, state: State) -> InstanceView {
        until(state.name(), async || self.view(id).await.state() == state).await;
        self.view(id).await
    }

    /// A running instance.
    async fn running(&mut self, change: impl FnOnce(&mut LaunchSpec)) -> InstanceId {
        let id = self.launch(change).await;
        let run = self.command(|action| matches!(action, Action::Run { .. })).await;
        self.answer(&run, Power::On, None).await;
        self.until_state(id, State::Running).await;
        id
    }

    async fn changed(&self, instance: InstanceId, generation: u64, power: Power, off_reason: OffReason) {
        let report = InstanceReport {
            instance,
            generation,
            power,
            off_reason: Some(off_reason),
        };
        self.say(ReportContent::Changed(report)).await;
    }
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, wait)
        .await
        .unwrap_or_else(|_| panic!("never: {what}"));
}

fn is_run(action: &Action) -> bool {
    matches!(action, Action::Run { .. })
}

/// That every kind of report is said. One that comes to be does not compile here, and is then missed where it is not said.
fn says_every_kind(said: &[ReportContent]) {
    let mut kinds = [false; 8];
    for content in said {
        kinds[match content {
            ReportContent::Heartbeat(_) => 0,
            ReportContent::Changed(_) => 1,
            ReportContent::Done(_) => 2,
            ReportContent::NetworkApplied { .. } => 3,
            ReportContent::MetadataApplied { .. } => 4,
            ReportContent::Full(_) => 5,
            ReportContent::VolumeDone(_) => 6,
            ReportContent::SnapshotDone(_) => 7,
        }] = true;
    }
    assert_eq!(kinds, [true; 8], "a kind of report is not said");
}

#[tokio::test]
async fn a_launch_places_commands_and_runs() {
    let mut rig = Rig::start().await;
    let id = rig.launch(|_| ()).await;
    let command = rig.command(is_run).await;
    let Action::Run { spec, policy } = &command.action else {
        unreachable!()
    };
    assert_eq!((spec.id, spec.generation, spec.vcpus), (id, 1, 2));
    let interface = &policy.interfaces[0];
    assert_eq!(interface, &spec.nics[0].interface);
    assert!(
        interface.public_ip.is_some(),
        "the default subnet maps public addresses"
    );
    assert_eq!(policy.groups.len(), 1, "the default group");
    assert_eq!(
        policy.groups[0].members,
        [interface.private_ip],
        "it names itself"
    );
    assert_eq!(spec.metadata.interfaces[0].private_ip, interface.private_ip);
    rig.answer(&command, Power::On, None).await;
    rig.until_state(id, State::Running).await;
    assert_eq!(rig.host().await.unwrap().vcpus_used, 2);
}

#[tokio::test]
async fn a_terminate_during_a_launch_wins_and_gives_everything_back() {
    let mut rig = Rig::start().await;
    let id = rig.launch(|_| ()).await;
    let run = rig.command(is_run).await;
    instances::terminate(&rig.cloud, &rig.who, &[id]).await.unwrap();
    let destroy = rig
        .command(|action| matches!(action, Action::Destroy { .. }))
        .await;
    assert!(
        destroy.action.instance() > run.action.instance(),
        "its generation is higher"
    );
    rig.answer(&run, Power::On, None).await; // too late
    rig.answer(&destroy, Power::Absent, None).await;
    let view = rig.until_state(id, State::Terminated).await;
    assert!(view.interfaces.is_empty());
    let host = rig.host().await.unwrap();
    assert_eq!(
        (host.vcpus_used, host.memory_mib_used, host.disk_gib_used),
        (0, 0, 0)
    );
    let conn = rig.cloud.store.read();
    let account = account::Entity::find_by_id(Owner(rig.who.account))
        .one(conn)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((account.instances_used, account.vcpus_used), (0, 0));
    assert!(interface::Entity::find().one(conn).await.unwrap().is_none());
    let open = operation::Entity::find().all(conn).await.unwrap();
    assert!(open.iter().all(|row| row.active_instance.is_none()), "{open:?}");
}

#[tokio::test]
async fn a_launch_that_fails_for_good_ends_terminated_with_the_reason() {
    let mut rig = Rig::start().await;
    let id = rig.launch(|_| ()).await;
    let run = rig.command(is_run).await;
    rig.answer(&run, Power::Absent, Some("the image is damaged"))
        .await;
    let destroy = rig
        .command(|action| matches!(action, Action::Destroy { .. }))
        .await;
    rig.answer(&destroy, Power::Absent, None).await;
    let view = rig.until_state(id, State::Terminated).await;
    let reason = view.state_reason().unwrap();
    assert_eq!(reason.code, "Server.InternalError");
    let told = "Server.InternalError: host host-a: the image is damaged; there is no other host";
    assert!(reason.message.starts_with(told), "{reason:?}");
}

#[tokio::test]
async fn the_guests_own_shutdown_stops_or_terminates() {
    let mut rig = Rig::start().await;
    let id = rig.running(|_| ()).await;
    rig.changed(id, 1, Power::Off, OffReason::GuestShutdown).await;
    let stop = rig.command(|action| matches!(action, Action::Stop { .. })).await;
    rig.answer(&stop, Power::Off, None).await;
    let view = rig.until_state(id, State::Stopped).await;
    assert_eq!(
        view.state_reason().unwrap().code,
        "Client.InstanceInitiatedShutdown"
    );
    assert_eq!(
        rig.host().await.unwrap().vcpus_used,
        0,
        "a stopped instance holds no vCPU"
    );
    assert_ne!(rig.host().await.unwrap().disk_gib_used, 0, "and keeps its disk");

    let id = rig
        .running(|spec| spec.shutdown_behavior = ShutdownBehavior::Terminate)
        .await;
    rig.changed(id, 1, Power::Off, OffReason::GuestShutdown).await;
    let destroy = rig
        .command(|action| matches!(action, Action::Destroy { .. }))
        .await;
    rig.answer(&destroy, Power::Absent, None).await;
    rig.until_state(id, State::Terminated).await;
}

#[tokio::test]
async fn a_stopped_instance_starts_again_on_its_host_with_its_address() {
    let mut rig = Rig::start().await;
    let id = rig.running(|_| ()).await;
    let before = rig.view(id).await.private_ip();
    instances::stop(&rig.cloud, &rig.who, &[id], false).await.unwrap();
    let stop = rig.command(|action| matches!(action, Action::Stop { .. })).await;
    rig.answer(&stop, Power::Off, None).await;
    rig.until_state(id, State::Stopped).await;
    instances::start(&rig.cloud, &rig.who, &[id]).await.unwrap();
    let run = rig.command(is_run).await;
    rig.answer(&run, Power::On, None).await;
    let view = rig.until_state(id, State::Running).await;
    assert_eq!(view.private_ip(), before);
}

#[tokio::test]
async fn an_instance_that_fits_nowhere_says_why() {
    let rig = Rig::with_vcpus(1).await;
    let mut spec = LaunchSpec::new(rig.image, "t3.nano");
    spec.max = 1;
    let refused = instances::launch(&rig.cloud, &rig.who, spec).await.unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("no host has 2 free vCPUs in us-east-1a"),
        "{refused}"
    );
}

#[tokio::test]
async fn reports_of_strangers_and_of_the_past_change_nothing() {
    let mut rig = Rig::start().await;
    let id = rig.running(|_| ()).await;
    rig.changed(id, 0, Power::Off, OffReason::GuestShutdown).await; // an older generation
    let report = InstanceReport {
        instance: id,
        generation: 9,
        power: Power::Off,
        off_reason: None,
    };
    let foreign = Report {
        host: HostId("b".into()),
        at: rig.cloud.now(),
        content: ReportContent::Changed(report),
    };
    rig.bus.report(foreign).await.unwrap();
    let unknown = InstanceReport {
        instance: InstanceId::new(1 << 50),
        generation: 1,
        power: Power::On,
        off_reason: None,
    };
    rig.say(ReportContent::Changed(unknown)).await;
    // A later report has been applied, so the earlier ones have been looked at.
    rig.heartbeat(32).await;
    until("the heartbeat is applied", async || {
        rig.host().await.unwrap().vcpus == Amount(32)
    })
    .await;
    assert_eq!(rig.view(id).await.state(), State::Running);
}

#[tokio::test]
async fn a_full_report_heals_what_no_event_told() {
    let mut rig = Rig::start().await;
    let id = rig.running(|_| ()).await;
    rig.say(ReportContent::Full(Vec::new())).await;
    let stop = rig.command(|action| matches!(action, Action::Stop { .. })).await;
    rig.answer(&stop, Power::Absent, None).await;
    let view = rig.until_state(id, State::Stopped).await;
    assert_eq!(view.state_reason().unwrap().code, "Server.InternalError");
}

#[tokio::test]
async fn rules_and_metadata_reach_a_running_instances_host() {
    let mut rig = Rig::start().await;
    let id = rig.running(|_| ()).await;
    let group = rig.view(id).await.interfaces[0].groups[0].id;
    let rule = NewRule {
        traffic: Traffic::Tcp { from: 22, to: 22 },
        peer: PeerSpec::Cidr("0.0.0.0/0".parse().unwrap()),
        description: String::new(),
    };
    let name = GroupName::Id(group);
    security_groups::authorize(
        &rig.cloud,
        &rig.who,
        &name,
        Direction::Ingress,
        vec![rule],
        Vec::new(),
    )
    .await
    .unwrap();
    let has_rule = |action: &Action| match action {
        Action::Network(policy) => policy.groups[0]
            .rules
            .iter()
            .any(|r| r.traffic == Traffic::Tcp { from: 22, to: 22 }),
        _ => false,
    };
    let network = rig.command(has_rule).await;
    let Action::Network(policy) = network.action else {
        unreachable!()
    };
    rig.say(ReportContent::NetworkApplied {
        vpc: policy.vpc,
        generation: policy.generation,
    })
    .await;

    let change = MetadataChange {
        tokens_required: Some(true),
        ..MetadataChange::default()
    };
    instances::modify_metadata_options(&rig.cloud, &rig.who, id, change)
        .await
        .unwrap();
    let told = rig.command(|action| matches!(action, Action::Metadata(_))).await;
    let Action::Metadata(snapshot) = told.action else {
        unreachable!()
    };
    assert!(snapshot.options.tokens_required);
    rig.say(ReportContent::MetadataApplied {
        instance: id,
        revision: snapshot.revision,
    })
    .await;
    until("it is applied", async || !rig.view(id).await.metadata_pending).await;
}
