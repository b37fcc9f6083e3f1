//! What an account may have of volumes: they are counted when there are to be more of them, and the sums kept nowhere.

use cumulet_core::{Quotas, quota};
use cumulet_domain::{
    Error, Result,
    account::AccountId,
    error::Limit,
    volume::{ModificationState, VolumeState},
};
use cumulet_store::{
    entity::{
        account,
        columns::{Flag, Named},
        volume, volume_attachment, volume_modification,
    },
    failed, lock,
};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DatabaseTransaction, EntityTrait, ExprTrait as _, JoinType,
    QueryFilter, QuerySelect as _, QueryTrait as _, RelationDef, sea_query::Expr,
};

use crate::boxed;

/// Whether the account may have so many volumes and so many GiB more: those who count come one after the other, since
/// each has the account's lock until its own is there.
///
/// # Errors
/// `LimitExceeded`; those of the database.
#[boxed]
pub async fn room(
    txn: &DatabaseTransaction,
    quotas: Quotas,
    account: AccountId,
    (more, gib): (u64, u32),
) -> Result<()> {
    lock::rows::<account::Entity>(txn, account::Column::Id, &[account.to_db()]).await?;
    let (volumes, used) = has(txn, account).await?;
    let used = used + growing(txn, account).await?;
    for (limit, max, wanted) in [
        (Limit::Volumes, quotas.volumes, volumes + more),
        (Limit::VolumeStorage, quotas.volume_gib, used + u64::from(gib)),
    ] {
        if wanted > max {
            return Err(Error::LimitExceeded { limit, max });
        }
    }
    Ok(())
}

/// How many instances the account has room for, each with so many volumes of so many GiB in all: `wanted` says at least
/// and at the most how many. Those who count come one after the other, as in [`room`].
///
/// # Errors
/// `LimitExceeded` where that are less than the least.
#[boxed]
pub async fn fitting(
    txn: &DatabaseTransaction,
    quotas: Quotas,
    account: AccountId,
    each: (u64, u64),
    wanted: (u64, u64),
) -> Result<u64> {
    let ((each, gib), (least, most)) = (each, wanted);
    lock::rows::<account::Entity>(txn, account::Column::Id, &[account.to_db()]).await?;
    let (volumes, used) = has(txn, account).await?;
    let used = used + growing(txn, account).await?;
    let mut fitting = most;
    for (limit, max, left, each) in [
        (
            Limit::Volumes,
            quotas.volumes,
            quotas.volumes.saturating_sub(volumes),
            each,
        ),
        (
            Limit::VolumeStorage,
            quotas.volume_gib,
            quotas.volume_gib.saturating_sub(used),
            gib,
        ),
    ] {
        fitting = Ord::min(fitting, left.checked_div(each).unwrap_or(most));
        if fitting < least {
            return Err(Error::LimitExceeded { limit, max });
        }
    }
    Ok(fitting)
}

const GONE: [VolumeState; 2] = [VolumeState::Deleting, VolumeState::Deleted];

/// What is counted: all but the volumes that instances start from and that go with those.
fn counted() -> Condition {
    use volume::Column as C;
    use volume_attachment::Column as A;
    let outliving = volume_attachment::Entity::find()
        .select_only()
        .column(A::Volume)
        .filter(A::BootIndex.eq(0))
        .filter(A::DeleteOnTermination.eq(Flag(false)));
    Condition::all().add(C::State.is_not_in(GONE.map(Named))).add(
        Condition::any()
            .add(C::Image.is_null())
            .add(C::Host.is_not_null())
            .add(C::Id.in_subquery(outliving.into_query())),
    )
}

/// The account's volumes and their GiB.
async fn has(txn: &DatabaseTransaction, account: AccountId) -> Result<(u64, u64)> {
    use volume::Column as C;
    let sum = Expr::col(C::SizeGib).sum();
    let has = volume::Entity::find()
        .select_only()
        .column_as(C::Id.count(), "volumes")
        .expr_as(quota::whole(txn, sum), "gib")
        .filter(C::Account.eq(account.to_db()))
        .filter(counted());
    let row = txn.query_one(&has.into_query()).await.map_err(failed)?;
    let (volumes, used): (i64, Option<i64>) = match row {
        Some(row) => (
            row.try_get("", "volumes").map_err(failed)?,
            row.try_get("", "gib").map_err(failed)?,
        ),
        None => (0, None),
    };
    Ok((volumes.unsigned_abs(), used.unwrap_or(0).unsigned_abs()))
}

/// The GiB by which volumes of the account are going to grow.
async fn growing(txn: &DatabaseTransaction, account: AccountId) -> Result<u64> {
    use volume::Column as C;
    use volume_modification::Column as M;
    let its_volume: RelationDef = volume_modification::Entity::belongs_to(volume::Entity)
        .from(M::Volume)
        .to(C::Id)
        .into();
    let target = Expr::col((volume_modification::Entity, M::TargetSizeGib));
    let sum = target.sub(Expr::col((volume::Entity, C::SizeGib))).sum();
    let growing = volume_modification::Entity::find()
        .select_only()
        .expr_as(quota::whole(txn, sum), "gib")
        .join(JoinType::InnerJoin, its_volume)
        .filter(M::State.eq(Named(ModificationState::Modifying)))
        .filter(C::Account.eq(account.to_db()))
        .filter(counted());
    let row = txn.query_one(&growing.into_query()).await.map_err(failed)?;
    let sum: Option<i64> = match row {
        Some(row) => row.try_get("", "gib").map_err(failed)?,
        None => None,
    };
    Ok(sum.unwrap_or(0).unsigned_abs())
}
