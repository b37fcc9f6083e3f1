//! Two of the conductor's transactions at once, or one and a call's: see `store::lock`.

use cumulet_backend::{
    Cloud,
    test_support::{Rig, cloud, overlap},
};
use cumulet_compute::instances::{self, MetadataChange};
use cumulet_core::{
    Wake,
    retention::Retention,
    tags::{self, TagTarget},
};
use cumulet_domain::{
    Result,
    id::{HostId, InstanceId, OperationId, VpcId},
    message::{Heartbeat, HostResources},
    tag::Tag,
};
use cumulet_journal::{self as journal, End, How};
use cumulet_operations::{
    Settings, Terminate,
    steps::{COMMAND, PLACE, place::subscribe},
};
use cumulet_store::{
    Store,
    entity::{columns::Key, host_network, instance, metadata_push, operation, tag, vpc},
    failed,
    instances::bump_metadata,
    interfaces,
};
use sea_orm::{ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter, QueryOrder, sea_query::Expr};

use crate::{Conductor, Driver, heartbeat, sync};

const HOST: &str = "host-1";

/// A conductor that does nothing by itself.
pub(crate) fn conductor(rig: &Rig, store: Store) -> Conductor {
    let settings = Settings {
        region: "us-east-1".into(),
        owner: "test".into(),
        cpu_allocation_ratio: 1.0,
        ram_allocation_ratio: 1.0,
        disk_allocation_ratio: 1.0,
        retention: Retention::default(),
        hosts_are_here: true,
    };
    let (bus, clock) = (rig.cloud.bus.clone(), rig.cloud.clock.clone());
    let sealer = rig.cloud.sealer.clone();
    Conductor::new(Driver::new(store, sealer, bus, clock, Wake::new(), settings))
}

/// An instance that can read its tags.
pub(crate) async fn launched(rig: &Rig) -> InstanceId {
    let mut spec = rig.spec();
    spec.metadata = MetadataChange {
        tags: Some(true),
        ..MetadataChange::default()
    };
    let made = instances::launch(&rig.cloud, &rig.who, spec).await.unwrap();
    made.instances[0].id()
}

pub(crate) async fn row(rig: &Rig, id: InstanceId) -> instance::Model {
    let row = instance::Entity::find_by_id(Key(id));
    row.one(rig.cloud.store.read()).await.unwrap().unwrap()
}

async fn tag(cloud: &Cloud, rig: &Rig, target: TagTarget, key: &str) -> Result<()> {
    let new = Tag {
        key: key.into(),
        value: "v".into(),
    };
    tags::create(cloud, &rig.who, &[target], &[new]).await
}

async fn pushes(rig: &Rig) -> usize {
    let all = metadata_push::Entity::find().all(rig.cloud.store.read());
    all.await.unwrap().len()
}

/// Puts an instance onto the host, as a claim does.
async fn put(txn: &DatabaseTransaction, row: &instance::Model) -> Result<()> {
    use cumulet_store::entity::host::{Column as H, Entity as Host};
    let charge = Host::update_many()
        .col_expr(H::VcpusUsed, Expr::value(row.vcpus))
        .filter(H::Id.eq(HOST));
    charge.exec(txn).await.map_err(failed)?;
    let settle = instance::Entity::update_many()
        .col_expr(instance::Column::Host, Expr::value(HOST))
        .col_expr(instance::Column::Claimed, Expr::value(1_i64))
        .filter(instance::Column::Id.eq(row.id));
    settle.exec(txn).await.map_err(failed)?;
    let vpcs = interfaces::vpcs(txn, row.id.to_db()).await?;
    subscribe(txn, &vpcs, HOST).await.map(drop)
}

