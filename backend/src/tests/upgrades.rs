//! The upgrade of a database that earlier programs have filled, and of what they do beside this one. Each test runs on
//! every database.

use std::{net::Ipv4Addr, sync::Arc};

use cumulet_bus::LocalBus;
use cumulet_certs::{MasterKey, Sealer};
use cumulet_compute::instances::{
    AttributeChange, DiskChange, InstanceQuery, InstanceView, describe, launch, modify_attribute,
};
use cumulet_core::{
    CloudConfig, PageRequest, Parts, Quotas, Wake, retention::Retention, tags as tagging, tags::TagTarget,
};
use cumulet_domain::{
    Error,
    account::{AccountId, Principal, Role},
    id::{InstanceId, VolumeId},
    instance::State,
    rng::SharedRng,
    tag::Tag,
    time::{ManualClock, Timestamp},
    volume::AttachmentState,
};
use cumulet_migrations::rows_of_earlier;
use cumulet_store::{
    attachments,
    catch_up::{run, write_missing},
    connect, connect_to,
    consistency::Hanging,
    entity::{columns::Key, instance, interface, metadata_push, volume, volume_attachment},
    failed,
    scratch::Scratch,
};
use sea_orm::{ConnectionTrait as _, EntityTrait as _, Statement};

use crate::{
    Cloud,
    test_support::{self, principal},
};

const ACCOUNT: i64 = 123_456_789_012;

/// Numbers of three instances: one runs, one is stopped, one has ended; and what an earlier program, beside this one,
/// launches and has ended.
const RUNS: i64 = 1 << 40;
const STOPPED: i64 = 2 << 40;
const ENDED: i64 = 3 << 40;
const LATER: i64 = 4 << 40;

fn address(text: &str) -> i64 {
    u32::from(text.parse::<Ipv4Addr>().unwrap()).into()
}

/// An instance as a program of before volumes has written it, with its interface.
fn earlier(id: i64, state: &str, ended: Option<i64>, addresses: Option<(&str, Option<&str>)>) -> Vec<String> {
    let intent = if state == "stopped" { "stopped" } else { "running" };
    let ended = ended.map_or("NULL".to_owned(), |at| at.to_string());
    let mut all = vec![format!(
        "INSERT INTO instances (id, account, reservation, launch_index, image, instance_type, vcpus, memory_mib, \
         disk_gib, state, intent, generation, metadata_revision, claimed, vpc, subnet, availability_zone, \
         shutdown_behavior, disable_api_termination, disable_api_stop, http_enabled, http_tokens_required, \
         http_hop_limit, http_tags, launched_at, created_at, terminated_at) VALUES ({id}, {ACCOUNT}, 77, 0, 55, \
         't3.nano', 2, 512, 9, '{state}', '{intent}', 1, 1, 0, 33, 44, 'us-east-1a', 'stop', 0, 0, 1, 1, 1, 0, \
         {id}, {id}, {ended})"
    )];
    if let Some((private, public)) = addresses {
        let private = address(private);
        let public = public.map_or("NULL".to_owned(), |text| address(text).to_string());
        all.push(format!(
            "INSERT INTO interfaces (id, account, instance, device_index, attachment, vpc, subnet, mac, private_ip, \
             public_ip, description, created_at) VALUES ({}, {ACCOUNT}, {id}, 0, {id}, 33, 44, {id}, {private}, \
             {public}, '', {id})",
            id + 1
        ));
    }
    all
}

/// A cloud's network and its image, which has another root device than most.
fn around() -> Vec<String> {
    vec![
        format!(
            "INSERT INTO accounts (id, name, instances_used, instances_max, vcpus_used, vcpus_max, created_at) \
                 VALUES ({ACCOUNT}, 'a', 2, 100, 4, 100, 0)"
        ),
        format!(
            "INSERT INTO vpcs (id, account, cidr, is_default, policy_generation, created_at) \
                 VALUES (33, {ACCOUNT}, '172.31.0.0/16', 1, 1, 0)"
        ),
        format!(
            "INSERT INTO subnets (id, account, vpc, cidr, availability_zone, is_default, map_public_ip, created_at) \
                 VALUES (44, {ACCOUNT}, 33, '172.31.0.0/20', 'us-east-1a', 1, 1, 0)"
        ),
        format!(
            "INSERT INTO images (id, account, name, description, state, public, architecture, format, sha256, \
                 size_bytes, virtual_bytes, root_device, created_at) VALUES (55, {ACCOUNT}, 'i', '', 'available', 1, \
                 'x86_64', 'qcow2', 'x', 1, 1, '/dev/sda1', 0)"
        ),
    ]
}

