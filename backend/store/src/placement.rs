//! Placement groups' rows and hosts, with the claim that enforces a group's strategy.

use std::collections::{BTreeSet, HashMap};

use cumulet_domain::{
    Error, Result,
    placement::{Policy, Strategy},
};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter,
    sea_query::{Expr, ExprTrait},
};

use super::{batch::load_in, failed, is_taken, rows};
use crate::entity::{
    columns::{Count, Key},
    instance, placement_group, placement_group_host,
};

/// The names of the groups that instances are in, by the groups' numbers.
///
/// # Errors
/// Those of the database.
pub async fn names<'r>(
    conn: &impl ConnectionTrait,
    members: impl IntoIterator<Item = &'r instance::Model>,
) -> Result<HashMap<i64, String>> {
    let ids = members
        .into_iter()
        .filter_map(|row| row.placement_group.map(Key::to_db));
    let ids: Vec<i64> = ids.collect::<BTreeSet<_>>().into_iter().collect();
    let rows = load_in!(conn, placement_group, Id, &ids);
    Ok(rows.into_iter().map(|row| (row.id.to_db(), row.name)).collect())
}

/// How a member of a group is to be placed.
///
/// # Errors
/// `Internal` where the member's row is damaged.
pub fn policy(group: &placement_group::Model, member: &instance::Model) -> Result<Policy> {
    match (group.strategy.0, member.partition_number) {
        (Strategy::Cluster, _) => Ok(Policy::Affinity),
        (Strategy::Spread, _) => Ok(Policy::AntiAffinity),
        (Strategy::Partition, Some(number)) => Ok(Policy::Partition(number.0)),
        (Strategy::Partition, None) => Err(rows::damaged(
            "instances",
            member.id.0,
            "it is in no partition of its group",
        )),
    }
}

/// The row in which a member on a host is counted. That of a cluster is the same on every host.
fn slot(policy: Policy, host: &str) -> &str {
    match policy {
        Policy::Affinity => "",
        _ => host,
    }
}

/// Claims a host for a member of a group, in the transaction that charges the host. The rows' key decides
/// between two who do so at once: never read, then write.
///
/// # Errors
/// `InsufficientCapacity` where the group does not take a member there.
pub async fn join(conn: &impl ConnectionTrait, group: i64, policy: Policy, host: &str) -> Result<()> {
    use placement_group_host::Column as C;
    let taken = || Error::InsufficientCapacity {
        reason: format!("the placement group has no place for another member on host {host}"),
    };
    let partition = match policy {
        Policy::Partition(number) => number,
        _ => 0,
    };
    if policy != Policy::AntiAffinity {
        let more = placement_group_host::Entity::update_many()
            .col_expr(C::Members, Expr::col(C::Members).add(1))
            .filter(C::PlacementGroup.eq(group))
            .filter(C::Slot.eq(slot(policy, host)))
            .filter(C::Host.eq(host))
            .filter(C::PartitionNumber.eq(partition));
        if more.exec(conn).await.map_err(failed)?.rows_affected == 1 {
            return Ok(());
        }
    }
    let row = placement_group_host::ActiveModel {
        placement_group: Set(Key::from_db(group)),
        slot: Set(slot(policy, host).to_owned()),
        host: Set(host.to_owned()),
        partition_number: Set(Count(partition)),
        members: Set(Count(1)),
    };
    let insert = placement_group_host::Entity::insert(row).exec_without_returning(conn);
    match insert.await {
        Ok(_) => Ok(()),
        Err(error) if is_taken(&error) => Err(taken()),
        Err(error) => Err(failed(error)),
    }
}

/// A member of a group leaves its host, in the transaction that gives the rest back.
///
/// # Errors
/// Those of the database.
pub async fn leave(conn: &impl ConnectionTrait, row: &instance::Model) -> Result<()> {
    use placement_group_host::Column as C;
    let (Some(group), Some(host)) = (row.placement_group, &row.host) else {
        return Ok(());
    };
    let here = || C::PlacementGroup.eq(group).and(C::Host.eq(host.as_str()));
    placement_group_host::Entity::update_many()
        .col_expr(C::Members, Expr::col(C::Members).sub(1))
        .filter(here())
        .exec(conn)
        .await
        .map_err(failed)?;
    placement_group_host::Entity::delete_many()
        .filter(here())
        .filter(C::Members.lte(0))
        .exec(conn)
        .await
        .map_err(failed)
        .map(drop)
}
