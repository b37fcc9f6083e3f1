//! Placement groups: how instances are spread over hosts, or kept together. The group is made at once; its
//! strategy is enforced where its members are placed (`store::placement::join`).

use cumulet_domain::{
    Error, ResourceKind, Result,
    account::Principal,
    error::Limit,
    id::{PlacementGroupId, marker},
    tag::Tag,
};
use sea_orm::{
    ColumnTrait, Condition, EntityTrait, ExprTrait, QueryFilter, QuerySelect, QueryTrait, sea_query::Expr,
};

use super::{Cloud, accounts::quota, tags::tag_room};
use crate::{
    authority::Permission,
    boxed,
    entity::{instance, placement_group},
    store::{
        placement::{CLUSTER, PARTITION, SPREAD},
        resource::{self, Lock},
        tags,
    },
};

/// Partitions of a group at the most (EC2 user guide, "Placement groups").
const MAX_PARTITIONS: i64 = 7;
/// Those of a group that says nothing.
const PARTITIONS: i64 = 2;

/// A placement group with its tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupView {
    /// The group.
    pub row: placement_group::Model,
    /// Its tags, sorted by key.
    pub tags: Vec<Tag>,
}

impl GroupView {
    /// Its id.
    pub fn id(&self) -> PlacementGroupId {
        PlacementGroupId::from_db(self.row.id)
    }
}

/// A group to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct NewGroup {
    pub name: String,
    /// `cluster`, which is what nothing means, `spread` or `partition`.
    pub strategy: String,
    pub partition_count: Option<i64>,
    pub tags: Vec<Tag>,
}

fn check_name(name: &str) -> Result<()> {
    let printable = name.bytes().all(|b| (0x20..0x7f).contains(&b));
    if name.is_empty() || name.len() > 255 || !printable || name.trim() != name {
        let reason = "a placement group's name has 1 to 255 ASCII characters and no space around it";
        return Err(Error::invalid("GroupName", name, reason));
    }
    Ok(())
}

/// Makes a placement group.
///
/// # Errors
/// `Duplicate` when the name is taken; `InvalidParameter`, `InvalidCombination`.
#[boxed]
pub async fn create(cloud: &Cloud, who: &Principal, mut new: NewGroup) -> Result<GroupView> {
    let grant = cloud.authorise(who, Permission::CREATE_PLACEMENT_GROUP)?;
    check_name(&new.name)?;
    let strategy = match new.strategy.as_str() {
        "" => CLUSTER,
        known @ (CLUSTER | SPREAD | PARTITION) => known,
        other => {
            let reason = "expecting cluster, spread or partition";
            return Err(Error::invalid("Strategy", other, reason));
        }
    };
    let partition_count = partitions(strategy, new.partition_count)?;
    tags::validate(&new.tags)?;
    let room = tag_room(cloud, who.account, new.tags.len());
    new.tags.sort();
    let row = placement_group::Model {
        id: cloud.rng.id::<marker::PlacementGroup>().to_db(),
        account: who.account.to_db(),
        name: new.name,
        strategy: strategy.into(),
        partition_count,
        spread_level: (strategy == SPREAD).then(|| "host".to_owned()),
        created_at: cloud.now().0,
    };
    let view = GroupView { row, tags: new.tags };
    cloud.made(&view.id());
    let kept = view.clone();
    let write = cloud.store.write(move |txn| {
        Box::pin(async move {
            let all =
                placement_group::Entity::find().filter(resource::sight::<placement_group::Entity>(&grant));
            let max = quota::MAX_PLACEMENT_GROUPS;
            quota::room_for_one(txn, grant.account(), all, Limit::PlacementGroups, max).await?;
            resource::insert::<placement_group::Entity>(txn, &grant, kept.row, &kept.tags).await?;
            room.check(txn).await
        })
    });
    write.await?;
    Ok(view)
}

fn partitions(strategy: &str, wanted: Option<i64>) -> Result<Option<i64>> {
    match (strategy, wanted) {
        (PARTITION, None) => Ok(Some(PARTITIONS)),
        (PARTITION, Some(count)) if (1..=MAX_PARTITIONS).contains(&count) => Ok(wanted),
        (PARTITION, Some(count)) => {
            let reason = format!("a group has 1 to {MAX_PARTITIONS} partitions");
            Err(Error::invalid("PartitionCount", &count.to_string(), reason))
        }
        (_, None) => Ok(None),
        (_, Some(_)) => Err(Error::InvalidCombination {
            reason: "only a group of the strategy partition has a PartitionCount".into(),
        }),
    }
}

/// An account's groups by name: all, or those with these ids and names, which must all be there.
///
/// # Errors
/// `NotFound`, naming all that are not there.
#[boxed]
pub async fn describe(
    cloud: &Cloud,
    who: &Principal,
    ids: &[PlacementGroupId],
    names: &[String],
) -> Result<Vec<GroupView>> {
    let grant = cloud.authorise(who, Permission::DESCRIBE_PLACEMENT_GROUPS)?;
    let conn = cloud.store.read();
    let rows = resource::list_named::<placement_group::Entity>(conn, &grant, ids, names).await?;
    resource::with_tags::<placement_group::Entity, _>(conn, rows, |row, tags| GroupView { row, tags }).await
}