pub(crate) async fn place(store: &Store, row: instance::Model) -> Result<()> {
    let write = store.write(move |txn| Box::pin(async move { put(txn, &row).await }));
    write.await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changes_while_a_snapshot_is_confirmed_is_pushed_again() {
    let rig = cloud().await;
    let (id, conductor) = (launched(&rig).await, conductor(&rig, rig.cloud.store.clone()));
    let host = || HostId(HOST.into());
    place(&rig.cloud.store, row(&rig, id).await).await.unwrap();
    let target = TagTarget::of(id);
    tag(&rig.cloud, &rig, target, "a").await.unwrap();
    for key in ["b", "c"] {
        let revision = row(&rig, id).await.metadata_revision.0;
        let (tagged, confirmed) = rig
            .overlap(
                async |cloud| tag(cloud, &rig, target, key).await,
                async |_| sync::metadata_applied(&conductor, host(), id, revision).await,
            )
            .await;
        assert!(tagged.is_ok() && confirmed.is_ok(), "{tagged:?} {confirmed:?}");
        assert_eq!(pushes(&rig).await, 1);
    }
    let newest = row(&rig, id).await.metadata_revision.0;
    sync::metadata_applied(&conductor, host(), id, newest)
        .await
        .unwrap();
    assert_eq!(pushes(&rig).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_is_started_and_changed_keeps_its_push() {
    let rig = cloud().await;
    let (id, conductor) = (launched(&rig).await, conductor(&rig, rig.cloud.store.clone()));
    rig.settle(id, cumulet_domain::instance::State::Stopped).await;
    tag(&rig.cloud, &rig, TagTarget::of(id), "a").await.unwrap();
    let was = row(&rig, id).await;
    let start = async |store: Store| {
        let row = was.clone();
        let write = store.write(move |txn| {
            Box::pin(async move {
                put(txn, &row).await?;
                bump_metadata(txn, &[row.id.to_db()]).await
            })
        });
        write.await
    };
    let settle =
        async || sync::settle_absent(&conductor, &[was.id.to_db()], std::slice::from_ref(&was)).await;
    let (started, settled) = overlap(&rig.cloud.store, start, settle).await;
    assert!(started.is_ok() && settled.is_ok(), "{started:?} {settled:?}");
    assert_eq!(pushes(&rig).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_gets_an_instance_is_not_forgotten_by_its_vpc() {
    let rig = cloud().await;
    let first = row(&rig, launched(&rig).await).await;
    let (id, host) = (first.vpc.0, HostId(HOST.into()));
    place(&rig.cloud.store, first.clone()).await.unwrap();
    let gone = rig.cloud.store.write(move |txn| {
        Box::pin(async move {
            let leave = instance::Entity::update_many()
                .col_expr(instance::Column::Host, Expr::value(Option::<String>::None))
                .filter(instance::Column::Id.eq(first.id));
            leave.exec(txn).await.map(drop).map_err(failed)
        })
    });
    gone.await.unwrap();
    let generation = vpc(&rig, id).await.policy_generation.0;
    let second = row(&rig, launched(&rig).await).await;
    // The launch has raised the generation; the host has confirmed all that came after it, too.
    let applied = generation + 1;
    let (placed, confirmed) = overlap(
        &rig.cloud.store,
        async |store| place(&store, second.clone()).await,
        async || {
            let conductor = conductor(&rig, rig.cloud.store.clone());
            sync::network_applied(&conductor, host.clone(), id, applied).await
        },
    )
    .await;
    assert!(placed.is_ok() && confirmed.is_ok(), "{placed:?} {confirmed:?}");
    let third = row(&rig, launched(&rig).await).await;
    let left = async || {
        let all = host_network::Entity::find().all(rig.cloud.store.read()).await;
        all.unwrap().len()
    };
    assert_eq!(left().await, 1);

    // The other way round: forgotten first, and there again with the instance.
    let rig_of = &rig;
    let empty = rig.cloud.store.write(move |txn| {
        Box::pin(async move {
            let leave = instance::Entity::update_many()
                .col_expr(instance::Column::Host, Expr::value(Option::<String>::None))
                .filter(instance::Column::Vpc.eq(id.to_db()));
            leave.exec(txn).await.map(drop).map_err(failed)
        })
    });
    empty.await.unwrap();
    let newest = vpc(&rig, id).await.policy_generation.0;
    let (confirmed, placed) = overlap(
        &rig.cloud.store,
        async |store| {
            let conductor = conductor(rig_of, store);
            sync::network_applied(&conductor, host.clone(), id, newest).await
        },
        async || place(&rig.cloud.store, third.clone()).await,
    )
    .await;
    assert!(placed.is_ok() && confirmed.is_ok(), "{placed:?} {confirmed:?}");
    assert_eq!(left().await, 1);
}

async fn vpc(rig: &Rig, id: VpcId) -> vpc::Model {
    let row = vpc::Entity::find_by_id(Key(id));
    row.one(rig.cloud.store.read()).await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_whose_address_changes_tells_the_vpc_that_comes_to_it_at_that_time() {
    let rig = cloud().await;
    let row = row(&rig, launched(&rig).await).await;
    let id = row.vpc.0;
    let before = vpc(&rig, id).await.policy_generation;
    let heartbeat = async || {
        let resources = HostResources {
            vcpus: 16,
            memory_mib: 1 << 16,
            disk_gib: 100,
        };
        let conductor = conductor(&rig, rig.cloud.store.clone());
        let heartbeat = Heartbeat {
            resources,
            hypervisor: "fake".into(),
            availability_zone: cumulet_backend::test_support::ZONE.into(),
            tunnel_address: Some([10, 0, 0, 1].into()),
            ..Heartbeat::default()
        };
        heartbeat::apply(&conductor, HostId(HOST.into()), heartbeat).await
    };
    let place = async |store: Store| place(&store, row.clone()).await;
    let (placed, told) = overlap(&rig.cloud.store, place, heartbeat).await;
    assert!(placed.is_ok() && told.is_ok(), "{placed:?} {told:?}");
    assert_eq!(vpc(&rig, id).await.policy_generation.0, before.0 + 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interface_that_is_gone_has_no_tags() {
    let rig = cloud().await;
    let id = launched(&rig).await;
    instances::terminate(&rig.cloud, &rig.who, &[id]).await.unwrap();
    let conn = rig.cloud.store.read();
    let newest = operation::Entity::find().order_by_desc(operation::Column::Generation);
    let operation = newest.one(conn).await.unwrap().unwrap();
    let view = instances::get(&rig.cloud, &rig.who, id).await;
    let target = TagTarget::of(view.unwrap().interfaces[0].id());
    let now = rig.cloud.now();
    let (tagged, ended) = rig
        .overlap(
            async |cloud| tag(cloud, &rig, target, "a").await,
            async |cloud| {
                let end = End {
                    how: How::Done,
                    now,
                    next: OperationId::new(1),
                };
                let write = cloud.store.write(move |txn| {
                    Box::pin(async move { journal::end_in::<Terminate>(txn, &operation, &end).await })
                });
                write.await
            },
        )
        .await;
    assert!(tagged.is_ok() && ended.is_ok(), "{tagged:?} {ended:?}");
    assert_eq!(tag::Entity::find().all(conn).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_another_engine_has_run_since_the_look_is_not_leased() {
    let rig = cloud().await;
    launched(&rig).await;
    let (store, now) = (&rig.cloud.store, rig.cloud.now());
    let lease = async |store: &Store, who: &str| journal::lease(store, who, &[PLACE.name], now, 9).await;
    let operation = operation::Entity::find()
        .one(store.read())
        .await
        .unwrap()
        .unwrap();
    // It is placed: the command is the next step, now.
    let other = async |store: Store| journal::go_on(&store, &operation, &COMMAND, 0, now).await;
    let (gone_on, leased) = overlap(store, other, async || lease(store, "b").await).await;
    assert!(gone_on.unwrap());
    assert_eq!(leased.unwrap(), []);
}
