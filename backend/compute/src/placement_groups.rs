//! Placement groups: how instances are spread over hosts, or kept together. The group is made at once; its
//! strategy is enforced where its members are placed (`store::placement::join`).

use cumulet_core::{RequestContext, quota, tag_room::room as tag_room};
use cumulet_domain::{
    Error, ResourceKind, Result,
    account::Principal,
    error::Limit,
    id::{PlacementGroupId, marker},
    names::Unknown,
    placement::{SpreadLevel, Strategy},
    tag::Tag,
};
use cumulet_store::{
    authority::Permission,
    entity::{
        columns::{Count, Key, Named, Owner},
        instance, placement_group,
    },
    resource::{self, Lock},
    tags,
};
use sea_orm::{
    ColumnTrait, Condition, EntityTrait, ExprTrait, QueryFilter, QuerySelect, QueryTrait, sea_query::Expr,
};

use crate::boxed;

/// Partitions of a group at the most (EC2 user guide, "Placement groups").
const MAX_PARTITIONS: u32 = 7;
/// Those of a group that says nothing.
const PARTITIONS: u32 = 2;

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
        self.row.id.0
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
pub async fn create(cx: &RequestContext, who: &Principal, mut new: NewGroup) -> Result<GroupView> {
    let grant = cx.authorise(who, Permission::CREATE_PLACEMENT_GROUP)?;
    check_name(&new.name)?;
    let strategy = match new.strategy.as_str() {
        "" => Strategy::Cluster,
        named => named
            .parse()
            .map_err(|unknown: Unknown| Error::invalid("Strategy", named, unknown.to_string()))?,
    };
    let partition_count = partitions(strategy, new.partition_count)?;
    tags::validate(&new.tags)?;
    let room = tag_room(cx, who.account, new.tags.len());
    new.tags.sort();
    let row = placement_group::Model {
        id: Key(cx.rng.id::<marker::PlacementGroup>()),
        account: Owner(who.account),
        name: new.name,
        strategy: Named(strategy),
        partition_count,
        spread_level: (strategy == Strategy::Spread).then_some(Named(SpreadLevel::Host)),
        created_at: cx.now().0,
    };
    let view = GroupView { row, tags: new.tags };
    cx.made(&view.id());
    let (kept, max) = (view.clone(), cx.config.quotas.placement_groups);
    let write = cx.store.write(move |txn| {
        Box::pin(async move {
            let all =
                placement_group::Entity::find().filter(resource::sight::<placement_group::Entity>(&grant));
            quota::room_for_one(txn, grant.account(), all, Limit::PlacementGroups, max).await?;
            resource::insert::<placement_group::Entity>(txn, &grant, kept.row, &kept.tags).await?;
            room.check(txn).await
        })
    });
    write.await?;
    Ok(view)
}

fn partitions(strategy: Strategy, wanted: Option<i64>) -> Result<Option<Count>> {
    match (strategy, wanted) {
        (Strategy::Partition, None) => Ok(Some(Count(PARTITIONS))),
        (Strategy::Partition, Some(count)) => {
            let fits = u32::try_from(count)
                .ok()
                .filter(|count| (1..=MAX_PARTITIONS).contains(count));
            if let Some(count) = fits {
                return Ok(Some(Count(count)));
            }
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
    cx: &RequestContext,
    who: &Principal,
    ids: &[PlacementGroupId],
    names: &[String],
) -> Result<Vec<GroupView>> {
    let grant = cx.authorise(who, Permission::DESCRIBE_PLACEMENT_GROUPS)?;
    let conn = cx.store.read();
    let rows = resource::list_named::<placement_group::Entity>(conn, &grant, ids, names).await?;
    resource::with_tags::<placement_group::Entity, _>(conn, rows, |row, tags| GroupView { row, tags }).await
}

/// Deletes a group that no instance is in any more.
///
/// # Errors
/// `NotFound`; `InUse`.
#[boxed]
pub async fn delete(cx: &RequestContext, who: &Principal, name: &str) -> Result<()> {
    let grant = cx.authorise(who, Permission::DELETE_PLACEMENT_GROUP)?;
    let (name, call) = (name.to_owned(), cx.clone());
    let write = cx.store.write(move |txn| {
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
            let (id, unused) = (row.id.0, Condition::all().add(Expr::exists(members).not()));
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
