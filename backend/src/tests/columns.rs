//! Typed columns: a value that stands for nothing is an error that names its table, row and column, whichever it is.

use cumulet_certs::KeyType;
use cumulet_compute::{
    instances::launch,
    key_pairs,
    placement_groups::{self, NewGroup},
};
use cumulet_domain::{
    Error, Result,
    volume::{VolumeChange, VolumeType},
};
use cumulet_identity::accounts;
use cumulet_operator::services;
use cumulet_storage::{aliases, snapshots, volumes};
use cumulet_store::{
    entity::{
        access_key, account,
        columns::{Flag, Named},
        host, host_network, image, image_alias, image_mapping, instance, instance_type, interface,
        interface_address, key_pair, operation, placement_group, placement_group_host, security_group,
        service, snapshot, subnet, user, volume, volume_attachment, volume_modification, vpc,
    },
    failed, rows,
};
use sea_orm::{
    ActiveValue::Set, ConnectionTrait as _, EntityName as _, EntityTrait, IdenStatic as _,
    IntoActiveModel as _, Iterable as _,
};

use crate::test_support::{Rig, cloud};

/// Reads a table after a column of it was damaged, in a transaction that is undone.
async fn damaged<E: EntityTrait>(rig: &Rig, column: &'static str, value: &'static str) -> Error {
    let write = rig
        .cloud
        .store
        .write(move |txn| -> futures::future::BoxFuture<'_, Result<()>> {
            Box::pin(async move {
                let table = E::default().table_name().to_owned();
                // Of one row: some of these columns are unique.
                let key = E::PrimaryKey::iter().next().unwrap();
                let (key, first) = (key.as_str(), "SELECT first FROM");
                let which = format!("{key} = ({first} (SELECT MIN({key}) AS first FROM {table}) AS one)");
                let sql = format!("UPDATE {table} SET {column} = {value} WHERE {which}");
                let changed = txn.execute_unprepared(&sql).await.map_err(failed)?;
                assert!(changed.rows_affected() > 0, "{table} has no row");
                match rows::all(E::find(), txn).await {
                    Ok(rows) => Err(Error::Unavailable(format!("{} rows were read", rows.len()))),
                    Err(error) => Err(error),
                }
            })
        });
    write.await.unwrap_err()
}

/// A cloud in which every table has a row.
async fn lived_in() -> Rig {
    let rig = cloud().await;
    let group = NewGroup {
        name: "racks".into(),
        strategy: "partition".into(),
        ..NewGroup::default()
    };
    placement_groups::create(&rig.cloud, &rig.who, group)
        .await
        .unwrap();
    key_pairs::create(&rig.cloud, &rig.who, "k", KeyType::Ed25519, Vec::new())
        .await
        .unwrap();
    let launched = launch(&rig.cloud, &rig.who, rig.spec()).await.unwrap();
    let larger = VolumeChange {
        size_gib: Some(100),
        ..VolumeChange::default()
    };
    let root = launched.instances[0].disks[0].volume;
    volumes::modify(&rig.cloud, &rig.who, root, larger).await.unwrap();
    let of_root = snapshots::NewSnapshot {
        volume: root,
        description: String::new(),
        tags: Vec::new(),
    };
    snapshots::create(&rig.cloud, &rig.who, of_root).await.unwrap();
    let parts = rig.cloud.parts();
    aliases::set(&parts, "/aws/service/tiny", rig.image)
        .await
        .unwrap();
    let (store, now) = (&rig.cloud.store, rig.cloud.now());
    services::heartbeat(store, "gateway@host-1", "gateway", "host-1", "0.1.0", now)
        .await
        .unwrap();
    let role = cumulet_domain::account::Role::ReadOnly;
    accounts::create_user(&parts, rig.who.account, "somebody", role)
        .await
        .unwrap();
    accounts::create_access_key(&parts, rig.who.account, "somebody")
        .await
        .unwrap();
    let write = rig.cloud.store.write(|txn| {
        Box::pin(async move {
            let vpc = rows::one(vpc::Entity::find(), txn).await?.unwrap();
            let group = rows::one(placement_group::Entity::find(), txn).await?.unwrap();
            let network = host_network::ActiveModel {
                host: Set("host-1".into()),
                vpc: Set(vpc.id),
                applied_generation: Set(vpc.policy_generation),
            };
            let network = host_network::Entity::insert(network).exec_without_returning(txn);
            network.await.map_err(failed)?;
            let image = rows::one(image::Entity::find(), txn).await?.unwrap();
            let disk = image_mapping::ActiveModel {
                image: Set(image.id),
                device: Set(image.root_device),
                snapshot: Set(None),
                size_gib: Set(None),
                volume_type: Set(Named(VolumeType::Gp3)),
                iops: Set(None),
                throughput: Set(None),
                delete_on_termination: Set(Flag(true)),
                encrypted: Set(None),
            };
            let disk = image_mapping::Entity::insert(disk).exec_without_returning(txn);
            disk.await.map_err(failed)?;
            let member = placement_group_host::Model {
                placement_group: group.id,
                slot: "host-1".into(),
                host: "host-1".into(),
                partition_number: Default::default(),
                members: Default::default(),
            };
            let member = placement_group_host::Entity::insert(member.into_active_model());
            member.exec_without_returning(txn).await.map(drop).map_err(failed)
        })
    });
    write.await.unwrap();
    rig
}

