//! The operations on instances against the checks that all operations must pass, and the page about them.

mod copies;
mod damaged;
mod deleted_snapshots;
mod encrypted_anew;
mod handed_over;
mod images;
mod kept_roots;
mod launches;
mod modify;
mod reboots_for_images;
mod shared_volumes;
mod snapshots;
mod volumes;

use std::path::Path;

use cumulet_bus::HostMailbox;
use cumulet_compute::instances as api;
use cumulet_conductor::{Conductor, reports};
use cumulet_core::{Wake, retention::Retention};
use cumulet_domain::{
    Error, Result,
    id::{HostId, InstanceId, SnapshotId, VolumeId},
    message::{InstanceReport, Outcome, Power, Report, ReportContent, VolumeOutcome},
    volume::{VolumeChange, VolumeType},
};
use cumulet_journal::{
    Context as _, Kind, NewOperation, Operation as _, Step, active, engine, enqueue,
    testing::{Stage, each_may_lose_its_place_at_every_step, every_step_may_run_twice},
};
use cumulet_operations::{instance as subject_of, snapshot as snapshot_of, volume as volume_of, *};
use cumulet_store::{
    attachments,
    entity::{
        account, columns::Key, host, host_network, instance, interface, operation, snapshot, volume,
        volume_attachment,
    },
    failed,
};
use sea_orm::{ActiveModelTrait, ColumnTrait, EntityTrait, QueryFilter, QueryOrder, sea_query::Expr};

use crate::{
    api::{volumes as volumes_api, volumes::NewVolume},
    test_support::{Rig, ZONE, cloud},
};

/// A cloud with two hosts, which the test plays, and a conductor that does nothing by itself.
pub(super) struct Instances {
    pub(super) rig: Rig,
    pub(super) conductor: Conductor,
    pub(super) mailboxes: Vec<HostMailbox>,
}

impl Instances {
    pub(super) async fn new() -> Self {
        let rig = cloud().await;
        let settings = Settings {
            region: "us-east-1".into(),
            owner: "test".into(),
            cpu_allocation_ratio: 1.0,
            ram_allocation_ratio: 1.0,
            disk_allocation_ratio: 1.0,
            retention: Retention::default(),
            hosts_are_here: true,
        };
        let (store, bus, clock) = (
            rig.cloud.store.clone(),
            rig.cloud.bus.clone(),
            rig.cloud.clock.clone(),
        );
        let mut mailboxes = Vec::new();
        for name in ["host-1", "host-2"] {
            mailboxes.push(bus.host_mailbox(&HostId(name.into())).await.unwrap());
        }
        let mut second = host::Entity::find_by_id("host-1").one(store.read()).await;
        let second = second.as_mut().unwrap().take().unwrap();
        let add = store.write(move |txn| {
            Box::pin(async move {
                let row = host::Model {
                    id: "host-2".into(),
                    ..second
                };
                let insert = host::Entity::insert(host::ActiveModel::from(row).reset_all());
                insert.exec_without_returning(txn).await.map(drop).map_err(failed)
            })
        });
        add.await.unwrap();
        let sealer = rig.cloud.sealer.clone();
        Instances {
            conductor: Conductor::new(Driver::new(store, sealer, bus, clock, Wake::new(), settings)),
            rig,
            mailboxes,
        }
    }

    pub(super) async fn row(&self, id: i64) -> instance::Model {
        let row = instance::Entity::find_by_id(Key::from_db(id));
        row.one(self.conductor.store.read()).await.unwrap().unwrap()
    }

    /// The operation under way for an instance.
    pub(super) async fn open(&self, id: InstanceId) -> operation::Model {
        let open = active(self.conductor.store.read(), subject_of::subject(id.to_db())).await;
        open.unwrap().unwrap()
    }

    /// The engine runs one step of whatever is due.
    pub(super) async fn round(&self) {
        let steps = steps_of(Duties::ALL);
        engine::round(&*self.conductor, &steps).await.unwrap();
    }

    /// The operation is at its command, and the host answers.
    pub(super) async fn end(&self, id: InstanceId, outcome: Result<(), &str>) {
        let row = self.open(id).await;
        self.report(&row, outcome.err()).await;
    }

