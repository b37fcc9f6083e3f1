//! The checks under a policy of rows: the permission is there, and some rows are refused.
//!
//! No operation knows of it. One that is about a row that is refused is refused, and has touched nothing; a listing
//! shows it all the same, as on AWS, where a principal may list a kind of resource or may not (ARCHITECTURE.md,
//! Resources).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard},
};

use cumulet_backend::{
    authority::{Authoriser, Object, Permission, Policy},
    store::resource::Resource,
};
use cumulet_domain::{ResourceKind, id::Digits};
use cumulet_wire::operation::Access;

use super::{asking::with, checks::picture, *};
use crate::rpc::example::example;

/// Requests that find their rows in other ways than the examples.
const MORE: &[Example] = &[
    example("CreateSecurityGroup", "GroupName=new&GroupDescription=d"),
    example(
        "CreateTags",
        "ResourceId.1={volume}&ResourceId.2={group}&ResourceId.3={rule}&Tag.1.Key=b&Tag.1.Value=1",
    ),
    example(
        "CreateVolume",
        "AvailabilityZone=us-east-1a&SnapshotId={snapshot}",
    ),
    example("DeleteKeyPair", "KeyPairId={key}"),
    example("DeleteSecurityGroup", "GroupName=web"),
    example("DetachVolume", "VolumeId={attached}"),
    example(
        "ModifyInstanceAttribute",
        "InstanceId={instance}&BlockDeviceMapping.1.DeviceName=/dev/sdf&\
         BlockDeviceMapping.1.Ebs.VolumeId={attached}&BlockDeviceMapping.1.Ebs.DeleteOnTermination=true",
    ),
    example(
        "ModifyInstanceAttribute",
        "InstanceId={instance}&GroupId.1={group}",
    ),
    example(
        "RevokeSecurityGroupIngress",
        "GroupId={group}&IpPermissions.1.IpProtocol=-1&IpPermissions.1.IpRanges.1.CidrIp=10.0.0.0/8",
    ),
    example(
        "RunInstances",
        "ImageId={image}&MinCount=1&MaxCount=1&InstanceType=t3.nano&Placement.GroupName=p",
    ),
];

/// Parameters that name a row of the scene by another name than its id.
const NAMES: &[(&str, &str)] = &[
    ("GroupName=p", "placement"),
    ("GroupName=web", "group"),
    ("KeyName=k", "key"),
    ("Placement.GroupName=p", "placement"),
];

/// What operations make, change or delete without showing it, and why.
const UNSHOWN: &[(&str, ResourceKind, &str)] = &[
    (
        "CopyVolumes",
        ResourceKind::Snapshot,
        "what a copy is made of is a snapshot that nobody ever sees",
    ),
    (
        "CreateSecurityGroup",
        ResourceKind::SecurityGroupRule,
        "that its members reach everything comes with every group",
    ),
    (
        "DeleteSecurityGroup",
        ResourceKind::SecurityGroupRule,
        "rules go with their group, which is shown",
    ),
];

/// The key of a tag that is on what is refused.
const LOCKED: &str = "locked";

/// A row of a resource.
type Row = (ResourceKind, i64);

/// What is refused, whoever asks and for what.
#[derive(Clone, Copy, Debug, Default)]
enum Refused {
    #[default]
    Nothing,
    Row(Row),
    /// Whatever has the tag.
    Locked,
    Everything,
}

/// A policy that is told what to refuse, and knows what it was shown.
#[derive(Clone, Debug, Default)]
struct Watch(Arc<Mutex<Watched>>);

#[derive(Debug, Default)]
struct Watched {
    refused: Refused,
    shown: BTreeSet<Row>,
}

impl Watch {
    fn now(&self) -> MutexGuard<'_, Watched> {
        self.0.lock().unwrap()
    }

    fn refuse(&self, what: Refused) {
        self.now().refused = what;
    }

    /// What it was shown since it was asked for that.
    fn shown(&self) -> BTreeSet<Row> {
        std::mem::take(&mut self.now().shown)
    }
}

impl Authoriser for Watch {
    fn policy(&self, _: &Principal, _: Permission) -> cumulet_domain::Result<Option<Arc<dyn Policy>>> {
        Ok(Some(Arc::new(self.clone())))
    }
}

impl Policy for Watch {
    fn wants_tags(&self) -> bool {
        true
    }

