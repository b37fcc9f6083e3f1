//! Security groups, their rules, and the policy generation that hosts follow.

use std::collections::HashSet;

use cumulet_domain::{
    Error, Result,
    account::AccountId,
    id::{
        SecurityGroupId, VpcId,
        marker::{self, Vpc},
    },
    network::{Peer, Rule},
    rng::SharedRng,
    time::Timestamp,
};
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder,
    sea_query::{Expr, ExprTrait, Func},
};

use super::{batch::missing, failed, is_taken, resource, rows};
use crate::{
    authority::Authority,
    entity::{
        columns::{Key, Owner},
        security_group, security_group_rule, vpc,
    },
};

/// The groups of a VPC with these names, if all of them are there. Names are the same in any case; where two
/// groups were made before that was so, the exact name is meant, or the older group.
///
/// # Errors
/// `NotFound`, naming all that are not there.
pub async fn by_names(
    conn: &impl ConnectionTrait,
    by: &dyn Authority,
    vpc: VpcId,
    names: &[String],
) -> Result<Vec<security_group::Model>> {
    use security_group::Column as C;
    let own = security_group::Entity::find()
        .filter(resource::sight::<security_group::Entity>(by))
        .filter(C::Vpc.eq(vpc.to_db()));
    let exact = own.clone().filter(C::Name.is_in(names));
    let mut rows = rows::all(exact, conn).await?;
    let found: HashSet<&str> = rows.iter().map(|row| row.name.as_str()).collect();
    let left = names.iter().filter(|name| !found.contains(name.as_str()));
    let left: HashSet<String> = left.map(|name| name.to_ascii_lowercase()).collect();
    if !left.is_empty() {
        let alike = own.filter(folded_name().is_in(left.iter().map(String::as_str)));
        let alike = alike.order_by_asc(C::CreatedAt).order_by_asc(C::Id);
        let mut left = left;
        for row in rows::all(alike, conn).await? {
            if left.remove(&row.name.to_ascii_lowercase()) {
                rows.push(row);
            }
        }
        let unknown = |name: &String| left.contains(&name.to_ascii_lowercase());
        if let Some(id) = missing(names, |name| !unknown(name)) {
            return Err(resource::not_found::<security_group::Entity>(id));
        }
    }
    rows.sort_by_key(|row| row.id);
    rows.dedup_by_key(|row| row.id);
    Ok(rows)
}

/// Whether a group of the VPC has this name, in whatever case.
///
/// # Errors
/// Those of the database.
pub async fn name_is_taken(conn: &impl ConnectionTrait, vpc: i64, name: &str) -> Result<bool> {
    use security_group::Column as C;
    let alike = security_group::Entity::find()
        .filter(C::Vpc.eq(vpc))
        .filter(folded_name().eq(name.to_ascii_lowercase()));
    Ok(rows::one(alike, conn).await?.is_some())
}

/// A group's name without its case. Names are ASCII.
fn folded_name() -> Expr {
    Expr::expr(Func::lower(Expr::col(security_group::Column::Name)))
}

/// A rule as the database keeps it: JSON in the order of the domain's fields.
///
/// # Errors
/// Never in practice.
pub fn rule_text(rule: Rule) -> Result<String> {
    serde_json::to_string(&rule).map_err(|error| Error::internal(&error))
}

/// The inverse of [`rule_text`].
///
/// # Errors
/// `Internal` where the row is damaged.
pub fn rule_of(row: &security_group_rule::Model) -> Result<Rule> {
    serde_json::from_str(&row.rule).map_err(|error| rows::damaged("security_group_rules", row.id, error))
}

/// The row of a new rule.
///
/// # Errors
/// Those of [`rule_text`].
pub fn rule_row(
    rng: &SharedRng,
    now: Timestamp,
    account: AccountId,
    group: SecurityGroupId,
    rule: Rule,
    description: &str,
) -> Result<security_group_rule::Model> {
    Ok(security_group_rule::Model {
        id: Key(rng.id::<marker::SecurityGroupRule>()),
        account: Owner(account),
        security_group: Key(group),
        rule: rule_text(rule)?,
        peer_group: match rule.peer {
            Peer::Group(peer) => Some(Key(peer)),
            Peer::Cidr(_) => None,
        },
        description: description.into(),
        created_at: now.0,
    })
}

/// Adds rules.
///
/// # Errors
/// `DuplicateRule` when one of them is there already.
pub async fn insert_rules(txn: &impl ConnectionTrait, rows: Vec<security_group_rule::Model>) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let rows = rows.into_iter().map(security_group_rule::ActiveModel::from);
    let insert = security_group_rule::Entity::insert_many(rows)
        .exec_without_returning(txn)
        .await;
    insert.map(drop).map_err(|error| {
        if is_taken(&error) {
            Error::DuplicateRule { rule: String::new() }
        } else {
            failed(error)
        }
    })
}

/// Tells the hosts of a VPC that its policy has changed.
///
/// # Errors
/// Those of the database.
pub async fn bump_policy(txn: &impl ConnectionTrait, vpcs: impl IntoIterator<Item = Key<Vpc>>) -> Result<()> {
    use vpc::Column as C;
    let update = vpc::Entity::update_many()
        .col_expr(C::PolicyGeneration, Expr::col(C::PolicyGeneration).add(1))
        .filter(C::Id.is_in(vpcs));
    update.exec(txn).await.map(drop).map_err(failed)
}