    /// A host answers an operation's command.
    pub(super) async fn report(&self, row: &operation::Model, failure: Option<&str>) {
        if row.kind == CreateSnapshot::NAME {
            let id = SnapshotId::from_db(row.subject().1);
            let host = self.kept(id).await.host.unwrap_or_default();
            let failed = failure.map(|words| (words, true));
            let taken = if failed.is_some() {
                Vec::new()
            } else {
                snapshots::taken([id])
            };
            return self.taken(&host, row, taken, failed).await;
        }
        let (host, content) = if row.kind == DeleteVolume::NAME {
            let volume = self.volume(row).await;
            let done = ReportContent::VolumeDone(volume_outcome(row, failure));
            (volume.host.unwrap_or_default(), done)
        } else {
            let instance = self.instance(row).await;
            let done = ReportContent::Done(outcome(row, &instance, failure));
            (instance.host.unwrap_or_default(), done)
        };
        self.say(&host, content).await;
    }

    pub(super) async fn say(&self, host: &str, content: ReportContent) {
        let report = Report {
            host: HostId(host.into()),
            at: self.rig.cloud.now(),
            content,
        };
        reports::apply(&self.conductor, report).await.unwrap();
    }

    /// The instance that an operation's command is for.
    async fn instance(&self, row: &operation::Model) -> instance::Model {
        let (kind, id) = row.subject();
        if kind == cumulet_domain::ResourceKind::Instance.resource_type() {
            return self.row(id).await;
        }
        // One that is attached to nothing has lost its place to somebody.
        let attached = attachments::of_volume(self.conductor.store.read(), id).await;
        match attached.unwrap() {
            Some(attached) => self.row(attached.instance.to_db()).await,
            None => {
                let any = instance::Entity::find().one(self.conductor.store.read());
                any.await.unwrap().unwrap()
            }
        }
    }

    /// The volume that an operation works on.
    async fn volume(&self, row: &operation::Model) -> volume::Model {
        let found = attachments::find(self.conductor.store.read(), row.subject().1).await;
        found.unwrap().unwrap()
    }

    /// A new volume of a GiB.
    pub(super) async fn made(&self) -> VolumeId {
        let new = NewVolume {
            availability_zone: ZONE.into(),
            size_gib: Some(1),
            snapshot: None,
            kind: VolumeType::Gp2,
            provisioned: Default::default(),
            encryption: Default::default(),
            tags: Vec::new(),
            client_token: None,
        };
        let made = volumes_api::create(&self.rig.cloud, &self.rig.who, new).await;
        made.unwrap().id()
    }

    /// The operation under way for a volume.
    pub(super) async fn at_work(&self, volume: VolumeId) -> Option<operation::Model> {
        let subject = volume_of::subject(volume.to_db());
        active(self.conductor.store.read(), subject).await.unwrap()
    }

    pub(super) async fn attach(&self, volume: VolumeId, to: InstanceId, device: &str) -> operation::Model {
        let (cloud, who) = (&self.rig.cloud, &self.rig.who);
        volumes_api::attach(cloud, who, volume, to, device).await.unwrap();
        self.at_work(volume).await.unwrap()
    }

    pub(super) async fn detach(&self, volume: VolumeId) -> operation::Model {
        let what = volumes_api::Detach {
            volume,
            instance: None,
            device: None,
        };
        let asked = volumes_api::detach(&self.rig.cloud, &self.rig.who, what).await;
        asked.unwrap();
        self.at_work(volume).await.unwrap()
    }

    /// A volume is to be of so many GiB.
    pub(super) async fn grow(&self, volume: VolumeId, gib: u32) -> operation::Model {
        let larger = VolumeChange {
            size_gib: Some(gib),
            ..VolumeChange::default()
        };
        let asked = volumes_api::modify(&self.rig.cloud, &self.rig.who, volume, larger).await;
        asked.unwrap();
        self.at_work(volume).await.unwrap()
    }

    /// A volume that is attached to an instance that runs.
    pub(super) async fn attached(&self) -> (VolumeId, InstanceId) {
        let (volume, instance) = (self.made().await, self.running().await);
        let open = self.attach(volume, instance, "/dev/sdf").await;
        self.round().await;
        self.report(&open, None).await;
        assert!(self.at_work(volume).await.is_none());
        (volume, instance)
    }

    /// How an operation on a volume is begun.
    async fn on_volume(&self, kind: &str) -> operation::Model {
        match kind {
            AttachVolume::NAME => {
                let (volume, instance) = (self.made().await, self.running().await);
                self.attach(volume, instance, "/dev/sdf").await
            }
            DetachVolume::NAME => self.detach(self.attached().await.0).await,
            ModifyVolume::NAME => {
                let (volume, _) = self.attached().await;
                self.grow(volume, 3).await
            }
            DeleteVolume::NAME => {
                let (volume, _) = self.attached().await;
                let open = self.detach(volume).await;
                self.round().await;
                self.report(&open, None).await;
                let asked = volumes_api::delete(&self.rig.cloud, &self.rig.who, volume).await;
                asked.unwrap();
                self.at_work(volume).await.unwrap()
            }
            other => panic!("how is a {other} begun?"),
        }
    }

