//! Sharing: who may use a resource beside its account, some accounts or everybody. Images and snapshots are shared by it;
//! each of its functions is a part of a transaction that has locked the resource's row.

use std::collections::BTreeSet;

use cumulet_core::Quotas;
use cumulet_domain::{Error, Result, account::AccountId, error::Limit};
use cumulet_store::{column, entity::columns::Flag, failed};
use sea_orm::{
    ActiveModelTrait, ColumnTrait as _, ConnectionTrait, DatabaseTransaction, EntityTrait, QueryFilter as _,
    QuerySelect as _, sea_query::Expr,
};

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

impl Sharing {
    /// Whether it gives anything to anybody.
    pub(crate) fn gives(&self) -> bool {
        self.add.all || !self.add.accounts.is_empty()
    }
}

type Column<E> = <E as EntityTrait>::Column;

/// A kind of resource that can be shared: where that is kept.
pub(crate) trait Shared {
    /// Its rows.
    type Rows: EntityTrait;
    /// The accounts that they were given.
    type Given: EntityTrait;

    /// How many accounts one can be given.
    const LIMIT: Limit;
    /// The row's number.
    const ID: Column<Self::Rows>;
    /// Whether everybody may.
    const PUBLIC: Column<Self::Rows>;
    /// What was given.
    const WHICH: Column<Self::Given>;
    /// To whom.
    const TO: Column<Self::Given>;

    /// The number of that limit.
    fn most(quotas: Quotas) -> u64;

    /// The row that gives one to an account.
    fn given(id: i64, to: AccountId) -> impl ActiveModelTrait<Entity = Self::Given> + Send;
}

/// The accounts that may.
pub(crate) async fn accounts<S: Shared>(conn: &impl ConnectionTrait, id: i64) -> Result<BTreeSet<AccountId>> {
    let theirs = S::Given::find()
        .select_only()
        .column(S::TO)
        .filter(S::WHICH.eq(id));
    let theirs: Vec<i64> = column(theirs, conn).await?;
    Ok(theirs.into_iter().map(AccountId::from_db).collect())
}

/// Changes who may. `is_public` is whether everybody did before. Who has more accounts than it may have, since an earlier
/// program has let it, can take them away.
///
/// # Errors
/// `LimitExceeded`; those of the database.
pub(crate) async fn change<S: Shared>(
    txn: &DatabaseTransaction,
    (id, is_public): (i64, bool),
    change: &Sharing,
    quotas: Quotas,
) -> Result<()> {
    let Sharing { add, remove } = change;
    if !add.accounts.is_empty() {
        let before = accounts::<S>(txn, id).await?;
        may_have::<S>(&before, change, quotas)?;
    }
    set_public::<S>(txn, id, (is_public || add.all) && !remove.all).await?;
    take::<S>(txn, id, Some(&add.accounts | &remove.accounts)).await?;
    let fresh = add.accounts.difference(&remove.accounts);
    let rows: Vec<_> = fresh.map(|account| S::given(id, *account)).collect();
    if rows.is_empty() {
        return Ok(());
    }
    let insert = S::Given::insert_many(rows).exec_without_returning(txn);
    insert.await.map(drop).map_err(failed)
}

/// Whether as many accounts may have it as are going to. The resource is locked: nobody else gives it to anybody
/// meanwhile.
fn may_have<S: Shared>(before: &BTreeSet<AccountId>, change: &Sharing, quotas: Quotas) -> Result<()> {
    let after = &(before | &change.add.accounts) - &change.remove.accounts;
    let (limit, max) = (S::LIMIT, S::most(quotas));
    // Where there were more, from before there was a limit, what is there may be said again.
    match after.len() > before.len() && after.len() as u64 > max {
        true => Err(Error::LimitExceeded { limit, max }),
        false => Ok(()),
    }
}

/// Nobody may any more but the account.
pub(crate) async fn withdraw<S: Shared>(txn: &DatabaseTransaction, id: i64) -> Result<()> {
    set_public::<S>(txn, id, false).await?;
    take::<S>(txn, id, None).await
}

async fn set_public<S: Shared>(txn: &DatabaseTransaction, id: i64, public: bool) -> Result<()> {
    let update = S::Rows::update_many()
        .col_expr(S::PUBLIC, Expr::value(Flag(public)))
        .filter(S::ID.eq(id));
    update.exec(txn).await.map(drop).map_err(failed)
}

/// Takes what these accounts were given; `None`: what any was.
async fn take<S: Shared>(
    txn: &DatabaseTransaction,
    id: i64,
    accounts: Option<BTreeSet<AccountId>>,
) -> Result<()> {
    let mut delete = S::Given::delete_many().filter(S::WHICH.eq(id));
    if let Some(accounts) = accounts {
        delete = delete.filter(S::TO.is_in(accounts.iter().map(|account| account.to_db())));
    }
    delete.exec(txn).await.map(drop).map_err(failed)
}