struct Upgraded {
    cloud: Cloud,
    who: Principal,
    database: Scratch,
}

impl Upgraded {
    /// A database that the migrations up to m0017 have made and a program of then has filled, with the rest of them.
    async fn new() -> Self {
        Self::from("m0017_placement_metadata", Vec::new()).await
    }

    /// The same of the migrations up to another one, with more that a program of then has written.
    async fn from(last: &str, more: Vec<String>) -> Self {
        let database = Scratch::new().await;
        connect_to(&database.options(2), last).await.unwrap();
        let mut all = around();
        all.extend(earlier(
            RUNS,
            "running",
            None,
            Some(("172.31.0.9", Some("198.18.0.7"))),
        ));
        all.extend(earlier(STOPPED, "stopped", None, Some(("172.31.15.10", None))));
        all.extend(earlier(ENDED, "terminated", Some(1_767_323_045_000), None));
        all.extend(more);
        execute(&database, all).await;
        let store = connect(&database.options(4)).await.unwrap();
        let clock = Arc::new(ManualClock::new(Timestamp(1_767_323_045_000)));
        let sealer = Arc::new(Sealer::new(MasterKey::from_bytes([7; 32])));
        let parts = Parts::new(store, clock, SharedRng::seeded(1), sealer);
        let config = CloudConfig {
            region: "us-east-1".into(),
            availability_zones: vec!["us-east-1a".into()],
            public_pool: "198.18.0.0/16".parse().unwrap(),
            cloud_id: "c".into(),
            hypervisor: "fake".into(),
            endpoint: "127.0.0.1:8773".into(),
            retention: Retention::default(),
            public_addresses: 1 << 20,
            quotas: Quotas::default(),
            modification_cooldown: std::time::Duration::ZERO,
            volume_store: cumulet_domain::volume::VolumeStore::Local,
        };
        Upgraded {
            cloud: Cloud::new(parts, Wake::new(), Arc::new(LocalBus::new()), config),
            who: principal(AccountId::from_db(ACCOUNT), Role::Administrator),
            database,
        }
    }

    /// What an earlier program, which has not been replaced yet, writes now.
    async fn beside(&self, all: Vec<String>) {
        execute(&self.database, all).await;
    }

    async fn shown(&self) -> Vec<Arc<InstanceView>> {
        let (all, page) = (InstanceQuery::default(), PageRequest::default());
        describe(&self.cloud, &self.who, &all, page).await.unwrap().rows
    }

    async fn findings(&self) -> Vec<String> {
        let conn = self.cloud.store.read();
        let instances = instance::Entity::find().all(conn).await.unwrap();
        let interfaces = interface::Entity::find().all(conn).await.unwrap();
        Hanging::load(conn)
            .await
            .unwrap()
            .findings(&instances, &interfaces)
    }
}

async fn execute(database: &Scratch, all: Vec<String>) {
    let conn = cumulet_store::snapshots(&database.options(1)).await.unwrap();
    for sql in all {
        if database.is_on_server() {
            database.administer(&sql).await;
        } else {
            conn.execute_unprepared(&sql).await.unwrap();
        }
    }
}

/// What DescribeInstances shows of disks and addresses.
#[derive(Debug, PartialEq, Eq)]
struct Seen<'a> {
    state: State,
    disks: Vec<(VolumeId, &'a str, bool)>,
    private: Option<Ipv4Addr>,
    public: Option<Ipv4Addr>,
}

fn seen(view: &InstanceView) -> Seen<'_> {
    let disks = view.disks.iter().map(|disk| {
        assert!(disk.is_root && disk.state == AttachmentState::Attached);
        assert_eq!(disk.attached_at.0, view.row.created_at);
        (disk.volume, disk.device.as_str(), disk.delete_on_termination)
    });
    Seen {
        state: view.state(),
        disks: disks.collect(),
        private: view.private_ip(),
        public: view.public_ip(),
    }
}

/// As before the upgrade: a root volume has its instance's number, and is at its image's root device.
fn expected(state: State, id: i64, private: &str, public: Option<&str>) -> Seen<'static> {
    Seen {
        state,
        disks: vec![(VolumeId::from_db(id), "/dev/sda1", true)],
        private: private.parse().ok(),
        public: public.and_then(|text| text.parse().ok()),
    }
}