    /// Wants something new of an operation's volume.
    async fn want_of_volume(&self, row: &operation::Model, kind: &str) -> Result<()> {
        let (disk, now) = (self.volume(row).await, self.rig.cloud.now());
        let (id, on) = (
            self.conductor.next_id(),
            volume_of::target(&disk, disk.generation.next().0),
        );
        let nothing = Nothing {};
        let new = match kind {
            AttachVolume::NAME => NewOperation::of::<AttachVolume>(id, on, &nothing, now),
            DetachVolume::NAME => NewOperation::of::<DetachVolume>(id, on, &nothing, now),
            DeleteVolume::NAME => NewOperation::of::<DeleteVolume>(id, on, &nothing, now),
            ModifyVolume::NAME => NewOperation::of::<ModifyVolume>(id, on, &Modify::default(), now),
            other => panic!("what carries a {other}?"),
        }?;
        let write = self.conductor.store.write(move |txn| {
            Box::pin(async move {
                attachments::lock_with_instance(txn, disk.id.to_db()).await?;
                attachments::moved(txn, &disk, disk.state.0, None).await?;
                enqueue(txn, new).await.map(drop)
            })
        });
        write.await
    }

    pub(super) async fn launched(&self) -> InstanceId {
        let made = api::launch(&self.rig.cloud, &self.rig.who, self.rig.spec()).await;
        made.unwrap().instances[0].id()
    }

    pub(super) async fn running(&self) -> InstanceId {
        let id = self.launched().await;
        self.round().await;
        self.end(id, Ok(())).await;
        assert_eq!(self.row(id.to_db()).await.state.to_string(), "running");
        id
    }

    pub(super) async fn stopped(&self) -> InstanceId {
        let id = self.running().await;
        api::stop(&self.rig.cloud, &self.rig.who, &[id], true)
            .await
            .unwrap();
        self.end(id, Ok(())).await;
        assert_eq!(self.row(id.to_db()).await.state.to_string(), "stopped");
        id
    }
}

/// What a host says when it has done what an operation is at.
pub(super) fn outcome(row: &operation::Model, of: &instance::Model, failure: Option<&str>) -> Outcome {
    let power = match row.kind.as_str() {
        _ if row.step == "clear" || failure.is_some() => Power::Absent,
        "stop" | "create-image" => Power::Off,
        "terminate" => Power::Absent,
        _ => Power::On,
    };
    Outcome {
        operation: row.id.0,
        report: InstanceReport {
            instance: of.id.0,
            generation: match row.subject().0 {
                "instance" => row.generation.0,
                // It was told what its instance is to have now.
                _ => of.generation.0,
            },
            power,
            off_reason: None,
        },
        failure: failure.map(str::to_owned),
        permanent: true,
        kept: Vec::new(),
        root: None,
    }
}

fn volume_outcome(row: &operation::Model, failure: Option<&str>) -> VolumeOutcome {
    VolumeOutcome {
        operation: row.id.0,
        volume: VolumeId::from_db(row.subject().1),
        failure: failure.map(str::to_owned),
        permanent: true,
    }
}

fn is_of_volumes(kind: &str) -> bool {
    kind.ends_with("-volume")
}

impl Stage for Instances {
    type Cx = Driver;

    fn cx(&self) -> &Driver {
        &self.conductor
    }

    fn meet(&self, kind: &str, other: &str) -> bool {
        let is_of_snapshots = |kind: &str| kind == CreateSnapshot::NAME;
        is_of_volumes(kind) == is_of_volumes(other) && is_of_snapshots(kind) == is_of_snapshots(other)
    }

    async fn at(&self, kind: &str, step: &Step) -> operation::Model {
        if is_of_volumes(kind) {
            return self.on_volume(kind).await;
        }
        if kind == CreateSnapshot::NAME {
            return self.snapshot(self.attached().await.0).await.1;
        }
        let (cloud, who) = (&self.rig.cloud, &self.rig.who);
        let id = match kind {
            "launch" => self.launched().await,
            "start" => {
                let id = self.stopped().await;
                api::start(cloud, who, &[id]).await.unwrap();
                id
            }
            "stop" => {
                let id = self.running().await;
                api::stop(cloud, who, &[id], false).await.unwrap();
                id
            }
            "reboot" => {
                let id = self.running().await;
                api::reboot(cloud, who, &[id]).await.unwrap();
                id
            }
            "terminate" => {
                let id = self.running().await;
                api::terminate(cloud, who, &[id]).await.unwrap();
                id
            }
            CreateImage::NAME => {
                let id = self.running().await;
                self.image_of(id).await;
                id
            }
            RunAgain::NAME => self.off_for_an_image().await,
            other => panic!("how is a {other} begun?"),
        };
        if self.open(id).await.step != step.name {
            self.round().await;
        }
        if self.open(id).await.step != step.name {
            self.end(id, Err("the disk is broken")).await;
        }
        self.open(id).await
    }

