//! VPCs and subnets.

use std::collections::HashMap;

use cumulet_domain::{
    Error, ResourceKind, Result,
    account::Principal,
    id::{SubnetId, VpcId},
    network::Cidr,
    tag::Tag,
};
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, sea_query::ExprTrait,
};

use super::{Cloud, Page, PageRequest};
use crate::{
    authority::authorise,
    boxed,
    entity::{interface_address, subnet, vpc},
    store::{
        batch::{chunks, missing},
        failed, networks, tags,
    },
};

/// A VPC with its tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VpcView {
    /// The VPC.
    pub row: vpc::Model,
    /// Its tags, sorted by key.
    pub tags: Vec<Tag>,
}

/// A subnet with its tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubnetView {
    /// The subnet.
    pub row: subnet::Model,
    /// Addresses that can still be given out.
    pub available: u64,
    /// Its tags, sorted by key.
    pub tags: Vec<Tag>,
}

/// Which VPCs are wanted. An empty list means any; given ids must all exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct VpcQuery {
    pub ids: Vec<VpcId>,
}

/// Which subnets are wanted. Empty lists mean any; given subnet ids must all exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct SubnetQuery {
    pub ids: Vec<SubnetId>,
    pub vpcs: Vec<VpcId>,
}

/// VPCs in the order of their ids.
///
/// # Errors
/// `NotFound`, naming every id that is not there.
#[boxed]
pub async fn describe_vpcs(
    cloud: &Cloud,
    who: &Principal,
    query: &VpcQuery,
    page: PageRequest,
) -> Result<Page<VpcView>> {
    authorise(who, "DescribeVpcs", false)?;
    let conn = cloud.store.read();
    let select = vpc::Entity::find()
        .filter(vpc::Column::Account.eq(who.account.to_db()))
        .order_by_asc(vpc::Column::Id);
    // An account has few VPCs and subnets: all are read, and the page is cut from them.
    let mut rows = select.all(conn).await.map_err(failed)?;
    if let Some(id) = missing(&query.ids, |id| rows.iter().any(|row| row.id == id.to_db())) {
        return Err(Error::NotFound {
            kind: ResourceKind::Vpc,
            id,
        });
    }
    rows.retain(|row| {
        (query.ids.is_empty() || query.ids.iter().any(|id| id.to_db() == row.id))
            && page.after.is_none_or(|after| row.id > after)
    });
    let page = Page::cut(rows, &page, |row| row.id);
    let ids: Vec<i64> = page.rows.iter().map(|row| row.id).collect();
    let mut tags = tags::of(conn, ResourceKind::Vpc, &ids).await?;
    Ok(page.replace(|rows| {
        let view = |row: vpc::Model| VpcView {
            tags: tags.remove(&row.id).unwrap_or_default(),
            row,
        };
        rows.into_iter().map(view).collect()
    }))
}

/// Subnets in the order of their ids.
///
/// # Errors
/// `NotFound`, naming every id that is not there.
#[boxed]
pub async fn describe_subnets(
    cloud: &Cloud,
    who: &Principal,
    query: &SubnetQuery,
    page: PageRequest,
) -> Result<Page<SubnetView>> {
    authorise(who, "DescribeSubnets", false)?;
    let conn = cloud.store.read();
    let select = subnet::Entity::find()
        .filter(subnet::Column::Account.eq(who.account.to_db()))
        .order_by_asc(subnet::Column::Id);
    let mut rows = select.all(conn).await.map_err(failed)?;
    if let Some(id) = missing(&query.ids, |id| rows.iter().any(|row| row.id == id.to_db())) {
        return Err(Error::NotFound {
            kind: ResourceKind::Subnet,
            id,
        });
    }
    rows.retain(|row| {
        (query.ids.is_empty() || query.ids.iter().any(|id| id.to_db() == row.id))
            && (query.vpcs.is_empty() || query.vpcs.iter().any(|id| id.to_db() == row.vpc))
            && page.after.is_none_or(|after| row.id > after)
    });
    let page = Page::cut(rows, &page, |row| row.id);
    let ids: Vec<i64> = page.rows.iter().map(|row| row.id).collect();
    let used = used(conn, &ids).await?;
    let mut tags = tags::of(conn, ResourceKind::Subnet, &ids).await?;
    let mut views = Vec::with_capacity(page.rows.len());
    for row in page.rows {
        let cidr: Cidr = row.cidr.parse()?;
        views.push(SubnetView {
            available: networks::usable(cidr).saturating_sub(used.get(&row.id).copied().unwrap_or(0)),
            tags: tags.remove(&row.id).unwrap_or_default(),
            row,
        });
    }
    Ok(Page {
        rows: views,
        next: page.next,
    })
}

#[derive(sea_orm::FromQueryResult)]
struct Used {
    subnet: i64,
    n: i64,
}

/// How many addresses of each subnet are given out.
async fn used(conn: &impl ConnectionTrait, subnets: &[i64]) -> Result<HashMap<i64, u64>> {
    let mut used = HashMap::new();
    for chunk in chunks(subnets) {
        use interface_address::Column as A;
        let query = interface_address::Entity::find()
            .select_only()
            .column(A::Subnet)
            .column_as(A::Address.into_expr().count(), "n")
            .filter(A::Subnet.is_in(chunk))
            .group_by(A::Subnet);
        let rows: Vec<Used> = query.into_model().all(conn).await.map_err(failed)?;
        used.extend(rows.into_iter().map(|row| (row.subnet, row.n.unsigned_abs())));
    }
    Ok(used)
}

/// The caller's default VPC.
///
/// # Errors
/// Those of the database.
#[boxed]
pub async fn default_vpc(cloud: &Cloud, who: &Principal) -> Result<Option<VpcId>> {
    authorise(who, "DescribeAccountAttributes", false)?;
    let row = networks::default_vpc(cloud.store.read(), who.account).await?;
    Ok(row.map(|row| VpcId::from_db(row.id)))
}