#[tokio::test]
async fn an_upgraded_database_shows_what_was_shown_before() {
    let rig = Upgraded::new().await;
    let shown = rig.shown().await;
    assert_eq!(shown.len(), 3);
    let runs = expected(State::Running, RUNS, "172.31.0.9", Some("198.18.0.7"));
    assert_eq!(seen(&shown[0]), runs);
    assert_eq!(
        seen(&shown[1]),
        expected(State::Stopped, STOPPED, "172.31.15.10", None)
    );
    let ended = Seen {
        state: State::Terminated,
        disks: Vec::new(),
        private: None,
        public: None,
    };
    assert_eq!(seen(&shown[2]), ended);
    assert!(shown.iter().all(|view| view.root_device() == "/dev/sda1"));
    assert_eq!(rig.findings().await, [""; 0]);
    // The volumes are there, with their tags; that of the instance that has ended, for as long as that is shown.
    let tag = [Tag {
        key: "n".into(),
        value: "v".into(),
    }];
    for id in [RUNS, STOPPED, ENDED] {
        let target = TagTarget::of(VolumeId::from_db(id));
        tagging::create(&rig.cloud, &rig.who, &[target], &tag)
            .await
            .unwrap();
    }
    let volumes = volume::Entity::find().all(rig.cloud.store.read()).await.unwrap();
    assert!(
        volumes
            .iter()
            .all(|row| row.size_gib.0 == 9 && row.image.is_some_and(|image| image.to_db() == 55))
    );
    assert!(
        !rows_of_earlier::are_missing(rig.cloud.store.read())
            .await
            .unwrap()
    );
}

#[tokio::test]
async fn what_an_earlier_program_does_meanwhile_is_shown_at_once_and_completed() {
    let rig = Upgraded::new().await;
    rig.beside(earlier(
        LATER,
        "running",
        None,
        Some(("172.31.0.77", Some("198.18.0.9"))),
    ))
    .await;
    // It ends another one, and knows nothing of the rows that hang on that.
    rig.beside(vec![
        format!("DELETE FROM interfaces WHERE instance = {RUNS}"),
        format!("UPDATE instances SET state = 'terminated', terminated_at = {RUNS} WHERE id = {RUNS}"),
    ])
    .await;
    let check = |shown: &[Arc<InstanceView>]| {
        let view = shown
            .iter()
            .find(|view| view.id() == InstanceId::from_db(LATER))
            .unwrap();
        let launched = expected(State::Running, LATER, "172.31.0.77", Some("198.18.0.9"));
        assert_eq!(seen(view), launched);
    };
    // (With a file there is nobody beside, so nothing tells this one that what it has read is old.)
    check(&rig.shown().await);
    assert_ne!(rig.findings().await, [""; 0]);

    assert!(write_missing(&rig.cloud.store).await.unwrap());
    assert_eq!(rig.findings().await, [""; 0]);
    check(&rig.shown().await);
    let shown = rig.shown().await;
    let ended = shown.iter().find(|view| view.id() == InstanceId::from_db(RUNS));
    assert!(ended.is_none_or(|view| view.disks.is_empty()));
    assert!(!write_missing(&rig.cloud.store).await.unwrap(), "once is enough");
    assert_eq!(run(&rig.cloud.store).await, Ok(false));
}

/// An image of a program that names roots after the guest's bus, and an instance of it.
fn of_the_bus(image: i64, id: i64, private: &str) -> Vec<String> {
    let mut all = vec![format!(
        "INSERT INTO images (id, account, name, description, state, public, architecture, format, sha256, size_bytes, \
         virtual_bytes, root_device, created_at) VALUES ({image}, {ACCOUNT}, 'i{image}', '', 'available', 1, 'x86_64', \
         'qcow2', 'x', 1, 1, '/dev/vda', 0)"
    )];
    all.extend(earlier(id, "running", None, Some((private, None))));
    all.push(format!("UPDATE instances SET image = {image} WHERE id = {id}"));
    all.push(format!(
        "INSERT INTO volumes (id, account, availability_zone, size_gib, volume_type, state, image, encrypted, \
         generation, created_at) VALUES ({id}, {ACCOUNT}, 'us-east-1a', 9, 'gp3', 'in-use', {image}, 0, 1, {id})"
    ));
    all.push(format!(
        "INSERT INTO volume_attachments (instance, device, volume, boot_index, state, delete_on_termination, \
         attached_at) VALUES ({id}, '/dev/vda', {id}, 0, 'attached', 1, {id})"
    ));
    all
}

