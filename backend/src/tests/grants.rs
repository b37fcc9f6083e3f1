//! Tests of declarations, listings, and of a policy that goes by tags, over a real database. (That every operation
//! shows its rows to the policy is tested over the examples of all of them: `gateway/src/tests/examples/policies.rs`.)

use std::sync::Arc;

use cumulet_compute::{
    instances::{self, LaunchTags},
    placement_groups,
};
use cumulet_core::{
    ClientToken, PageRequest,
    tags::{TagTarget, create},
};
use cumulet_domain::{
    Error, ResourceKind, Result,
    account::Principal,
    id::{InstanceId, SecurityGroupId},
    instance::State,
    tag::Tag,
};
use cumulet_network::security_groups::{self, GroupQuery};
use cumulet_storage::images;
use cumulet_store::{
    authority::{Authoriser, Object, Permission, Policy},
    entity::{self, security_group},
    resource::{list, not_found},
};
use sea_orm::{ColumnTrait as _, Condition};

use crate::test_support::{Rig, cloud, pages};

/// Who has any permission on whatever has not the tag `locked`.
#[derive(Debug)]
struct Unlocked {
    reads_tags: bool,
}

impl Authoriser for Unlocked {
    fn policy(&self, _: &Principal, _: Permission) -> Result<Option<Arc<dyn Policy>>> {
        let reads_tags = self.reads_tags;
        Ok(Some(Arc::new(Unlocked { reads_tags })))
    }
}

impl Policy for Unlocked {
    fn wants_tags(&self) -> bool {
        self.reads_tags
    }

    fn allows(&self, _: Permission, object: &Object<'_>) -> bool {
        object.tags.iter().all(|tag| tag.key != "locked")
    }
}

fn locked() -> Vec<Tag> {
    vec![Tag {
        key: "locked".into(),
        value: "yes".into(),
    }]
}

fn group(name: &str, tags: Vec<Tag>) -> placement_groups::NewGroup {
    placement_groups::NewGroup {
        name: name.into(),
        tags,
        ..Default::default()
    }
}

#[test]
fn kinds_are_declared_or_no_resources_of_an_account() {
    for kind in ResourceKind::ALL {
        let declared = entity::declared(kind).is_some();
        let expected = !matches!(
            kind,
            ResourceKind::Reservation
                | ResourceKind::InterfaceAttachment
                | ResourceKind::RouteTable
                | ResourceKind::InternetGateway
                | ResourceKind::NetworkAcl
                | ResourceKind::DhcpOptions
                | ResourceKind::Address
                | ResourceKind::Operation
                | ResourceKind::Aggregate
        );
        assert_eq!(declared, expected, "{kind:?}");
        let times = entity::RESOURCES.iter().filter(|one| one.kind == kind);
        assert_eq!(times.count(), usize::from(expected), "{kind:?}");
    }
}

#[tokio::test]
async fn a_policy_by_tags_refuses_one_row_of_two_and_no_operation_knows() {
    let rig = cloud().await;
    let who = &rig.who;
    let bound = rig
        .cloud
        .clone()
        .with_authoriser(Arc::new(Unlocked { reads_tags: true }));
    for (name, tags) in [("open", Vec::new()), ("closed", locked())] {
        placement_groups::create(&rig.cloud, who, group(name, tags))
            .await
            .unwrap();
    }
    let refused = placement_groups::delete(&bound, who, "closed").await;
    assert_eq!(refused, Err(Permission::DELETE_PLACEMENT_GROUP.refused()));
    placement_groups::delete(&bound, who, "open").await.unwrap();
    // A listing leaves nothing out.
    let left = placement_groups::describe(&bound, who, &[], &[]).await.unwrap();
    assert_eq!(left[0].row.name, "closed");
    // What is going to be made is looked at as it would be.
    let refused = placement_groups::create(&bound, who, group("new", locked())).await;
    assert_eq!(refused, Err(Permission::CREATE_PLACEMENT_GROUP.refused()));
    let target = [TagTarget::of(left[0].id())];
    let refused = create(&bound, who, &target, &locked()).await;
    assert_eq!(refused, Err(Permission::CREATE_TAGS.refused()));

    // One that does not go by tags is shown none.
    let blind = rig
        .cloud
        .clone()
        .with_authoriser(Arc::new(Unlocked { reads_tags: false }));
    placement_groups::delete(&blind, who, "closed").await.unwrap();
}

