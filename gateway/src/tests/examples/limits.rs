//! Every limit that the manifest names of an operation, come to by that operation: its example is refused with the
//! limit's code and sentence where there is no more room, and so is what asks for too much at once. And the other way
//! round: what leaves more rows names a limit.

use cumulet_backend::{
    api::{
        quotas,
        security_groups::{MAX_GROUPS, MAX_RULES},
    },
    entity::{account, security_group, snapshot},
};
use cumulet_domain::{error::Limit, volume::MAX_ATTACHED};
use sea_orm::PaginatorTrait as _;

use super::{asking::with, *};

/// A limit of the domain is a row here, or nothing of this compiles: its code, and its sentence where there may be so
/// many.
fn words(limit: Limit, max: u64) -> (&'static str, String) {
    let plain = format!("The limit of {max} is reached ({limit:?})");
    let shared = |what: &str| {
        let quota = format!("You have reached your quota of {max} for the number of accounts");
        format!("{quota} that {what} is shared with.")
    };
    match limit {
        Limit::Instances => ("InstanceLimitExceeded", plain),
        Limit::Vcpus => ("VcpuLimitExceeded", plain),
        Limit::SecurityGroups => ("SecurityGroupLimitExceeded", plain),
        Limit::RulesPerSecurityGroup => ("RulesPerSecurityGroupLimitExceeded", plain),
        Limit::SecurityGroupsPerInterface => ("SecurityGroupsPerInterfaceLimitExceeded", plain),
        Limit::Tags => ("TagLimitExceeded", plain),
        Limit::KeyPairs => ("KeyPairLimitExceeded", plain),
        Limit::PlacementGroups => ("PlacementGroupLimitExceeded", plain),
        Limit::Images => ("ResourceLimitExceeded", plain),
        Limit::PublicAddresses => (
            "AddressLimitExceeded",
            "The maximum number of addresses has been reached.".into(),
        ),
        Limit::Volumes | Limit::VolumeStorage => ("VolumeLimitExceeded", plain),
        Limit::VolumesPerInstance => ("AttachmentLimitExceeded", plain),
        Limit::Snapshots => ("SnapshotLimitExceeded", plain),
        Limit::PendingSnapshots => (
            "PendingSnapshotLimitExceeded",
            format!("Too many snapshots in progress. The limit is {max}."),
        ),
        Limit::PendingSnapshotsPerVolume => (
            "ConcurrentSnapshotLimitExceeded",
            "Maximum allowed in-progress snapshots for a single volume exceeded.".into(),
        ),
        Limit::PendingSnapshotCopies => (
            "ResourceLimitExceeded",
            format!("Too many snapshot copies in progress. The limit is {max} for this destination region."),
        ),
        Limit::AccountsPerImage => ("ResourceLimitExceeded", shared("an image")),
        Limit::AccountsPerSnapshot => ("ResourceLimitExceeded", shared("a snapshot")),
    }
}

/// What there is in the scene is all that there may be, or nothing may be there; names of what requests need for it.
async fn use_up(scene: &mut Scene, limit: Limit) {
    use account::Column as C;
    let world = &mut scene.world;
    match limit {
        Limit::Instances => have_all(world, C::InstancesMax, C::InstancesUsed).await,
        Limit::Vcpus => have_all(world, C::VcpusMax, C::VcpusUsed).await,
        // None would be half of the pool.
        Limit::PublicAddresses => configure(world, |config| config.public_addresses = 1),
        Limit::KeyPairs => none(world, |quotas| &mut quotas.key_pairs),
        Limit::PlacementGroups => none(world, |quotas| &mut quotas.placement_groups),
        Limit::Tags => none(world, |quotas| &mut quotas.tags),
        Limit::Images => none(world, |quotas| &mut quotas.images),
        Limit::Volumes => none(world, |quotas| &mut quotas.volumes),
        Limit::VolumeStorage => none(world, |quotas| &mut quotas.volume_gib),
        Limit::Snapshots => none(world, |quotas| &mut quotas.snapshots),
        Limit::PendingSnapshots => {
            have_data(world).await;
            none(world, |quotas| &mut quotas.pending_snapshots);
        }
        Limit::PendingSnapshotCopies => {
            have_data(world).await;
            none(world, |quotas| &mut quotas.pending_snapshot_copies);
        }
        Limit::AccountsPerImage => none(world, |quotas| &mut quotas.accounts_per_image),
        Limit::AccountsPerSnapshot => none(world, |quotas| &mut quotas.accounts_per_snapshot),
        Limit::SecurityGroups => have_every_group(world).await,
        Limit::SecurityGroupsPerInterface => make_groups(scene).await,
        Limit::VolumesPerInstance => launch_full(scene).await,
        // A request asks for too many of them, or asks too often.
        Limit::RulesPerSecurityGroup | Limit::PendingSnapshotsPerVolume => {}
    }
}

/// The cloud is configured otherwise.
fn configure(world: &mut World, change: impl FnOnce(&mut CloudConfig)) {
    let mut config = (*world.cloud.config).clone();
    change(&mut config);
    world.cloud.compute.cx.config = Arc::new(config);
}