/// What instances' rows say of their metadata, and which of it hosts are to be told.
async fn told(rig: &Upgraded, id: i64) -> (u64, bool) {
    let conn = rig.cloud.store.read();
    let row = instance::Entity::find_by_id(Key::from_db(id))
        .one(conn)
        .await
        .unwrap();
    let push = metadata_push::Entity::find_by_id(Key::from_db(id))
        .one(conn)
        .await
        .unwrap();
    (row.unwrap().metadata_revision.0, push.is_some())
}

async fn is_named_as_its_image_says(rig: &Upgraded, id: i64) {
    let shown = rig.shown().await;
    let view = shown
        .iter()
        .find(|view| view.id() == InstanceId::from_db(id))
        .unwrap();
    assert_eq!(view.root_device(), "/dev/xvda");
    assert_eq!(view.image.as_ref().unwrap().root_device.0, "/dev/xvda");
    assert_eq!(
        view.root_disk().map(|disk| disk.device.as_str()),
        Some("/dev/xvda")
    );
}

#[tokio::test]
async fn a_root_that_was_named_after_the_bus_is_named_as_on_ec2() {
    let rig = Upgraded::from("m0021_volume_data", of_the_bus(56, LATER, "172.31.0.77")).await;
    is_named_as_its_image_says(&rig, LATER).await;
    // It reads so too, as soon as its host has been told.
    assert_eq!(
        (told(&rig, LATER).await, told(&rig, RUNS).await),
        ((2, true), (1, false))
    );
    assert_eq!(roots_of_the_bus(&rig).await, 0);
}

#[tokio::test]
async fn so_is_one_that_an_earlier_program_names_meanwhile() {
    let rig = Upgraded::new().await;
    rig.beside(of_the_bus(57, LATER, "172.31.0.77")).await;
    is_named_as_its_image_says(&rig, LATER).await;
    // Before it is renamed it is changed by the name that is shown.
    let change = AttributeChange::Disk(DiskChange {
        device: "/dev/xvda".into(),
        volume: None,
        delete_on_termination: true,
    });
    let to_be_kept = "UPDATE volume_attachments SET delete_on_termination = 0";
    rig.beside(vec![to_be_kept.into()]).await;
    modify_attribute(&rig.cloud, &rig.who, InstanceId::from_db(LATER), change)
        .await
        .unwrap();
    let kept = volume_attachment::Entity::find()
        .all(rig.cloud.store.read())
        .await;
    let changed = kept
        .unwrap()
        .into_iter()
        .find(|disk| disk.volume.to_db() == LATER);
    assert!(changed.unwrap().delete_on_termination.0);

    assert_eq!(roots_of_the_bus(&rig).await, 1);
    assert!(write_missing(&rig.cloud.store).await.unwrap());
    assert_eq!(
        (roots_of_the_bus(&rig).await, told(&rig, LATER).await),
        (0, (2, true))
    );
    is_named_as_its_image_says(&rig, LATER).await;
    assert!(!write_missing(&rig.cloud.store).await.unwrap(), "once is enough");
}

/// Attachments whose rows have the old name.
async fn roots_of_the_bus(rig: &Upgraded) -> i64 {
    let conn = rig.cloud.store.read();
    let ask = "SELECT COUNT(*) AS n FROM volume_attachments WHERE device = '/dev/vda'";
    let ask = Statement::from_string(conn.get_database_backend(), ask);
    let row = conn.query_one_raw(ask).await.unwrap().unwrap();
    row.try_get("", "n").unwrap()
}

#[tokio::test]
async fn an_address_that_an_earlier_program_has_given_out_is_not_given_out_again() {
    let rig = Upgraded::new().await;
    rig.beside(earlier(LATER, "running", None, Some(("172.31.0.77", None))))
        .await;
    let subnet = cumulet_store::entity::subnet::Entity::find_by_id(Key::from_db(44))
        .one(rig.cloud.store.read())
        .await
        .unwrap()
        .unwrap();
    for (text, taken) in [
        ("172.31.0.9", true),
        ("172.31.0.77", true),
        ("172.31.0.78", false),
    ] {
        let found =
            cumulet_store::networks::is_taken(rig.cloud.store.read(), &subnet, text.parse().unwrap()).await;
        assert_eq!(found, Ok(taken), "{text}");
    }
}

