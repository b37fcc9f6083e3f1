//! The listing of security groups and of their rules.

use std::collections::HashMap;

use cumulet_domain::{Error, ResourceKind, Result, account::Principal};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::{GroupQuery, GroupView, RuleQuery, RuleView, rules};
use crate::{
    api::{Cloud, Page, PageRequest},
    authority::authorise,
    boxed,
    entity::{security_group, security_group_rule},
    store::{
        batch::{load_in, missing},
        column, failed, groups, networks, tags,
    },
};

/// Groups in the order of their ids.
///
/// # Errors
/// `NotFound`, naming every id or name that is not there.
#[boxed]
pub async fn describe(
    cloud: &Cloud,
    who: &Principal,
    query: &GroupQuery,
    page: PageRequest,
) -> Result<Page<GroupView>> {
    authorise(who, "DescribeSecurityGroups", false)?;
    let conn = cloud.store.read();
    let mut rows = if query.ids.is_empty() && query.names.is_empty() {
        let mut select = security_group::Entity::find()
            .filter(security_group::Column::Account.eq(who.account.to_db()))
            .order_by_asc(security_group::Column::Id);
        if !query.vpcs.is_empty() {
            let vpcs = query.vpcs.iter().map(|id| id.to_db());
            select = select.filter(security_group::Column::Vpc.is_in(vpcs));
        }
        if let Some(after) = page.after {
            select = select.filter(security_group::Column::Id.gt(after));
        }
        select.limit(page.read_limit()).all(conn).await.map_err(failed)?
    } else {
        let mut rows = named(conn, who, query).await?;
        rows.retain(|row| page.after.is_none_or(|after| row.id > after));
        rows.retain(|row| query.vpcs.is_empty() || query.vpcs.iter().any(|id| id.to_db() == row.vpc));
        rows
    };
    rows.sort_by_key(|row| row.id);
    rows.dedup_by_key(|row| row.id);
    let page = Page::cut(rows, &page, |row| row.id);
    Ok(Page {
        rows: views(conn, page.rows).await?,
        next: page.next,
    })
}

async fn named(
    conn: &impl ConnectionTrait,
    who: &Principal,
    query: &GroupQuery,
) -> Result<Vec<security_group::Model>> {
    let mut rows = groups::by_ids(conn, who.account, &query.ids).await?;
    if !query.names.is_empty() {
        let vpc = networks::default_vpc(conn, who.account)
            .await?
            .ok_or(Error::NoDefaultVpc)?;
        let vpc = cumulet_domain::id::VpcId::from_db(vpc.id);
        let by_name = groups::by_names(conn, who.account, vpc, &query.names).await?;
        if query.ids.is_empty() {
            rows = by_name;
        } else {
            // Both given: those that are named both ways.
            rows.retain(|row| by_name.iter().any(|other| other.id == row.id));
        }
    }
    Ok(rows)
}

/// The views of rows, in their order.
pub(super) async fn views(
    conn: &impl ConnectionTrait,
    rows: Vec<security_group::Model>,
) -> Result<Vec<GroupView>> {
    let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
    let mut tags = tags::of(conn, ResourceKind::SecurityGroup, &ids).await?;
    let mut of: HashMap<i64, Vec<RuleView>> = HashMap::new();
    let mut rule_rows = load_in!(conn, security_group_rule, SecurityGroup, &ids);
    rule_rows.sort_by_key(|row| (row.created_at, row.id));
    for rule in rules::views(conn, rule_rows).await? {
        of.entry(rule.group.to_db()).or_default().push(rule);
    }
    let view = |row: security_group::Model| GroupView {
        rules: of.remove(&row.id).unwrap_or_default(),
        tags: tags.remove(&row.id).unwrap_or_default(),
        row,
    };
    Ok(rows.into_iter().map(view).collect())
}

/// Rules in the order of their ids.
///
/// # Errors
/// `NotFound`, naming every rule id that is not there.
#[boxed]
pub async fn describe_rules(
    cloud: &Cloud,
    who: &Principal,
    query: &RuleQuery,
    page: PageRequest,
) -> Result<Page<RuleView>> {
    authorise(who, "DescribeSecurityGroupRules", false)?;
    use security_group_rule::Column as C;
    let conn = cloud.store.read();
    let mut select = security_group_rule::Entity::find()
        .filter(C::Account.eq(who.account.to_db()))
        .order_by_asc(C::Id);
    if !query.ids.is_empty() {
        select = select.filter(C::Id.is_in(query.ids.iter().map(|id| id.to_db())));
        let known = select.clone().select_only().column(C::Id);
        let known: Vec<i64> = column(known, conn).await?;
        if let Some(id) = missing(&query.ids, |id| known.contains(&id.to_db())) {
            return Err(Error::NotFound {
                kind: ResourceKind::SecurityGroupRule,
                id,
            });
        }
    }
    if !query.groups.is_empty() {
        select = select.filter(C::SecurityGroup.is_in(query.groups.iter().map(|id| id.to_db())));
    }
    if let Some(after) = page.after {
        select = select.filter(C::Id.gt(after));
    }
    let rows = select.limit(page.read_limit()).all(conn).await.map_err(failed)?;
    let page = Page::cut(rows, &page, |row| row.id);
    Ok(Page {
        rows: rules::views(conn, page.rows).await?,
        next: page.next,
    })
}