/// Deletes a group that no instance is in any more.
///
/// # Errors
/// `NotFound`; `InUse`.
#[boxed]
pub async fn delete(cloud: &Cloud, who: &Principal, name: &str) -> Result<()> {
    let grant = cloud.authorise(who, Permission::DELETE_PLACEMENT_GROUP)?;
    let (name, call) = (name.to_owned(), cloud.clone());
    let write = cloud.store.write(move |txn| {
        Box::pin(async move {
            // Locked, so that nobody comes to be in it unseen.
            let row =
                resource::find_named::<placement_group::Entity>(txn, &grant, &name, Lock::Exclusive).await?;
            let members = instance::Entity::find()
                .select_only()
                .column(instance::Column::Id)
                .filter(instance::Column::PlacementGroup.eq(row.id))
                .filter(instance::Column::TerminatedAt.is_null())
                .into_query();
            let (id, unused) = (
                PlacementGroupId::from_db(row.id),
                Condition::all().add(Expr::exists(members).not()),
            );
            if !resource::delete::<placement_group::Entity>(txn, id, unused).await? {
                return Err(Error::InUse {
                    kind: ResourceKind::PlacementGroup,
                    id: name,
                    by: "instances".into(),
                });
            }
            call.made(&id);
            Ok(())
        })
    });
    write.await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{api::instances, test_support};

    fn named(name: &str, strategy: &str) -> NewGroup {
        NewGroup {
            name: name.into(),
            strategy: strategy.into(),
            ..NewGroup::default()
        }
    }

    #[tokio::test]
    async fn groups_are_made_seen_by_their_account_and_deleted_when_nobody_is_in_them() {
        let rig = test_support::cloud().await;
        let (cloud, who) = (&rig.cloud, &rig.who);
        let made = create(cloud, who, named("web", "partition")).await.unwrap();
        assert_eq!(made.row.partition_count, Some(2));
        let twice = create(cloud, who, named("web", "spread")).await.unwrap_err();
        assert!(matches!(twice, Error::Duplicate { .. }), "{twice}");
        assert_eq!(describe(cloud, who, &[made.id()], &[]).await.unwrap(), [made]);
        assert!(describe(cloud, &rig.stranger, &[], &[]).await.unwrap().is_empty());
        assert!(delete(cloud, &rig.stranger, "web").await.is_err());

        let mut spec = rig.spec();
        (spec.max, spec.placement_group) = (3, Some("web".into()));
        let launched = instances::launch(cloud, who, spec.clone()).await.unwrap();
        let partitions = launched.instances.iter().map(|view| view.row.partition_number);
        assert_eq!(partitions.collect::<Vec<_>>(), [Some(1), Some(2), Some(1)]);
        spec.partition_number = Some(3);
        let refused = instances::launch(cloud, who, spec).await.unwrap_err();
        assert!(refused.to_string().contains("2 partitions"), "{refused}");

        let used = delete(cloud, who, "web").await.unwrap_err();
        assert!(matches!(used, Error::InUse { .. }), "{used}");
        for view in &launched.instances {
            rig.settle(view.id(), cumulet_domain::instance::State::Terminated)
                .await;
        }
        delete(cloud, who, "web").await.unwrap();
        assert!(delete(cloud, who, "web").await.is_err());
    }

    #[tokio::test]
    async fn an_account_has_so_many_groups_and_another_its_own() {
        let rig = test_support::cloud().await;
        for n in 0..quota::MAX_PLACEMENT_GROUPS {
            create(&rig.cloud, &rig.who, named(&format!("g{n}"), ""))
                .await
                .unwrap();
        }
        let refused = create(&rig.cloud, &rig.who, named("more", "")).await.unwrap_err();
        let limit = Limit::PlacementGroups;
        let max = quota::MAX_PLACEMENT_GROUPS;
        assert_eq!(refused, Error::LimitExceeded { limit, max });
        create(&rig.cloud, &rig.stranger, named("more", ""))
            .await
            .unwrap();
        delete(&rig.cloud, &rig.who, "g0").await.unwrap();
        create(&rig.cloud, &rig.who, named("more", "")).await.unwrap();
    }

    #[tokio::test]
    async fn what_is_no_group_is_refused() {
        let rig = test_support::cloud().await;
        for (name, strategy, count) in [
            ("", "cluster", None),
            (" web", "cluster", None),
            ("web", "scatter", None),
            ("web", "cluster", Some(2)),
            ("web", "partition", Some(8)),
        ] {
            let new = NewGroup {
                partition_count: count,
                ..named(name, strategy)
            };
            assert!(
                create(&rig.cloud, &rig.who, new).await.is_err(),
                "{name} {strategy}"
            );
        }
    }
}
