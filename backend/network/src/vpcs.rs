//! VPCs and subnets.

use std::collections::HashMap;

use cumulet_core::{Page, PageRequest, RequestContext};
use cumulet_domain::{
    ResourceKind, Result,
    account::Principal,
    id::{SubnetId, VpcId},
    network::Cidr,
    tag::Tag,
};
use cumulet_store::{
    authority::Permission,
    batch::chunks,
    entity::{interface_address, subnet, vpc},
    failed, networks, resource, tags,
};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, QueryFilter, QuerySelect, sea_query::ExprTrait,
};

use crate::boxed;

/// A VPC with its tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VpcView {
    /// The VPC.
    pub row: vpc::Model,
    /// Its tags, sorted by key.
    pub tags: Vec<Tag>,
}

impl VpcView {
    /// Its id.
    pub fn id(&self) -> VpcId {
        self.row.id.0
    }

    /// Whether it is the account's default one.
    pub fn is_default(&self) -> bool {
        self.row.is_default.0
    }
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

impl SubnetView {
    /// Its id.
    pub fn id(&self) -> SubnetId {
        self.row.id.0
    }

    /// The VPC that it is in.
    pub fn vpc(&self) -> VpcId {
        self.row.vpc.0
    }

    /// Whether it is its zone's default one.
    pub fn is_default(&self) -> bool {
        self.row.is_default.0
    }

    /// Whether instances in it get a public address where nobody says.
    pub fn maps_public_ip(&self) -> bool {
        self.row.map_public_ip.0
    }
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
    cx: &RequestContext,
    who: &Principal,
    query: &VpcQuery,
    page: PageRequest,
) -> Result<Page<VpcView>> {
    let grant = cx.authorise(who, Permission::DESCRIBE_VPCS)?;
    let conn = cx.store.read();
    let page = resource::list::<vpc::Entity>(conn, &grant, &query.ids, Condition::all(), &page).await?;
    Ok(Page {
        rows: resource::with_tags::<vpc::Entity, _>(conn, page.rows, |row, tags| VpcView { row, tags })
            .await?,
        next: page.next,
    })
}

/// Subnets in the order of their ids.
///
/// # Errors
/// `NotFound`, naming every id that is not there.
#[boxed]
pub async fn describe_subnets(
    cx: &RequestContext,
    who: &Principal,
    query: &SubnetQuery,
    page: PageRequest,
) -> Result<Page<SubnetView>> {
    let grant = cx.authorise(who, Permission::DESCRIBE_SUBNETS)?;
    let conn = cx.store.read();
    let mut also = Condition::all();
    if !query.vpcs.is_empty() {
        also = also.add(subnet::Column::Vpc.is_in(query.vpcs.iter().map(|id| id.to_db())));
    }
    let page = resource::list::<subnet::Entity>(conn, &grant, &query.ids, also, &page).await?;
    let ids: Vec<i64> = page.rows.iter().map(|row| row.id.to_db()).collect();
    let used = used(conn, &ids).await?;
    let mut tags = tags::of(conn, ResourceKind::Subnet, &ids).await?;
    let mut views = Vec::with_capacity(page.rows.len());
    for row in page.rows {
        let cidr: Cidr = row.cidr.0;
        views.push(SubnetView {
            available: networks::usable(cidr).saturating_sub(used.get(&row.id.to_db()).copied().unwrap_or(0)),
            tags: tags.remove(&row.id.to_db()).unwrap_or_default(),
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
pub async fn default_vpc(cx: &RequestContext, who: &Principal) -> Result<Option<VpcId>> {
    let grant = cx.authorise(who, Permission::DESCRIBE_ACCOUNT_ATTRIBUTES)?;
    let row = networks::default_vpc(cx.store.read(), &grant).await?;
    Ok(row.map(|row| row.id.0))
}
