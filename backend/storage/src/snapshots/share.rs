//! Who may make volumes of a snapshot beside its account: some accounts, or everybody.

use cumulet_core::{Quotas, RequestContext};
use cumulet_domain::{
    Error, ResourceKind, Result,
    account::{AccountId, Principal},
    error::Limit,
    id::SnapshotId,
};
use cumulet_store::{
    Invalidates,
    authority::Permission,
    entity::{
        columns::{Key, Owner},
        snapshot, snapshot_permission as given,
    },
    resource::{self, Lock},
};
use sea_orm::ActiveModelTrait;

use crate::{
    boxed,
    sharing::{self, Grantees, Shared, Sharing},
};

/// Snapshots, as they are shared.
struct Snapshots;

impl Shared for Snapshots {
    type Rows = snapshot::Entity;
    type Given = given::Entity;

    const LIMIT: Limit = Limit::AccountsPerSnapshot;
    const ID: snapshot::Column = snapshot::Column::Id;
    const PUBLIC: snapshot::Column = snapshot::Column::Public;
    const WHICH: given::Column = given::Column::Snapshot;
    const TO: given::Column = given::Column::Account;

    fn most(quotas: Quotas) -> u64 {
        quotas.accounts_per_snapshot
    }

    fn given(id: i64, to: AccountId) -> impl ActiveModelTrait<Entity = given::Entity> + Send {
        given::ActiveModel::from(given::Model {
            snapshot: Key::from_db(id),
            account: Owner(to),
        })
    }
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
    Ok(Grantees {
        all: row.public.0,
        accounts: sharing::accounts::<Snapshots>(conn, id.to_db()).await?,
    })
}

/// Changes who may.
///
/// # Errors
/// `NotFound`; `Unauthorized` for another account's; `AccountsKey` where it is encrypted; `LimitExceeded`.
#[boxed]
pub async fn share(cx: &RequestContext, who: &Principal, id: SnapshotId, mut change: Sharing) -> Result<()> {
    let grant = cx.authorise(who, Permission::MODIFY_SNAPSHOT_ATTRIBUTE)?;
    // It may anyway.
    change.add.accounts.remove(&grant.account());
    let quotas = cx.config.quotas;
    let write = cx.store.write_with(Invalidates::Nothing, move |txn| {
        Box::pin(async move {
            let row = resource::find::<snapshot::Entity>(txn, &grant, id, Lock::Exclusive).await?;
            if row.encrypted.0 && change.gives() {
                let (kind, id) = (ResourceKind::Snapshot, id.to_string());
                return Err(Error::AccountsKey { kind, id });
            }
            sharing::change::<Snapshots>(txn, (id.to_db(), row.public.0), &change, quotas).await
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
            sharing::withdraw::<Snapshots>(txn, id.to_db()).await
        })
    });
    write.await
}
