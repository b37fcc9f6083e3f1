//! Who may make volumes of a snapshot beside its account: some accounts, or everybody.

use std::collections::BTreeSet;

use cumulet_core::RequestContext;
use cumulet_domain::{
    Result,
    account::{AccountId, Principal},
    id::SnapshotId,
};
use cumulet_store::{
    Invalidates,
    authority::Permission,
    entity::{
        columns::{Flag, Key, Owner},
        snapshot, snapshot_permission as given,
    },
    failed,
    resource::{self, Lock},
    rows,
};
use sea_orm::{
    ColumnTrait as _, DatabaseTransaction, EntityTrait as _, QueryFilter as _, QueryOrder as _,
    sea_query::Expr,
};

use crate::boxed;

/// Who may.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grantees {
    /// Every account.
    pub all: bool,
    /// These.
    pub accounts: BTreeSet<AccountId>,
}

/// A change of who may. What is in both is taken away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Sharing {
    pub add: Grantees,
    pub remove: Grantees,
}

/// Who may make volumes of a snapshot of the account's own.
///
/// # Errors
/// `NotFound`; `Unauthorized` for another account's.
#[boxed]
pub async fn grantees(cx: &RequestContext, who: &Principal, id: SnapshotId) -> Result<Grantees> {
    let grant = cx.authorise(who, Permission::DESCRIBE_SNAPSHOT_ATTRIBUTE)?.own();
    let conn = cx.store.read();
    let row = resource::find::<snapshot::Entity>(conn, &grant, id, Lock::None).await?;
    let theirs = given::Entity::find()
        .filter(given::Column::Snapshot.eq(row.id))
        .order_by_asc(given::Column::Account);
    let theirs = rows::all(theirs, conn).await?;
    Ok(Grantees {
        all: row.public.0,
        accounts: theirs.into_iter().map(|row| row.account.0).collect(),
    })
}

/// Changes who may.
///
/// # Errors
/// `NotFound`; `Unauthorized` for another account's.
#[boxed]
pub async fn share(cx: &RequestContext, who: &Principal, id: SnapshotId, change: Sharing) -> Result<()> {
    let grant = cx.authorise(who, Permission::MODIFY_SNAPSHOT_ATTRIBUTE)?;
    let write = cx.store.write_with(Invalidates::Nothing, move |txn| {
        Box::pin(async move {
            let row = resource::find::<snapshot::Entity>(txn, &grant, id, Lock::Exclusive).await?;
            let public = (row.public.0 || change.add.all) && !change.remove.all;
            set_public(txn, id, public).await?;
            take(txn, id, Some(&change.add.accounts | &change.remove.accounts)).await?;
            let fresh = change.add.accounts.difference(&change.remove.accounts);
            let rows: Vec<given::ActiveModel> = fresh
                // It may anyway.
                .filter(|account| **account != grant.account())
                .map(|account| {
                    let row = given::Model {
                        snapshot: Key(id),
                        account: Owner(*account),
                    };
                    row.into()
                })
                .collect();
            if rows.is_empty() {
                return Ok(());
            }
            let insert = given::Entity::insert_many(rows).exec_without_returning(txn);
            insert.await.map(drop).map_err(failed)
        })
    });
    write.await
}

/// Nobody may but the account.
///
/// # Errors
/// `NotFound`; `Unauthorized` for another account's.
#[boxed]
pub async fn reset(cx: &RequestContext, who: &Principal, id: SnapshotId) -> Result<()> {
    let grant = cx.authorise(who, Permission::RESET_SNAPSHOT_ATTRIBUTE)?;
    let write = cx.store.write_with(Invalidates::Nothing, move |txn| {
        Box::pin(async move {
            resource::find::<snapshot::Entity>(txn, &grant, id, Lock::Exclusive).await?;
            set_public(txn, id, false).await?;
            take(txn, id, None).await
        })
    });
    write.await
}

async fn set_public(txn: &DatabaseTransaction, id: SnapshotId, public: bool) -> Result<()> {
    let update = snapshot::Entity::update_many()
        .col_expr(snapshot::Column::Public, Expr::value(Flag(public)))
        .filter(snapshot::Column::Id.eq(id.to_db()));
    update.exec(txn).await.map(drop).map_err(failed)
}

/// Takes what these accounts were given; `None`: what any was.
async fn take(
    txn: &DatabaseTransaction,
    id: SnapshotId,
    accounts: Option<BTreeSet<AccountId>>,
) -> Result<()> {
    let mut delete = given::Entity::delete_many().filter(given::Column::Snapshot.eq(id.to_db()));
    if let Some(accounts) = accounts {
        delete = delete.filter(given::Column::Account.is_in(accounts.iter().map(|account| account.to_db())));
    }
    delete.exec(txn).await.map(drop).map_err(failed)
}