    fn allows(&self, _: Permission, object: &Object<'_>) -> bool {
        let row = (object.kind, object.digits.to_db());
        let mut watched = self.now();
        watched.shown.insert(row);
        match watched.refused {
            Refused::Nothing => true,
            Refused::Row(refused) => refused != row,
            Refused::Locked => object.tags.iter().all(|tag| tag.key != LOCKED),
            Refused::Everything => false,
        }
    }
}

/// A scene whose first account's principals have such a policy.
async fn watched() -> (Scene, Watch) {
    let mut scene = Scene::new().await;
    let watch = Watch::default();
    let cloud = scene.world.cloud.clone();
    scene.world.cloud = cloud.with_authoriser(Arc::new(watch.clone()));
    (scene, watch)
}

/// All examples and the requests beside them.
fn requests() -> impl Iterator<Item = (&'static Rpc, &'static Example)> {
    let more = MORE
        .iter()
        .map(|request| -> (&'static Rpc, &'static Example) { (&EC2, request) });
    examples().chain(more)
}

/// What a request names of the scene.
fn named(scene: &Scene, request: &Example) -> Vec<&'static str> {
    let pairs: Vec<&str> = request.parameters.split('&').collect();
    let is_named = |name: &&'static str| {
        let by_name = NAMES.iter().any(|(pair, of)| of == name && pairs.contains(pair));
        by_name || request.parameters.contains(&format!("{{{name}}}"))
    };
    scene.own.keys().copied().filter(is_named).collect()
}

/// The row of an id.
fn row_of(id: &str) -> Row {
    let (_, digits) = id.rsplit_once('-').unwrap();
    let digits: Digits = digits.parse().unwrap();
    (ResourceKind::of(id).unwrap(), digits.to_db())
}

/// Every row of every resource, whoever's it is.
async fn rows(world: &World) -> BTreeMap<Row, String> {
    use cumulet_backend::entity::{
        image, instance, interface, key_pair, placement_group, security_group, security_group_rule, snapshot,
        subnet, volume, vpc,
    };
    let conn = world.cloud.store.read();
    let mut found = BTreeMap::new();
    macro_rules! add {
        ($($entity:ident),*) => {$(
            for row in $entity::Entity::find().all(conn).await.unwrap() {
                let key = (<$entity::Entity as Resource>::KIND, row.id.to_db());
                found.insert(key, format!("{row:?}"));
            }
        )*};
    }
    add!(
        image,
        instance,
        interface,
        key_pair,
        placement_group,
        security_group,
        security_group_rule,
        snapshot,
        subnet,
        volume
    );
    for row in vpc::Entity::find().all(conn).await.unwrap() {
        // What its hosts go by is counted in it, whatever is done in it.
        let row = vpc::Model {
            policy_generation: Amount(0),
            ..row
        };
        found.insert((vpc::Entity::KIND, row.id.to_db()), format!("{row:?}"));
    }
    found
}

/// A request is refused as one that the principal has not the permission for.
fn check_refused(name: &str, permission: &str, answer: Result<String, Answer>) {
    let refusal = answer.expect_err(name);
    assert_eq!(
        (&*refusal.code, refusal.status),
        ("UnauthorizedOperation", 403),
        "{name}: {refusal:?}"
    );
    assert!(refusal.message.contains(permission), "{name}: {refusal:?}");
}

/// Asks for what names something that is refused.
async fn check_named(
    (scene, watch): (&Scene, &Watch),
    (service, request): (&'static Rpc, &'static Example),
    what: Refused,
) {
    let world = &scene.world;
    let (info, parameters) = (info(service, request), scene.parameters(request));
    let name = format!("{} {parameters} {what:?}", name_of(service, request));
    watch.refuse(what);
    let answer = ask(world, &world.who, service, request.operation, &parameters).await;
    watch.refuse(Refused::Nothing);
    if info.filters.is_none() {
        return check_refused(&name, info.permission, answer);
    }
    let shown = ask(world, &world.who, service, request.operation, &parameters).await;
    assert!(shown.is_ok(), "{name}: {shown:?}");
    assert_eq!(answer, shown, "{name}");
}

