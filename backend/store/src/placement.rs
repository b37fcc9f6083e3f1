//! Placement groups' rows and hosts, with the claim that enforces a group's strategy.

use std::collections::{BTreeSet, HashMap};

use cumulet_domain::{
    Error, Result,
    id::{InstanceId, PlacementGroupId},
    placement::Policy,
};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter,
    sea_query::{Expr, ExprTrait},
};

use super::{batch::load_in, failed, is_taken, rows};
use crate::entity::{instance, placement_group, placement_group_host};

/// All members on one host.
pub const CLUSTER: &str = "cluster";
/// Each member on a host of its own.
pub const SPREAD: &str = "spread";
/// No host in two partitions.
pub const PARTITION: &str = "partition";

/// The names of the groups that instances are in, by the groups' numbers.
///
/// # Errors
/// Those of the database.
pub async fn names<'r>(
    conn: &impl ConnectionTrait,
    members: impl IntoIterator<Item = &'r instance::Model>,
) -> Result<HashMap<i64, String>> {
    let ids = members.into_iter().filter_map(|row| row.placement_group);
    let ids: Vec<i64> = ids.collect::<BTreeSet<_>>().into_iter().collect();
    let rows = load_in!(conn, placement_group, Id, &ids);
    Ok(rows.into_iter().map(|row| (row.id, row.name)).collect())
}

/// How a member of a group is to be placed.
///
/// # Errors
/// `Internal` where the group's row, or the member's, is damaged.
pub fn policy(group: &placement_group::Model, member: &instance::Model) -> Result<Policy> {
    match (group.strategy.as_str(), member.partition_number) {
        (CLUSTER, _) => Ok(Policy::Affinity),
        (SPREAD, _) => Ok(Policy::AntiAffinity),
        (PARTITION, Some(number)) => Ok(Policy::Partition(number)),
        (PARTITION, None) => {
            let id = InstanceId::from_db(member.id);
            Err(rows::damaged(
                "instances",
                id,
                "it is in no partition of its group",
            ))
        }
        (other, _) => {
            let id = PlacementGroupId::from_db(group.id);
            let why = format!("its strategy is {other:?}");
            Err(rows::damaged("placement_groups", id, why))
        }
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
        placement_group: Set(group),
        slot: Set(slot(policy, host).to_owned()),
        host: Set(host.to_owned()),
        partition_number: Set(partition),
        members: Set(1),
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