/// There may be nothing of it.
fn none(world: &mut World, of: fn(&mut Quotas) -> &mut u64) {
    configure(world, |config| *of(&mut config.quotas) = 0);
}

/// The account has as many as it may have.
async fn have_all(world: &World, max: account::Column, used: account::Column) {
    let id = world.who.account.to_db();
    let write = world.cloud.store.write(move |txn| {
        Box::pin(async move {
            let update = account::Entity::update_many()
                .col_expr(max, Expr::col(used))
                .filter(account::Column::Id.eq(id));
            update.exec(txn).await.map(drop).map_err(failed)
        })
    });
    write.await.unwrap();
}

/// The snapshots are of disks that were written to: an encrypted copy is work for a host.
async fn have_data(world: &World) {
    let write = world.cloud.store.write(move |txn| {
        Box::pin(async move {
            let update = snapshot::Entity::update_many()
                .col_expr(snapshot::Column::Manifest, Expr::value("a".repeat(64)));
            update.exec(txn).await.map(drop).map_err(failed)
        })
    });
    write.await.unwrap();
}

/// The account's VPC has all the groups that it may have.
async fn have_every_group(world: &World) {
    let own = security_group::Entity::find()
        .filter(security_group::Column::Account.eq(world.who.account.to_db()))
        .all(world.cloud.store.read())
        .await
        .unwrap();
    let count = i64::try_from(MAX_GROUPS).unwrap() - i64::try_from(own.len()).unwrap();
    let rows: Vec<_> = (0..count)
        .map(|n| {
            security_group::ActiveModel::from(security_group::Model {
                id: Key::from_db(n),
                name: format!("g{n}"),
                is_default: Flag(false),
                ..own[0].clone()
            })
        })
        .collect();
    let write = world.cloud.store.write(move |txn| {
        Box::pin(async move {
            let insert = security_group::Entity::insert_many(rows).exec_without_returning(txn);
            insert.await.map(drop).map_err(failed)
        })
    });
    write.await.unwrap();
}

/// More groups than an interface can have.
async fn make_groups(scene: &mut Scene) {
    let (mut launch, mut change) = (Vec::new(), Vec::new());
    for n in 1..=6 {
        let body = format!("Action=CreateSecurityGroup&GroupName=more-{n}&GroupDescription=d");
        let id = one(&scene.world.ask(&body).await, "groupId");
        launch.push(format!("SecurityGroupId.{}={id}", n + 1));
        change.push(format!("GroupId.{n}={id}"));
    }
    scene.own.insert("launch-groups", launch.join("&"));
    scene.own.insert("groups", change.join("&"));
}

/// Mappings of disks beside the root, from this one to that one.
fn disks(from: usize, to: usize) -> String {
    let disks = (from..=to).zip('a'..='z').map(|(n, letter)| {
        let mapping = format!("&BlockDeviceMapping.{n}");
        format!("{mapping}.DeviceName=/dev/xvdb{letter}{mapping}.Ebs.VolumeSize=1")
    });
    disks.collect()
}

/// An instance that has all the disks that it can have.
async fn launch_full(scene: &mut Scene) {
    let world = &scene.world;
    let last = "&BlockDeviceMapping.1.DeviceName=/dev/sdf&BlockDeviceMapping.1.Ebs.VolumeSize=1";
    let disks = disks(2, MAX_ATTACHED - 1);
    let id = world.run(1, &format!("{last}{disks}")).await.remove(0);
    world.settle(&id, "stopped").await;
    scene.own.insert("full", id);
}

/// The resource type of what an operation makes, as specifications of tags name it.
fn tagged(operation: &str) -> &'static str {
    match operation {
        "RunInstances" => "instance",
        "CreateKeyPair" | "ImportKeyPair" => "key-pair",
        "CreatePlacementGroup" => "placement-group",
        "CreateSecurityGroup" => "security-group",
        "AuthorizeSecurityGroupEgress" | "AuthorizeSecurityGroupIngress" => "security-group-rule",
        "CreateVolume" | "CopyVolumes" => "volume",
        "CreateSnapshot" | "CreateSnapshots" | "CopySnapshot" => "snapshot",
        "CopyImage" | "CreateImage" | "RegisterImage" => "image",
        other => panic!("what of a {other} is tagged?"),
    }
}

