//! The networks of instances: an instance is in the VPCs that its interfaces are in. (What its own row says of a VPC and
//! a subnet is a fact of its launch, for programs of before.) Interfaces hang on their instance's lock; so whoever has
//! that finds the same ones until its transaction ends.

use cumulet_domain::{
    Result,
    id::{VpcId, marker::Vpc},
};
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, JoinType, QueryFilter, QueryOrder, QuerySelect, RelationDef,
};

use super::{column, first};
use crate::entity::{columns::Key, instance, interface};

/// The VPCs that an instance has interfaces in, each once, in the order of their numbers; none where it has ended.
///
/// # Errors
/// Those of the database.
pub async fn vpcs(conn: &impl ConnectionTrait, instance: i64) -> Result<Vec<Key<Vpc>>> {
    let theirs = interface::Entity::find()
        .select_only()
        .column(interface::Column::Vpc)
        .distinct()
        .filter(interface::Column::Instance.eq(instance))
        .order_by_asc(interface::Column::Vpc);
    column(theirs, conn).await
}

/// Whether a host has an instance with an interface in the VPC. One that is stopped is there, too: its next start brings
/// the interface back.
///
/// # Errors
/// Those of the database.
pub async fn is_on(conn: &impl ConnectionTrait, host: &str, vpc: VpcId) -> Result<bool> {
    let instances: RelationDef = interface::Entity::belongs_to(instance::Entity)
        .from(interface::Column::Instance)
        .to(instance::Column::Id)
        .into();
    let one = interface::Entity::find()
        .select_only()
        .column(interface::Column::Id)
        .join(JoinType::InnerJoin, instances)
        .filter(interface::Column::Vpc.eq(vpc.to_db()))
        .filter(instance::Column::Host.eq(host))
        .limit(1);
    Ok(first::<_, i64>(one, conn).await?.is_some())
}