    async fn want(&self, row: &operation::Model, kind: &str) -> Result<()> {
        if is_of_volumes(kind) {
            return self.want_of_volume(row, kind).await;
        }
        if kind == CreateSnapshot::NAME {
            let (id, now) = (self.conductor.next_id(), self.rig.cloud.now());
            let snapshot = self.kept(SnapshotId::from_db(row.subject().1)).await;
            let write = self
                .conductor
                .store
                .write(move |txn| Box::pin(async move { snapshot_of::ask(txn, &[snapshot], id, now).await }));
            return write.await;
        }
        let (instance, now) = (self.row(subject_of::instance_of(row)).await, self.rig.cloud.now());
        let (id, on) = (
            self.conductor.next_id(),
            subject_of::target(&instance, instance.generation.next().0),
        );
        let new = match kind {
            Launch::NAME => NewOperation::of::<Launch>(id, on, &LaunchState::default(), now),
            Start::NAME => NewOperation::of::<Start>(id, on, &Nothing {}, now),
            Stop::NAME => NewOperation::of::<Stop>(id, on, &StopState::default(), now),
            Reboot::NAME => NewOperation::of::<Reboot>(id, on, &Nothing {}, now),
            Terminate::NAME => NewOperation::of::<Terminate>(id, on, &TerminateState::default(), now),
            CreateImage::NAME => NewOperation::of::<CreateImage>(id, on, &Default::default(), now),
            RunAgain::NAME => NewOperation::of::<RunAgain>(id, on, &Default::default(), now),
            other => panic!("what carries a {other}?"),
        }?;
        let write = self.conductor.store.write(move |txn| {
            Box::pin(async move {
                cumulet_store::instances::lock(txn, &[instance.id.to_db()]).await?;
                let raise = instance::Entity::update_many()
                    .col_expr(
                        instance::Column::Generation,
                        Expr::value(instance.generation.next()),
                    )
                    .filter(instance::Column::Id.eq(instance.id));
                raise.exec(txn).await.map_err(failed)?;
                enqueue(txn, new).await.map(drop)
            })
        });
        let wanted = write.await;
        assert!(
            matches!(wanted, Ok(()) | Err(Error::Unavailable(_))),
            "{wanted:?}"
        );
        wanted
    }

    async fn heard(&self, row: &operation::Model, host: &HostId) -> Heard {
        if row.kind == CreateSnapshot::NAME {
            return snapshots::heard(row, host);
        }
        if row.kind == DeleteVolume::NAME {
            return Heard::Volume(volume_outcome(row, None));
        }
        let instance = self.instance(row).await;
        Heard::Instance(Box::new(OfInstance {
            host: host.clone(),
            at: self.rig.cloud.now(),
            outcome: outcome(row, &instance, None),
            row: instance,
        }))
    }

    async fn answer(&self, row: &operation::Model, _: &HostId) {
        self.report(row, None).await;
    }

    async fn picture(&self) -> String {
        let conn = self.conductor.store.read();
        let instances = instance::Entity::find().order_by_asc(instance::Column::Id);
        let instances = instances.all(conn).await.unwrap();
        let hosts = host::Entity::find().order_by_asc(host::Column::Id);
        let hosts = hosts.all(conn).await.unwrap();
        let accounts = account::Entity::find().order_by_asc(account::Column::Id);
        let accounts = accounts.all(conn).await.unwrap();
        let interfaces = interface::Entity::find().order_by_asc(interface::Column::Id);
        let interfaces = interfaces.all(conn).await.unwrap();
        let networks = host_network::Entity::find().order_by_asc(host_network::Column::Host);
        let networks = networks.all(conn).await.unwrap();
        let volumes = volume::Entity::find().order_by_asc(volume::Column::Id);
        let volumes = volumes.all(conn).await.unwrap();
        let attached = volume_attachment::Entity::find().order_by_asc(volume_attachment::Column::Volume);
        let attached = attached.all(conn).await.unwrap();
        let snapshots = snapshot::Entity::find().order_by_asc(snapshot::Column::Id);
        let snapshots = snapshots.all(conn).await.unwrap();
        format!(
            "{instances:#?}{hosts:#?}{accounts:#?}{interfaces:#?}{networks:#?}{volumes:#?}{attached:#?}{snapshots:#?}"
        )
    }
}