/// By what an operation comes to a limit: its example, with more where that asks for nothing of it, or something else.
fn asks(scene: &Scene, example: &Example, limit: Limit) -> String {
    let more = |more: &str| scene.filled(&format!("{}&{more}", example.parameters));
    match (limit, example.operation) {
        (Limit::Tags, "CreateTags") => scene.parameters(example),
        (Limit::Tags, operation) => {
            let kind = tagged(operation);
            more(&format!(
                "TagSpecification.1.ResourceType={kind}&TagSpecification.1.Tag.1.Key=k"
            ))
        }
        (Limit::Vcpus, "ModifyInstanceAttribute") => {
            scene.filled("InstanceId={stopped}&InstanceType.Value=t3.xlarge")
        }
        (Limit::Volumes | Limit::VolumeStorage, "ModifyInstanceAttribute") => scene.filled(
            "InstanceId={stopped}&BlockDeviceMapping.1.DeviceName=/dev/xvda&\
             BlockDeviceMapping.1.Ebs.DeleteOnTermination=false",
        ),
        (Limit::SecurityGroupsPerInterface, "ModifyInstanceAttribute") => {
            scene.filled("InstanceId={stopped}&{groups}")
        }
        (Limit::SecurityGroupsPerInterface, _) => more("{launch-groups}"),
        (Limit::PublicAddresses, _) => scene.filled(
            "ImageId={image}&MinCount=2&MaxCount=2&InstanceType=t3.nano&NetworkInterface.1.DeviceIndex=0&\
             NetworkInterface.1.AssociatePublicIpAddress=true",
        ),
        (Limit::RulesPerSecurityGroup, _) => {
            let range = |n: u64| format!("IpPermissions.1.IpRanges.{}.CidrIp=11.0.{n}.0/24", n + 1);
            more(&(1..=MAX_RULES).map(range).collect::<Vec<_>>().join("&"))
        }
        // The example has two.
        (Limit::VolumesPerInstance, "RunInstances") => more(disks(3, MAX_ATTACHED).trim_start_matches('&')),
        (Limit::VolumesPerInstance, _) => scene.filled("VolumeId={volume}&InstanceId={full}&Device=/dev/sdz"),
        (Limit::PendingSnapshots | Limit::PendingSnapshotCopies, "CopyImage" | "CopySnapshot") => {
            more("Encrypted=true")
        }
        // Copies of that one are made besides.
        (Limit::PendingSnapshotsPerVolume, "CreateSnapshots") => {
            more("InstanceSpecification.ExcludeDataVolumeId.1={attached}")
        }
        _ => scene.parameters(example),
    }
}

#[tokio::test]
async fn every_limit_of_the_manifest_is_come_to() {
    for limit in Limit::ALL {
        let mut scene = Scene::new().await;
        use_up(&mut scene, limit).await;
        let world = &scene.world;
        // As it is told is as it is enforced.
        let told = quotas::describe(&world.cloud, &world.who).await.unwrap();
        let told = told.into_iter().find(|quota| quota.limit == limit);
        let max = told.unwrap_or_else(|| panic!("{limit:?} is no quota")).max;
        let (code, sentence) = words(limit, max);
        let before = match limit {
            Limit::PendingSnapshotsPerVolume => max,
            _ => 0,
        };
        let (name_of_limit, mut tried) = (format!("{limit:?}"), 0);
        for (service, example) in examples() {
            let limits = info(service, example).limits;
            if !limits.iter().any(|known| *known == name_of_limit) {
                continue;
            }
            tried += 1;
            let name = format!("{} and {limit:?}", name_of(service, example));
            let once = asks(&scene, example, limit);
            let parameters = |n: u64| match example.operation {
                "CreateImage" => with(service, &once, "Name", &format!("image-{n}")),
                _ => once.clone(),
            };
            for n in 0..before {
                let done = ask(world, &world.who, service, example.operation, &parameters(n)).await;
                done.unwrap_or_else(|refusal| panic!("{name}, {n}: {refusal:?}"));
            }
            let beyond = parameters(before);
            let refusal = ask(world, &world.who, service, example.operation, &beyond).await;
            let refusal = refusal.expect_err(&name);
            assert_eq!(
                (&*refusal.code, refusal.message.as_str()),
                (code, sentence.as_str()),
                "{name}"
            );
        }
        assert!(tried > 0, "no operation has {limit:?} in the manifest");
    }
}

macro_rules! counted {
    ($conn:expr, $($table:ident)*) => {
        vec![$((
            stringify!($table),
            cumulet_backend::entity::$table::Entity::find().count($conn).await.unwrap(),
        )),*]
    };
}

/// How many rows each table has of what is there until it is deleted. (Operations and what goes with them are gone when
/// they have ended, and tokens and the audit log when they have had their time.)
pub(super) async fn rows(world: &World) -> Vec<(&'static str, u64)> {
    let conn = world.cloud.store.read();
    counted!(
        conn,
        access_key account aggregate aggregate_host aggregate_metadata host image image_alias image_mapping
        image_permission instance instance_type instance_type_spec interface interface_address interface_group
        key_pair placement_group placement_group_host reservation security_group security_group_rule setting snapshot
        snapshot_permission subnet tag user volume volume_attachment volume_modification vpc
    )
}

/// What names no limit leaves no more rows than there were.
pub(super) fn check_rows(name: &str, before: &[(&str, u64)], after: &[(&str, u64)]) {
    for ((table, before), (_, after)) in before.iter().zip(after) {
        assert!(
            after <= before,
            "{name} makes rows of {table}: the manifest says so in `makes`, and names a limit"
        );
    }
}
