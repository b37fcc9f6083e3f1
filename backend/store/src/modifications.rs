//! Modifications of volumes as calls and operations change them: each function is a part of a transaction that has locked
//! the volume's instance, if it has one, and then the volume. A volume's row is always what its host is told; the
//! modification keeps what it was.

use cumulet_domain::{
    Result,
    time::Timestamp,
    volume::{ModificationState, VolumeShape},
};
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel as _, QueryFilter, sea_query::Expr,
};

use super::{attachments, failed, rows};
use crate::entity::{
    columns::{Amount, Count, Key, Named},
    instance, volume, volume_modification,
};

/// The last modification of a volume.
///
/// # Errors
/// Those of the database; `Internal` where the row is damaged.
pub async fn find(conn: &impl ConnectionTrait, volume: i64) -> Result<Option<volume_modification::Model>> {
    rows::one(
        volume_modification::Entity::find_by_id(Key::from_db(volume)),
        conn,
    )
    .await
}

/// Puts a new one in the place of the last.
///
/// # Errors
/// Those of the database.
pub async fn begin(
    txn: &impl ConnectionTrait,
    row: &volume::Model,
    target: VolumeShape,
    now: Timestamp,
) -> Result<volume_modification::Model> {
    let original = row.shape();
    let (was, wanted) = (original.provisioned, target.provisioned);
    let new = volume_modification::Model {
        volume: row.id,
        state: Named(ModificationState::Modifying),
        status_message: None,
        original_size_gib: Count(original.size_gib),
        target_size_gib: Count(target.size_gib),
        original_type: Named(original.kind),
        target_type: Named(target.kind),
        original_iops: was.iops.map(Count),
        target_iops: wanted.iops.map(Count),
        original_throughput: was.throughput.map(Count),
        target_throughput: wanted.throughput.map(Count),
        progress: Count(0),
        started_at: now.0,
        ended_at: None,
        generation: None,
    };
    let last = volume_modification::Entity::delete_by_id(row.id);
    last.exec(txn).await.map_err(failed)?;
    let insert = volume_modification::Entity::insert(new.clone().into_active_model());
    insert.exec_without_returning(txn).await.map_err(failed)?;
    Ok(new)
}

/// From this generation of its instance on the volume's host is told of what it is to be; `None`: not at all.
///
/// # Errors
/// Those of the database.
pub async fn set_told(txn: &impl ConnectionTrait, volume: i64, generation: Option<Amount>) -> Result<()> {
    use volume_modification::Column as M;
    let update = volume_modification::Entity::update_many()
        .col_expr(M::Generation, Expr::value(generation))
        .filter(M::Volume.eq(volume));
    update.exec(txn).await.map(drop).map_err(failed)
}

/// Ends a modification: well, or for a reason.
///
/// # Errors
/// Those of the database.
pub async fn end(
    txn: &impl ConnectionTrait,
    row: &volume_modification::Model,
    failure: Option<String>,
    now: Timestamp,
) -> Result<()> {
    use volume_modification::Column as M;
    let (state, progress) = match failure {
        None => (ModificationState::Completed, 100),
        Some(_) => (ModificationState::Failed, row.progress.0),
    };
    let update = volume_modification::Entity::update_many()
        .col_expr(M::State, Expr::value(Named(state)))
        .col_expr(M::StatusMessage, Expr::value(failure))
        .col_expr(M::Progress, Expr::value(Count(progress)))
        .col_expr(M::EndedAt, Expr::value(now.0))
        .col_expr(M::Generation, Expr::value(Option::<Amount>::None))
        .filter(M::Volume.eq(row.volume));
    update.exec(txn).await.map(drop).map_err(failed)
}

/// Makes a volume's row say what it is to be, and claims what it needs more of its host's disk; whether there was room.
/// One that is so already stays so.
///
/// # Errors
/// Those of the database; `Internal` where a row is damaged.
pub async fn apply(txn: &impl ConnectionTrait, row: &volume::Model, target: VolumeShape) -> Result<bool> {
    let root_of = root_of(txn, row).await?;
    let host = match &root_of {
        Some(instance) => instance.host.as_ref(),
        // What is in a store that hosts share takes nothing of a host's disk.
        None => row.host.as_ref().filter(|_| !row.is_shared()),
    };
    let more = i64::from(target.size_gib) - i64::from(row.size_gib.0);
    if let Some(host) = host
        && more != 0
        && !attachments::charge(txn, host, more).await?
    {
        return Ok(false);
    }
    use volume::Column as C;
    let update = volume::Entity::update_many()
        .col_expr(C::SizeGib, Expr::value(Count(target.size_gib)))
        .col_expr(C::VolumeType, Expr::value(Named(target.kind)))
        .col_expr(C::Iops, Expr::value(target.provisioned.iops.map(Count)))
        .col_expr(
            C::Throughput,
            Expr::value(target.provisioned.throughput.map(Count)),
        )
        .filter(C::Id.eq(row.id));
    update.exec(txn).await.map_err(failed)?;
    if let Some(instance) = root_of {
        use instance::Column as I;
        let update = instance::Entity::update_many()
            .col_expr(I::DiskGib, Expr::value(Count(target.size_gib)))
            .filter(I::Id.eq(instance.id));
        update.exec(txn).await.map_err(failed)?;
    }
    Ok(true)
}

/// The instance that starts from a volume: the claim on its host's disk is that one's.
async fn root_of(txn: &impl ConnectionTrait, row: &volume::Model) -> Result<Option<instance::Model>> {
    match attachments::of_volume(txn, row.id.to_db()).await? {
        Some(attached) if attached.is_root() => {
            rows::one(instance::Entity::find_by_id(attached.instance), txn).await
        }
        _ => Ok(None),
    }
}