macro_rules! table {
    ($rig:ident, $($entity:ident: $($column:ident = $value:literal),+;)+) => {
        $($({
            let error = damaged::<$entity::Entity>(&$rig, stringify!($column), $value).await;
            let (table, text) = ($entity::Entity::default().table_name().to_owned(), error.to_string());
            let names = text.contains(&format!("of {table} is damaged")) && text.contains(stringify!($column));
            assert!(matches!(error, Error::Internal(_)) && names, "{table}: {text}");
        })+)+
    };
}

#[tokio::test]
async fn what_stands_for_nothing_is_named_in_every_table() {
    let rig = lived_in().await;
    table! { rig,
        access_key: enabled = "7";
        account: instances_max = "-1", vcpus_max = "-1", encrypts = "2";
        user: role = "'emperor'", enabled = "-1";
        host: enabled = "7", vcpus = "-1", memory_mib = "-1", disk_gib = "-1", vcpus_max = "-1",
            memory_mib_max = "-1", disk_gib_max = "-1", tunnel_address = "-1", draining = "2",
            confirmed_tunnel = "4294967296";
        host_network: applied_generation = "-1";
        image: architecture = "'pdp11'", boot_mode = "'floppy'", state = "'lost'", public = "7", format = "'floppy'", size_bytes = "-1", virtual_bytes = "-1",
            phase = "'lost'", protection = "'perhaps'", encrypted = "2";
        image_mapping: size_gib = "-1", volume_type = "'tape'", iops = "-1", throughput = "-1",
            delete_on_termination = "2", encrypted = "2";
        image_alias: version = "-1";
        key_pair: kind = "'dsa'";
        instance: launch_index = "-1", vcpus = "-1", memory_mib = "-1", disk_gib = "-1", state = "'lost'",
            intent = "'away'", generation = "-1", metadata_revision = "-1", claimed = "2",
            shutdown_behavior = "'wait'", disable_api_termination = "2", disable_api_stop = "2",
            http_enabled = "2", http_tokens_required = "2", http_hop_limit = "256", http_tags = "2",
            partition_number = "-1";
        instance_type: vcpus = "-1", memory_mib = "-1", offered = "2";
        interface: device_index = "-1", mac = "281474976710656", private_ip = "4294967296", public_ip = "-1";
        interface_address: address = "'nowhere'", address_index = "-1", public_address = "'nowhere'";
        operation: status = "'asleep'", generation = "-1", attempts = "-1";
        placement_group: strategy = "'heap'", partition_count = "-1", spread_level = "'moon'";
        placement_group_host: partition_number = "-1", members = "-1";
        security_group: is_default = "2";
        subnet: cidr = "'10.0.0.0/99'", is_default = "2", map_public_ip = "2";
        snapshot: size_gib = "-1", state = "'lost'", encrypted = "2", public = "2", bytes = "-1",
            progress = "256";
        volume: size_gib = "-1", volume_type = "'tape'", state = "'lost'", encrypted = "2", iops = "-1",
            throughput = "-1", generation = "-1", auto_enable_io = "2", format = "'floppy'", store = "'cloud'";
        volume_attachment: boot_index = "-1", state = "'glued'", delete_on_termination = "2",
            generation = "-1";
        volume_modification: state = "'lost'", original_size_gib = "-1", target_size_gib = "-1",
            original_type = "'tape'", target_type = "'tape'", original_iops = "-1", target_iops = "-1",
            original_throughput = "-1", target_throughput = "-1", progress = "-1", generation = "-1";
        vpc: cidr = "'everything'", is_default = "2", policy_generation = "-1", vni = "-1";
    }
}

macro_rules! read_all_the_same {
    ($rig:ident, $($entity:ident: $($column:ident),+;)+) => {
        $($({
            let error = damaged::<$entity::Entity>(&$rig, stringify!($column), "'tomorrows'").await;
            assert!(matches!(error, Error::Unavailable(_)), "{}: {error}", stringify!($entity.$column));
        })+)+
    };
}

/// What a newer program, or a host of one, may have other words for than this one has: a row that has them is read.
#[tokio::test]
async fn words_of_newer_programs_are_no_damage() {
    let rig = lived_in().await;
    read_all_the_same! { rig,
        host: hypervisor, architecture;
        operation: kind, step;
        service: role;
    }
    // The operator is shown them.
    let (store, now) = (&rig.cloud.store, rig.cloud.now());
    services::heartbeat(store, "tomorrows@host-1", "tomorrows", "host-1", "0.2.0", now)
        .await
        .unwrap();
    let shown = services::list(&rig.cloud.parts()).await.unwrap();
    let roles: Vec<&str> = shown.iter().map(|view| view.role.as_str()).collect();
    assert_eq!(roles, ["compute", "gateway", "tomorrows"]);
}