/// By its id or by its tag: whatever names it says no, and listings, which are not filtered, show it.
#[tokio::test]
async fn a_row_that_is_refused_is_refused_to_all_that_name_it() {
    let (scene, watch) = watched().await;
    let world = &scene.world;
    let before = (picture(world).await, rows(world).await);
    let (mut tried, mut kinds) = (0, BTreeSet::new());
    for (service, request) in requests() {
        for name in named(&scene, request) {
            let row = row_of(&scene.own[name]);
            check_named((&scene, &watch), (service, request), Refused::Row(row)).await;
            kinds.insert(row.0);
            tried += 1;
        }
    }
    assert!(tried > 70, "{tried}");
    assert_eq!(kinds.len(), 11, "of each kind there is one: {kinds:?}");
    assert_eq!((picture(world).await, rows(world).await), before);

    let ids = (1..).zip(scene.own.values());
    let ids: String = ids.map(|(n, id)| format!("&ResourceId.{n}={id}")).collect();
    world
        .ask(&format!(
            "Action=CreateTags&Tag.1.Key={LOCKED}&Tag.1.Value=yes{ids}"
        ))
        .await;
    let before = (picture(world).await, rows(world).await);
    for (service, request) in requests() {
        if !named(&scene, request).is_empty() {
            check_named((&scene, &watch), (service, request), Refused::Locked).await;
        }
    }
    assert_eq!((picture(world).await, rows(world).await), before);
}

/// Whatever a call makes, changes or deletes it has shown, named or not; and where one of the rows that it shows is
/// refused, all stay as they are.
#[tokio::test]
async fn what_a_call_touches_it_has_shown() {
    let (mut refused, mut unshown) = (0, BTreeSet::new());
    for (service, request) in requests() {
        let (info, name) = (info(service, request), name_of(service, request));
        if info.access == Access::Read {
            continue;
        }
        let (scene, watch) = watched().await;
        let world = &scene.world;
        let parameters = scene.parameters(request);
        let ask =
            async |parameters: &str| ask(world, &world.who, service, request.operation, parameters).await;
        let before = rows(world).await;
        let dry = with(service, &parameters, "DryRun", "true");
        let rehearsed = ask(&dry).await.expect_err(&name);
        assert_eq!(
            rehearsed.code, "DryRunOperation",
            "{name} {parameters}: {rehearsed:?}"
        );
        let shown = watch.shown().into_iter();
        for row in shown.filter(|row| before.contains_key(row)) {
            watch.refuse(Refused::Row(row));
            let told = format!("{name} {parameters} {row:?}");
            check_refused(&told, info.permission, ask(&parameters).await);
            assert_eq!(rows(world).await, before, "{told}");
            refused += 1;
        }
        watch.refuse(Refused::Nothing);
        drop(watch.shown());
        let done = ask(&parameters).await;
        assert!(done.is_ok(), "{name} {parameters}: {done:?}");
        let (shown, after) = (watch.shown(), rows(world).await);
        let all: BTreeSet<&Row> = before.keys().chain(after.keys()).collect();
        let touched = all.into_iter().filter(|row| before.get(*row) != after.get(*row));
        let hidden = touched.filter(|row| !shown.contains(*row));
        unshown.extend(hidden.map(|row| (request.operation, row.0)));
    }
    assert!(refused > 50, "{refused}");
    let expected: BTreeSet<_> = UNSHOWN
        .iter()
        .map(|(operation, kind, _)| (*operation, *kind))
        .collect();
    assert_eq!(unshown, expected);
}

/// What lists a kind, and what is about no row of an account, goes by the permission alone. (A public parameter is the
/// operator's: the image that it names is not what a call for it is about.)
#[tokio::test]
async fn listings_and_what_is_about_no_row_answer_as_ever() {
    let (scene, watch) = watched().await;
    let world = &scene.world;
    let mut tried = 0;
    for (service, example) in examples() {
        let (info, name) = (info(service, example), name_of(service, example));
        let is_of_rows = info.filters.is_none() && !named(&scene, example).is_empty();
        if info.access == Access::Write || is_of_rows {
            continue;
        }
        let parameters = scene.parameters(example);
        let ask = async || ask(world, &world.who, service, example.operation, &parameters).await;
        let free = ask().await;
        assert!(free.is_ok(), "{name}: {free:?}");
        watch.refuse(Refused::Everything);
        assert_eq!(ask().await, free, "{name}");
        watch.refuse(Refused::Nothing);
        tried += 1;
    }
    assert!(tried > 25, "{tried}");
    let free = picture(world).await;
    watch.refuse(Refused::Everything);
    assert_eq!(picture(world).await, free);
}
