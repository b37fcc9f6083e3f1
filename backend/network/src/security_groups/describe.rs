//! The listing of security groups and of their rules.

use std::collections::HashMap;

use cumulet_core::{Page, PageRequest, RequestContext};
use cumulet_domain::{Error, ResourceKind, Result, account::Principal};
use cumulet_store::{
    authority::{Grant, Permission},
    batch::load_in,
    entity::{columns::Key, security_group, security_group_rule},
    groups, networks, resource, tags,
};
use sea_orm::{ColumnTrait, Condition, ConnectionTrait};

use crate::{
    boxed,
    security_groups::{GroupQuery, GroupView, RuleQuery, RuleView, rules},
};

/// Groups in the order of their ids.
///
/// # Errors
/// `NotFound`, naming every id or name that is not there.
#[boxed]
pub async fn describe(
    cx: &RequestContext,
    who: &Principal,
    query: &GroupQuery,
    page: PageRequest,
) -> Result<Page<GroupView>> {
    let grant = cx.authorise(who, Permission::DESCRIBE_SECURITY_GROUPS)?;
    let conn = cx.store.read();
    if query.names.is_empty() {
        let mut also = Condition::all();
        if !query.vpcs.is_empty() {
            also = also.add(security_group::Column::Vpc.is_in(query.vpcs.iter().map(|id| id.to_db())));
        }
        let page = resource::list::<security_group::Entity>(conn, &grant, &query.ids, also, &page).await?;
        return Ok(Page {
            rows: views(conn, page.rows).await?,
            next: page.next,
        });
    }
    let mut rows = named(conn, &grant, query).await?;
    rows.retain(|row| page.after.is_none_or(|after| row.id > Key::from_db(after)));
    rows.retain(|row| query.vpcs.is_empty() || query.vpcs.contains(&row.vpc.0));
    rows.sort_by_key(|row| row.id);
    rows.dedup_by_key(|row| row.id);
    let page = Page::cut(rows, &page, |row| row.id.to_db());
    Ok(Page {
        rows: views(conn, page.rows).await?,
        next: page.next,
    })
}

/// Those that are named, and by their ids too where both are given.
async fn named(
    conn: &impl ConnectionTrait,
    grant: &Grant,
    query: &GroupQuery,
) -> Result<Vec<security_group::Model>> {
    let by_id = resource::list_all::<security_group::Entity>(conn, grant, &query.ids).await?;
    let vpc = networks::default_vpc(conn, grant)
        .await?
        .ok_or(Error::NoDefaultVpc)?;
    let mut rows = groups::by_names(conn, grant, vpc.id.0, &query.names).await?;
    rows.retain(|row| query.ids.is_empty() || by_id.iter().any(|other| other.id == row.id));
    Ok(rows)
}

/// The views of rows, in their order.
pub(super) async fn views(
    conn: &impl ConnectionTrait,
    rows: Vec<security_group::Model>,
) -> Result<Vec<GroupView>> {
    let ids: Vec<i64> = rows.iter().map(|row| row.id.to_db()).collect();
    let mut tags = tags::of(conn, ResourceKind::SecurityGroup, &ids).await?;
    let mut of: HashMap<i64, Vec<RuleView>> = HashMap::new();
    let mut rule_rows = load_in!(conn, security_group_rule, SecurityGroup, &ids);
    rule_rows.sort_by_key(|row| (row.created_at, row.id));
    for rule in rules::views(conn, rule_rows).await? {
        of.entry(rule.group.to_db()).or_default().push(rule);
    }
    let view = |row: security_group::Model| GroupView {
        rules: of.remove(&row.id.to_db()).unwrap_or_default(),
        tags: tags.remove(&row.id.to_db()).unwrap_or_default(),
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
    cx: &RequestContext,
    who: &Principal,
    query: &RuleQuery,
    page: PageRequest,
) -> Result<Page<RuleView>> {
    let grant = cx.authorise(who, Permission::DESCRIBE_SECURITY_GROUP_RULES)?;
    use security_group_rule::Column as C;
    let conn = cx.store.read();
    let mut also = Condition::all();
    if !query.groups.is_empty() {
        also = also.add(C::SecurityGroup.is_in(query.groups.iter().map(|id| id.to_db())));
    }
    let page = resource::list::<security_group_rule::Entity>(conn, &grant, &query.ids, also, &page).await?;
    Ok(Page {
        rows: rules::views(conn, page.rows).await?,
        next: page.next,
    })
}
