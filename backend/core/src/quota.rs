//! Quotas: a claim is one conditional update, never a read and then a write.

use cumulet_domain::{Error, Result, account::AccountId, error::Limit};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, DbBackend, EntityTrait, PaginatorTrait as _,
    QueryFilter, Select,
    sea_query::{Expr, ExprTrait},
};

use cumulet_store::{
    entity::{account, columns::Owner},
    failed, lock, rows,
};

/// What an account may have, of what is not counted in its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quotas {
    /// Key pairs, as many as on EC2 in a region.
    pub key_pairs: u64,
    /// Placement groups, as many as on EC2 in a region.
    pub placement_groups: u64,
    /// Tags: 50 of 5,000 resources.
    pub tags: u64,
    /// Volumes, those that instances start from not counted.
    pub volumes: u64,
    /// GiB of all of those.
    pub volume_gib: u64,
    /// Snapshots, as many as on EC2 in a region.
    pub snapshots: u64,
    /// Images, as many as on EC2 in a region.
    pub images: u64,
    /// Snapshots that are being taken or made at a time, those that nobody sees among them: as many as on EC2.
    pub pending_snapshots: u64,
    /// Of those, copies, when CopySnapshot asks for another one: as many as on EC2.
    pub pending_snapshot_copies: u64,
    /// Accounts that an image is shared with, as many as on EC2.
    pub accounts_per_image: u64,
    /// Accounts that a snapshot is shared with. EC2 says nothing of it: as many as of an image.
    pub accounts_per_snapshot: u64,
}

impl Default for Quotas {
    fn default() -> Self {
        Quotas {
            key_pairs: 5_000,
            placement_groups: 500,
            tags: 250_000,
            volumes: 5_000,
            volume_gib: 51_200,
            snapshots: 100_000,
            images: 50_000,
            pending_snapshots: 100,
            pending_snapshot_copies: 20,
            accounts_per_image: 1_000,
            accounts_per_snapshot: 1_000,
        }
    }
}

/// A sum of whole numbers as one: the servers answer a decimal.
pub fn whole(conn: &impl ConnectionTrait, sum: Expr) -> Expr {
    let kind = match conn.get_database_backend() {
        DbBackend::MySql => "SIGNED",
        _ => "BIGINT",
    };
    sum.cast_as(kind)
}

/// Makes room for one more of what an account may have `max` of: those who count `all` come one after the
/// other, since each has the account's lock until its own is there.
///
/// # Errors
/// `LimitExceeded`.
pub async fn room_for_one<E>(
    txn: &DatabaseTransaction,
    account: AccountId,
    all: Select<E>,
    limit: Limit,
    max: u64,
) -> Result<()>
where
    E: EntityTrait<Model: Sync>,
{
    lock::rows::<account::Entity>(txn, account::Column::Id, &[account.to_db()]).await?;
    if all.count(txn).await.map_err(failed)? >= max {
        return Err(Error::LimitExceeded { limit, max });
    }
    Ok(())
}

/// An account's row, with its quotas.
///
/// # Errors
/// `InvalidParameter` when there is no such account; those of the database.
pub async fn load(conn: &impl ConnectionTrait, id: AccountId) -> Result<account::Model> {
    let row = rows::one(account::Entity::find_by_id(Owner(id)), conn).await?;
    row.ok_or_else(|| Error::invalid("AccountId", &id.to_string(), "there is no such account"))
}

/// Instances that an account's quotas were charged with.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    /// How many of those that were wanted.
    pub count: i64,
    /// Whether the account has no more instances than the `few` that were asked about. `false` says nothing.
    pub few: bool,
}

/// Claims as many instances of `vcpus` vCPUs each as the account's quotas allow, at least `min` and at
/// most `max`. On the way it learns whether the account then has no more than `few`, which spares others a read.
///
/// # Errors
/// `LimitExceeded`, naming the quota that is too small for `min`.
pub async fn claim(
    txn: &impl ConnectionTrait,
    account: AccountId,
    vcpus: i64,
    min: i64,
    max: i64,
    few: u64,
) -> Result<Claim> {
    let mut wanted = max;
    let few = i64::try_from(few).unwrap_or(i64::MAX);
    if take(txn, account, wanted, vcpus, Some(few)).await? {
        return Ok(Claim {
            count: wanted,
            few: true,
        });
    }
    loop {
        if take(txn, account, wanted, vcpus, None).await? {
            return Ok(Claim {
                count: wanted,
                few: false,
            });
        }
        let row = load(txn, account).await?;
        let instances = row.instances_max.to_db() - row.instances_used;
        let by_vcpus = (row.vcpus_max.to_db() - row.vcpus_used) / Ord::max(vcpus, 1);
        let allowed = Ord::min(Ord::min(instances, by_vcpus), wanted - 1);
        if allowed < min {
            let limit = if instances < min {
                Limit::Instances
            } else {
                Limit::Vcpus
            };
            let max = quota(&row, limit);
            return Err(Error::LimitExceeded { limit, max });
        }
        wanted = allowed;
    }
}

/// A quota that an account's row has: of instances, or of vCPUs.
pub const fn quota(row: &account::Model, limit: Limit) -> u64 {
    match limit {
        Limit::Instances => row.instances_max.0,
        _ => row.vcpus_max.0,
    }
}

async fn take(
    txn: &impl ConnectionTrait,
    account: AccountId,
    n: i64,
    vcpus: i64,
    few: Option<i64>,
) -> Result<bool> {
    use account::Column as C;
    let vcpus = vcpus.saturating_mul(n);
    let mut update = account::Entity::update_many()
        .col_expr(C::InstancesUsed, Expr::col(C::InstancesUsed).add(n))
        .col_expr(C::VcpusUsed, Expr::col(C::VcpusUsed).add(vcpus))
        .filter(C::Id.eq(account.to_db()))
        .filter(Expr::col(C::InstancesUsed).add(n).lte(Expr::col(C::InstancesMax)))
        .filter(Expr::col(C::VcpusUsed).add(vcpus).lte(Expr::col(C::VcpusMax)));
    if let Some(few) = few {
        update = update.filter(C::InstancesUsed.lte(few.saturating_sub(n)));
    }
    Ok(update.exec(txn).await.map_err(failed)?.rows_affected == 1)
}

/// Counts an instance's vCPUs anew when its type changes. More of them need room in the quota.
///
/// # Errors
/// `LimitExceeded`.
pub async fn resize(txn: &impl ConnectionTrait, account: AccountId, more_vcpus: i64) -> Result<()> {
    use account::Column as C;
    let mut update = account::Entity::update_many()
        .col_expr(C::VcpusUsed, Expr::col(C::VcpusUsed).add(more_vcpus))
        .filter(C::Id.eq(account.to_db()));
    if more_vcpus > 0 {
        update = update.filter(
            Expr::col(C::VcpusUsed)
                .add(more_vcpus)
                .lte(Expr::col(C::VcpusMax)),
        );
    }
    if update.exec(txn).await.map_err(failed)?.rows_affected == 1 {
        return Ok(());
    }
    let row = load(txn, account).await?;
    Err(Error::LimitExceeded {
        limit: Limit::Vcpus,
        max: quota(&row, Limit::Vcpus),
    })
}
