//! The audit log: a row for every call that changes something, whether accepted or refused.

use cumulet_domain::{Result, account::AccountId};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::{Cloud, Parts};
use crate::{
    entity::audit_event,
    store::{Touches, failed},
};

/// One call.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct AuditEntry {
    pub account: AccountId,
    pub user_name: String,
    /// For instance `RunInstances`.
    pub action: String,
    /// What it was about, as printed.
    pub resource: Option<String>,
    /// `ok` or the door's error code.
    pub outcome: String,
    pub request_id: String,
    pub detail: Option<String>,
}

/// Writes an entry.
///
/// # Errors
/// Those of the database.
pub async fn record(cloud: &Cloud, entry: AuditEntry) -> Result<()> {
    use rand::Rng as _;
    let cut = |text: String| -> String { text.chars().take(255).collect() };
    let row = audit_event::Model {
        id: cloud.rng.with(|rng| rng.next_u64()).cast_signed(),
        at: cloud.now().0,
        account: entry.account.to_db(),
        user_name: cut(entry.user_name),
        action: cut(entry.action),
        resource: entry.resource.map(cut),
        outcome: cut(entry.outcome),
        request_id: cut(entry.request_id),
        detail: entry.detail,
    };
    let write = cloud.store.write_touching(Touches::Nothing, move |txn| {
        Box::pin(async move {
            let insert = audit_event::Entity::insert(audit_event::ActiveModel::from(row));
            insert.exec_without_returning(txn).await.map(drop).map_err(failed)
        })
    });
    write.await
}

/// The newest entries of an account, the newest first. For the operator.
///
/// # Errors
/// Those of the database.
pub async fn list(parts: &Parts, account: AccountId, limit: u64) -> Result<Vec<audit_event::Model>> {
    let query = audit_event::Entity::find()
        .filter(audit_event::Column::Account.eq(account.to_db()))
        .order_by_desc(audit_event::Column::At)
        .order_by_desc(audit_event::Column::Id)
        .limit(limit);
    query.all(parts.store.read()).await.map_err(failed)
}