#[tokio::test]
async fn every_step_of_every_operation_may_run_twice() {
    every_step_may_run_twice(Instances::new).await;
}

#[tokio::test]
async fn every_operation_may_lose_its_place_at_every_step() {
    each_may_lose_its_place_at_every_step(Instances::new).await;
}

#[test]
fn a_name_is_one_operation_and_a_step_one_roles() {
    let kinds = REGISTRY.kinds();
    let mut names: Vec<_> = kinds.iter().map(|kind| kind.name()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), kinds.len());
    for kind in kinds {
        for name in kind.supersedes() {
            assert!(names.contains(name), "{} supersedes a {name}", kind.name());
        }
    }
    let leased = || {
        let all = kinds.iter().flat_map(|kind| kind.steps());
        all.filter(|step| step.is_leased)
    };
    for (one, other) in leased().flat_map(|one| leased().map(move |other| (one, other))) {
        assert!(
            one.name != other.name || one.role == other.role,
            "{one:?} {other:?}"
        );
    }
    assert_eq!(steps_of(Duties::ALL), ["clear", "command", "place"]);
    let place = Duties {
        place: true,
        drive: false,
    };
    assert_eq!(steps_of(place), ["place"]);
}

/// Rows of a program of before have more members, and it reads those of this one.
#[test]
fn what_an_older_program_has_written_is_read() {
    let old = r#"{"force":true,"reason":{"code":"c","message":"m"},"tried":[{"host":"h","failure":"f"}],
        "hints":{"different_host":[],"same_host":[]}}"#;
    let stop: StopState = serde_json::from_str(old).unwrap();
    assert_eq!((stop.force, stop.reason.unwrap().code.as_str()), (true, "c"));
    assert_eq!(serde_json::from_str::<LaunchState>(old).unwrap().tried.len(), 1);
    assert_eq!(serde_json::from_str(old).ok(), Some(Nothing {}));
    let terminate: TerminateState = serde_json::from_str(old).unwrap();
    assert!(terminate.reason.is_some());
    assert_eq!(serde_json::to_string(&Nothing {}).unwrap(), "{}");
}

/// The page about the operations, from what they say of themselves.
fn page() -> String {
    let head = "# Operations\n\n\
        What takes long, as the journal carries it out (`backend/operations`). This page is written \
        from the operations' own lists of steps: `UPDATE_DOCS=1 cargo test -p cumulet-backend operations::tests`.\n";
    let operation = |kind: &&dyn Kind<Driver>| {
        let supersedes = match kind.supersedes() {
            [] => "nothing".to_owned(),
            some => some.join(", "),
        };
        let deadline = kind.deadline().as_secs();
        let mut text = format!(
            "\n## {}\n\nDeadline: {deadline} s. Takes the place of: {supersedes}.\n\n\
            | step | done by | waits in the journal | crash points |\n|---|---|---|---|\n",
            kind.name()
        );
        for step in kind.steps() {
            let role = format!("{:?}", step.role).to_lowercase();
            let waits = if step.is_leased { "yes" } else { "" };
            let points = step.points.join(", ");
            text.push_str(&format!("| {} | {role} | {waits} | {points} |\n", step.name));
        }
        text
    };
    REGISTRY
        .kinds()
        .iter()
        .map(operation)
        .fold(head.to_owned(), |all, one| all + &one)
}

#[test]
fn the_page_says_what_the_operations_say() {
    let path = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../docs/operations.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, page()).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap_or_default(), page());
}

#[tokio::test]
async fn what_is_on_its_way_to_a_host_counts_as_its_io() {
    let stage = Instances::new().await;
    let io = async || {
        let (store, now) = (stage.conductor.store.read(), stage.rig.cloud.now());
        stage.conductor.scheduler.read(store, now).await.unwrap();
        let all =
            |fleet: &mut cumulet_scheduler::Fleet| fleet.hosts().iter().map(|host| host.io_ops).sum::<i64>();
        stage.conductor.scheduler.with(all)
    };
    assert_eq!(io().await, 0);
    let (one, two) = (stage.launched().await, stage.launched().await);
    stage.round().await;
    assert_eq!(io().await, 2);
    stage.end(one, Ok(())).await;
    assert_eq!(io().await, 1);
    stage.end(two, Ok(())).await;
    // Nothing comes to its host that stops there.
    api::stop(&stage.rig.cloud, &stage.rig.who, &[one], true)
        .await
        .unwrap();
    assert_eq!(io().await, 0);
}
