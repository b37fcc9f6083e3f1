//! Rule views, made from rows.

use std::collections::HashMap;

use cumulet_domain::{
    ResourceKind, Result,
    account::AccountId,
    id::{SecurityGroupId, SecurityGroupRuleId},
};
use sea_orm::ConnectionTrait;

use super::RuleView;
use crate::{
    entity::security_group_rule,
    store::{batch::load_in, groups, tags},
};

/// The views of rows, in their order.
pub(super) async fn views(
    conn: &impl ConnectionTrait,
    rows: Vec<security_group_rule::Model>,
) -> Result<Vec<RuleView>> {
    let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
    let mut tags = tags::of(conn, ResourceKind::SecurityGroupRule, &ids).await?;
    let mut peers: Vec<i64> = rows.iter().filter_map(|row| row.peer_group).collect();
    peers.sort_unstable();
    peers.dedup();
    let names: HashMap<i64, String> = load_in!(conn, security_group, Id, &peers)
        .into_iter()
        .map(|row| (row.id, row.name))
        .collect();
    let view = |row: security_group_rule::Model| {
        Ok(RuleView {
            id: SecurityGroupRuleId::from_db(row.id),
            group: SecurityGroupId::from_db(row.security_group),
            account: AccountId::from_db(row.account),
            rule: groups::rule_of(&row)?,
            peer_name: row.peer_group.and_then(|peer| names.get(&peer).cloned()),
            tags: tags.remove(&row.id).unwrap_or_default(),
            description: row.description,
        })
    };
    rows.into_iter().map(view).collect()
}