#[tokio::test]
async fn a_damaged_row_is_named_and_never_a_default() {
    let rig = test_support::cloud().await;
    let made = launch(&rig.cloud, &rig.who, rig.spec()).await.unwrap();
    let id = made.instances[0].id().to_string();
    let damages = [
        (
            "UPDATE volume_attachments SET state = 'glued'",
            "volume_attachments",
            "/dev/xvda",
        ),
        (
            "UPDATE volume_attachments SET state = 'attached', delete_on_termination = 7",
            "volume_attachments",
            "7",
        ),
        (
            "UPDATE volume_attachments SET delete_on_termination = 1, boot_index = -1",
            "volume_attachments",
            "-1",
        ),
        (
            "UPDATE interface_addresses SET public_address = 'nowhere'",
            "interface_addresses",
            "nowhere",
        ),
        (
            "UPDATE instances SET state = 'lost'",
            "instances",
            id.trim_start_matches("i-"),
        ),
        (
            "UPDATE instances SET state = 'pending', http_hop_limit = 1000",
            "instances",
            "http_hop_limit",
        ),
    ];
    for (sql, table, named) in damages {
        let damage = rig.cloud.store.write(move |txn| {
            Box::pin(async move { txn.execute_unprepared(sql).await.map(drop).map_err(failed) })
        });
        damage.await.unwrap();
        let (all, page) = (InstanceQuery::default(), PageRequest::default());
        let answer = describe(&rig.cloud, &rig.who, &all, page).await;
        let Err(Error::Internal(text)) = answer else {
            panic!("{sql}: {answer:?}")
        };
        assert!(text.contains(table) && text.contains(named), "{sql}: {text}");
        // As it was.
        let whole =
            "UPDATE volume_attachments SET boot_index = 0, state = 'attached', delete_on_termination = 1";
        let mend = rig.cloud.store.write(move |txn| {
            Box::pin(async move {
                txn.execute_unprepared(whole).await.map_err(failed)?;
                let addresses = "UPDATE interface_addresses SET public_address = NULL";
                txn.execute_unprepared(addresses).await.map(drop).map_err(failed)
            })
        });
        mend.await.unwrap();
    }
}

/// Nothing goes by a root volume's number being its instance's: that one is another's.
#[tokio::test]
async fn a_root_volume_of_another_number_is_the_one_that_is_shown_tagged_and_ended() {
    let rig = test_support::cloud().await;
    let made = launch(&rig.cloud, &rig.who, rig.spec()).await.unwrap();
    let (id, other) = (made.instances[0].id(), VolumeId::from_db(99 << 40));
    let (from, to) = (id.to_db(), other.to_db());
    let renumber = rig.cloud.store.write(move |txn| {
        Box::pin(async move {
            for sql in [
                format!("UPDATE volumes SET id = {to} WHERE id = {from}"),
                format!("UPDATE volume_attachments SET volume = {to} WHERE volume = {from}"),
            ] {
                txn.execute_unprepared(&sql).await.map_err(failed)?;
            }
            Ok(())
        })
    });
    renumber.await.unwrap();
    let (all, page) = (InstanceQuery::default(), PageRequest::default());
    let shown = describe(&rig.cloud, &rig.who, &all, page).await.unwrap().rows;
    assert_eq!(shown[0].root_disk().map(|disk| disk.volume), Some(other));
    let tag = [Tag {
        key: "n".into(),
        value: "v".into(),
    }];
    let old = VolumeId::from_db(from);
    let tagged = async |volume| tagging::create(&rig.cloud, &rig.who, &[TagTarget::of(volume)], &tag).await;
    assert!(tagged(other).await.is_ok());
    assert!(matches!(tagged(old).await, Err(Error::NotFound { .. })));
    let modify = async |volume| {
        let change = AttributeChange::Disk(DiskChange {
            device: "/dev/xvda".into(),
            volume: Some(volume),
            delete_on_termination: true,
        });
        modify_attribute(&rig.cloud, &rig.who, id, change).await
    };
    assert!(modify(other).await.is_ok());
    assert!(matches!(modify(old).await, Err(Error::NoDevice { .. })));
    let now = rig.cloud.now();
    let release = rig.cloud.store.write(move |txn| {
        Box::pin(async move {
            let disks = attachments::of_instance(txn, from).await?;
            attachments::release(txn, &disks, None, now).await
        })
    });
    assert_eq!(release.await.unwrap().ended, [to]);
}