#[tokio::test]
async fn of_several_rows_one_that_is_refused_keeps_all_as_they_are() {
    let rig = cloud().await;
    let who = &rig.who;
    let mut spec = rig.spec();
    spec.max = 2;
    let made = instances::launch(&rig.cloud, who, spec).await.unwrap().instances;
    let ids: Vec<InstanceId> = made.iter().map(|view| view.id()).collect();
    create(&rig.cloud, who, &[TagTarget::of(ids[0])], &locked())
        .await
        .unwrap();
    let bound = rig
        .cloud
        .clone()
        .with_authoriser(Arc::new(Unlocked { reads_tags: true }));
    let refused = instances::terminate(&bound, who, &ids).await;
    assert_eq!(refused, Err(Permission::TERMINATE_INSTANCES.refused()));
    let shown = instances::get(&bound, who, ids[1]).await.unwrap();
    assert_eq!(shown.state(), State::Pending);
    let refused = instances::get(&bound, who, ids[0]).await;
    assert_eq!(refused, Err(Permission::DESCRIBE_INSTANCE_ATTRIBUTE.refused()));
    instances::terminate(&bound, who, &ids[1..]).await.unwrap();
}

#[tokio::test]
async fn what_a_launch_makes_is_shown_as_it_is_going_to_be_and_what_it_has_made_as_it_is() {
    let rig = cloud().await;
    let who = &rig.who;
    let bound = rig
        .cloud
        .clone()
        .with_authoriser(Arc::new(Unlocked { reads_tags: true }));
    let each: [fn(&mut LaunchTags); 3] = [
        |tags| tags.instance = locked(),
        |tags| tags.network_interface = locked(),
        |tags| tags.volume = locked(),
    ];
    let refused = || Permission::RUN_INSTANCES.refused();
    for tag in each {
        let mut spec = rig.spec();
        tag(&mut spec.tags);
        let answer = instances::launch(&bound, who, spec).await;
        assert_eq!(answer.unwrap_err(), refused());
    }
    let mut spec = rig.spec();
    spec.client_token = Some(ClientToken {
        token: "t".into(),
        request_hash: String::new(),
    });
    let made = instances::launch(&bound, who, spec.clone()).await.unwrap();
    let again = instances::launch(&bound, who, spec.clone()).await.unwrap();
    assert_eq!(again.id, made.id);
    let target = [TagTarget::of(made.instances[0].id())];
    create(&rig.cloud, who, &target, &locked()).await.unwrap();
    let answer = instances::launch(&bound, who, spec).await;
    assert_eq!(answer.unwrap_err(), refused());
}

#[tokio::test]
async fn what_another_account_shows_everybody_is_not_for_changing() {
    let rig = cloud().await;
    let new = crate::test_support::image(rig.stranger.account, "theirs", true);
    let theirs = images::add(&rig.cloud.parts(), new).await.unwrap().id();
    let refused = images::deregister(&rig.cloud, &rig.who, theirs, false).await;
    assert_eq!(refused, Err(Permission::DEREGISTER_IMAGE.refused()));
    images::deregister(&rig.cloud, &rig.stranger, theirs, false)
        .await
        .unwrap();
}

async fn new_groups(rig: &Rig, count: usize) -> Vec<SecurityGroupId> {
    let mut ids = Vec::new();
    for n in 0..count {
        let new = security_groups::NewGroup {
            name: format!("g{n}"),
            description: "d".into(),
            ..Default::default()
        };
        ids.push(
            security_groups::create(&rig.cloud, &rig.who, new)
                .await
                .unwrap()
                .id(),
        );
    }
    ids
}

#[tokio::test]
async fn pages_of_named_ids_meet_and_every_id_that_is_not_there_is_named() {
    let rig = cloud().await;
    let mut ids = new_groups(&rig, 5).await;
    let grant = rig
        .cloud
        .authorise(&rig.who, Permission::DESCRIBE_SECURITY_GROUPS)
        .unwrap();
    let conn = rig.cloud.store.read();
    ids.push(ids[0]);
    let list = async |ids: &[SecurityGroupId], also: Condition, page: PageRequest| {
        list::<security_group::Entity>(conn, &grant, ids, also, &page).await
    };
    let found = pages(2, async |page| list(&ids, Condition::all(), page).await).await;
    let seen: Vec<i64> = found.iter().flatten().map(|row| row.id.to_db()).collect();
    let mut expected: Vec<i64> = ids.iter().map(|id| id.to_db()).collect();
    expected.sort_unstable();
    expected.dedup();
    assert_eq!(seen, expected);

    // One that is there and not what else is wanted is no error.
    let also = Condition::all().add(security_group::Column::Name.eq("g1"));
    let found = list(&ids, also, PageRequest::default()).await.unwrap();
    assert_eq!(found.rows.len(), 1);

    let gone = [SecurityGroupId::new(7), SecurityGroupId::new(9)];
    let asked = [gone[0], ids[0], gone[1], gone[0]];
    let missing = list(&asked, Condition::all(), PageRequest::default()).await;
    let named = format!("{}, {}", gone[0], gone[1]);
    assert_eq!(missing.unwrap_err(), not_found::<security_group::Entity>(named));
    let query = GroupQuery {
        ids: ids.clone(),
        ..Default::default()
    };
    let theirs = security_groups::describe(&rig.cloud, &rig.stranger, &query, PageRequest::default());
    assert!(matches!(theirs.await, Err(Error::NotFound { .. })));
}
