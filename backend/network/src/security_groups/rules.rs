//! Rule views, made from rows.

use std::collections::HashMap;

use cumulet_domain::{ResourceKind, Result};
use cumulet_store::{
    batch::load_in,
    entity::{columns::Key, security_group_rule},
    groups, tags,
};
use sea_orm::ConnectionTrait;

use crate::security_groups::RuleView;

/// The views of rows, in their order.
pub(super) async fn views(
    conn: &impl ConnectionTrait,
    rows: Vec<security_group_rule::Model>,
) -> Result<Vec<RuleView>> {
    let ids: Vec<i64> = rows.iter().map(|row| row.id.to_db()).collect();
    let mut tags = tags::of(conn, ResourceKind::SecurityGroupRule, &ids).await?;
    let mut peers: Vec<i64> = rows
        .iter()
        .filter_map(|row| row.peer_group.map(Key::to_db))
        .collect();
    peers.sort_unstable();
    peers.dedup();
    let names: HashMap<i64, String> = load_in!(conn, security_group, Id, &peers)
        .into_iter()
        .map(|row| (row.id.to_db(), row.name))
        .collect();
    let view = |row: security_group_rule::Model| {
        Ok(RuleView {
            id: row.id.0,
            group: row.security_group.0,
            account: row.account.0,
            rule: groups::rule_of(&row)?,
            peer_name: row.peer_group.and_then(|peer| names.get(&peer.to_db()).cloned()),
            tags: tags.remove(&row.id.to_db()).unwrap_or_default(),
            description: row.description,
        })
    };
    rows.into_iter().map(view).collect()
}
