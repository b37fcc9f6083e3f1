//! Data volumes and their attachments as calls and operations change them: each function is a part of a transaction
//! that has locked the instance and then the volume.

use std::collections::HashMap;

use cumulet_domain::{
    Error, Result,
    id::VolumeId,
    image::DiskFormat,
    instance::State,
    message::KeptRoot,
    time::Timestamp,
    volume::{AttachmentState, VolumeState},
};
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, ExprTrait as _, QueryFilter, QueryOrder as _,
    QuerySelect as _, QueryTrait as _, sea_query::Expr,
};

use super::{failed, instances, lock, rows, snapshots};
use crate::entity::{
    columns::{Amount, Flag, Named},
    host, instance,
    volume::{self, made_as},
    volume_attachment,
};

/// A volume that is there, or was until lately.
///
/// # Errors
/// Those of the database; `Internal` where the row is damaged.
pub async fn find(conn: &impl ConnectionTrait, volume: i64) -> Result<Option<volume::Model>> {
    let row = volume::Entity::find().filter(volume::Column::Id.eq(volume));
    Ok(rows::all(row, conn).await?.pop())
}

/// Where a volume is attached.
///
/// # Errors
/// Those of the database; `Internal` where the row is damaged.
pub async fn of_volume(conn: &impl ConnectionTrait, volume: i64) -> Result<Option<volume_attachment::Model>> {
    let row = volume_attachment::Entity::find().filter(volume_attachment::Column::Volume.eq(volume));
    Ok(rows::all(row, conn).await?.pop())
}

/// All of an instance's.
///
/// # Errors
/// Those of [`of_volume`].
pub async fn of_instance(
    conn: &impl ConnectionTrait,
    instance: i64,
) -> Result<Vec<volume_attachment::Model>> {
    use volume_attachment::Column as A;
    let theirs = volume_attachment::Entity::find().filter(A::Instance.eq(instance));
    rows::all(theirs.order_by_asc(A::Device), conn).await
}

/// Keeps others from a volume until the transaction ends.
///
/// # Errors
/// Those of the database.
pub async fn lock(txn: &impl ConnectionTrait, volume: i64) -> Result<()> {
    lock::rows::<volume::Entity>(txn, volume::Column::Id, &[volume]).await
}

/// The same, and from the instance that it is attached to, which comes first.
///
/// # Errors
/// Those of the database; `Internal` where the row is damaged.
pub async fn lock_with_instance(txn: &impl ConnectionTrait, volume: i64) -> Result<()> {
    if lock::needed(txn)
        && let Some(attached) = of_volume(txn, volume).await?
    {
        instances::lock(txn, &[attached.instance.to_db()]).await?;
    }
    lock(txn, volume).await
}

/// The same, and from the counters of the host that has its data, which come between: that of its own, or where the
/// instance is that starts from it.
///
/// # Errors
/// Those of the database; `Internal` where a row is damaged.
pub async fn lock_with_instance_and_host(txn: &impl ConnectionTrait, volume: i64) -> Result<()> {
    if lock::needed(txn)
        && let Some(attached) = of_volume(txn, volume).await?
    {
        instances::lock(txn, &[attached.instance.to_db()]).await?;
        if attached.is_root()
            && let Some(row) = rows::one(instance::Entity::find_by_id(attached.instance), txn).await?
            && let Some(name) = row.host
        {
            lock_host(txn, name).await?;
        }
    }
    lock_with_host(txn, volume).await
}

async fn lock_host(txn: &impl ConnectionTrait, name: String) -> Result<()> {
    let row = host::Entity::find_by_id(name).lock_exclusive();
    let row = row.select_only().column(host::Column::Id);
    txn.query_one(&row.into_query()).await.map(drop).map_err(failed)
}

/// The same, and from the counters of the host that has its data, which come first.
///
/// # Errors
/// Those of the database; `Internal` where the row is damaged.
pub async fn lock_with_host(txn: &impl ConnectionTrait, volume: i64) -> Result<()> {
    if lock::needed(txn)
        && let Some(name) = find(txn, volume).await?.and_then(|row| row.host)
    {
        lock_host(txn, name).await?;
    }
    lock(txn, volume).await
}

/// Puts a volume into a state, at its next generation. Whether it was of the generation that was read.
///
/// # Errors
/// Those of the database.
pub async fn moved(
    txn: &impl ConnectionTrait,
    row: &volume::Model,
    state: VolumeState,
    deleted_at: Option<Timestamp>,
) -> Result<bool> {
    use volume::Column as C;
    let update = volume::Entity::update_many()
        .col_expr(C::State, Expr::value(Named(state)))
        .col_expr(C::DeletedAt, Expr::value(deleted_at.map(|at| at.0)))
        .col_expr(C::Generation, Expr::value(row.generation.next()))
        .filter(C::Id.eq(row.id))
        .filter(C::Generation.eq(row.generation));
    Ok(update.exec(txn).await.map_err(failed)?.rows_affected == 1)
}

/// Says what has become of an attachment. `generation` is the instance's from which on the host is told so.
///
/// # Errors
/// Those of the database.
pub async fn set_state(
    txn: &impl ConnectionTrait,
    row: &volume_attachment::Model,
    state: AttachmentState,
    generation: Option<Amount>,
) -> Result<()> {
    use volume_attachment::Column as A;
    let update = volume_attachment::Entity::update_many()
        .col_expr(A::State, Expr::value(Named(state)))
        .col_expr(A::Generation, Expr::value(generation))
        .filter(A::Instance.eq(row.instance))
        .filter(A::Volume.eq(row.volume));
    update.exec(txn).await.map(drop).map_err(failed)
}

/// Ends an attachment.
///
/// # Errors
/// Those of the database.
pub async fn remove(txn: &impl ConnectionTrait, row: &volume_attachment::Model) -> Result<()> {
    use volume_attachment::Column as A;
    let delete = volume_attachment::Entity::delete_many()
        .filter(A::Instance.eq(row.instance))
        .filter(A::Volume.eq(row.volume));
    delete.exec(txn).await.map(drop).map_err(failed)
}

/// A host is to have a volume that none has yet: its disk is claimed for it by one conditional update, unless hosts share
/// the store. Whether there was room.
///
/// # Errors
/// `Unavailable` where another claim was quicker; those of the database.
pub async fn claim(txn: &impl ConnectionTrait, row: &volume::Model, name: &str) -> Result<bool> {
    use volume::Column as C;
    if !row.is_shared() && !charge(txn, name, row.size_gib.0.into()).await? {
        return Ok(false);
    }
    let placed = volume::Entity::update_many()
        .col_expr(C::Host, Expr::value(name))
        .col_expr(
            C::Format,
            Expr::value(Named(made_as(row.encrypted.0, row.size_gib.0))),
        )
        .filter(C::Id.eq(row.id))
        .filter(C::Generation.eq(row.generation))
        .filter(C::Host.is_null());
    match placed.exec(txn).await.map_err(failed)?.rows_affected {
        1 => Ok(true),
        _ => Err(Error::Unavailable(format!(
            "{} has come to a host meanwhile",
            row.id.0
        ))),
    }
}

/// Claims so many GiB more of a host's disk, or gives some back: one conditional update. Whether there was room.
pub(crate) async fn charge(txn: &impl ConnectionTrait, name: &str, more: i64) -> Result<bool> {
    use host::Column as H;
    let mut charge = host::Entity::update_many()
        .col_expr(H::DiskGibUsed, Expr::col(H::DiskGibUsed).add(more))
        .filter(H::Id.eq(name));
    if more > 0 {
        charge = charge.filter(Expr::col(H::DiskGibUsed).add(more).lte(Expr::col(H::DiskGibMax)));
    }
    Ok(charge.exec(txn).await.map_err(failed)?.rows_affected == 1)
}

/// Another host keeps a volume from now on, whose store hosts share and which no guest has. What the host before was told
/// of snapshots of it is void: by the time that it has read the volume, a guest of this one may have written to it.
/// Whether the volume was as its row says.
///
/// # Errors
/// Those of the database.
pub async fn hand_over(txn: &impl ConnectionTrait, row: &volume::Model, name: &str) -> Result<bool> {
    use volume::Column as C;
    let update = volume::Entity::update_many()
        .col_expr(C::Host, Expr::value(name))
        .filter(C::Id.eq(row.id))
        .filter(C::Generation.eq(row.generation))
        .filter(C::Host.eq(row.host.clone()))
        .filter(volume::is_shared());
    if update.exec(txn).await.map_err(failed)?.rows_affected != 1 {
        return Ok(false);
    }
    snapshots::untold_of(txn, row.id.to_db()).await?;
    Ok(true)
}

/// Gives back what a volume has claimed of its host, of which nothing is left there.
///
/// # Errors
/// Those of the database.
pub async fn give_back(txn: &impl ConnectionTrait, row: &volume::Model) -> Result<()> {
    use volume::Column as C;
    let Some(name) = &row.host else {
        return Ok(());
    };
    if !row.is_shared() {
        charge(txn, name, -i64::from(row.size_gib.0)).await?;
    }
    let forget = volume::Entity::update_many()
        .col_expr(C::Host, Expr::value(Option::<String>::None))
        .col_expr(C::Format, Expr::value(Option::<String>::None))
        .filter(C::Id.eq(row.id));
    forget.exec(txn).await.map(drop).map_err(failed)
}

/// A host has a volume's data: from now on it is never made anew.
///
/// # Errors
/// Those of the database.
pub async fn made(txn: &impl ConnectionTrait, volume: i64, now: Timestamp) -> Result<()> {
    use volume::Column as C;
    let update = volume::Entity::update_many()
        .col_expr(C::MadeAt, Expr::value(now.0))
        .filter(C::Id.eq(volume))
        .filter(C::MadeAt.is_null());
    update.exec(txn).await.map(drop).map_err(failed)
}

/// Roots that are to outlive instances which have come up, and of which nobody has noted that they are there.
///
/// # Errors
/// Those of the database; `Internal` where a row is damaged.
pub async fn roots_to_note(conn: &impl ConnectionTrait) -> Result<Vec<volume::Model>> {
    use instance::Column as I;
    use volume_attachment::Column as A;
    let up = [State::Running, State::Stopping, State::Stopped].map(Named);
    let up = instance::Entity::find()
        .select_only()
        .column(I::Id)
        .filter(I::State.is_in(up));
    let roots = volume_attachment::Entity::find()
        .select_only()
        .column(A::Volume)
        .filter(A::BootIndex.eq(0))
        .filter(A::DeleteOnTermination.eq(Flag(false)))
        .filter(A::Instance.in_subquery(up.into_query()));
    let unnoted = volume::Entity::find()
        .filter(volume::Column::Id.in_subquery(roots.into_query()))
        .filter(volume::Column::MadeAt.is_null());
    rows::all(unnoted, conn).await
}

/// The roots that outlive their instances, by instance: of those that have come up at least once, so that there is
/// something to keep.
///
/// # Errors
/// Those of the database; `Internal` where a row is damaged.
pub async fn kept_roots(
    conn: &impl ConnectionTrait,
    instances: impl IntoIterator<Item = i64>,
) -> Result<HashMap<i64, KeptRoot>> {
    use volume_attachment::Column as A;
    let ids: Vec<i64> = instances.into_iter().collect();
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let roots = volume_attachment::Entity::find()
        .filter(A::Instance.is_in(ids))
        .filter(A::BootIndex.eq(0))
        .filter(A::DeleteOnTermination.eq(Flag(false)));
    kept_among(conn, &rows::all(roots, conn).await?).await
}

/// Those of the attachments that are of such roots.
///
/// # Errors
/// Those of [`kept_roots`].
pub async fn kept_among(
    conn: &impl ConnectionTrait,
    attached: &[volume_attachment::Model],
) -> Result<HashMap<i64, KeptRoot>> {
    let roots = attached
        .iter()
        .filter(|row| row.is_root() && !row.delete_on_termination.0);
    let of: HashMap<_, _> = roots.map(|root| (root.volume, root.instance.to_db())).collect();
    if of.is_empty() {
        return Ok(HashMap::new());
    }
    let made = volume::Entity::find()
        .filter(volume::Column::Id.is_in(of.keys().copied()))
        .filter(volume::Column::MadeAt.is_not_null());
    let kept = rows::all(made, conn).await?.into_iter().filter_map(|row| {
        let root = KeptRoot {
            volume: row.id.0,
            encrypted: row.encrypted.0,
        };
        Some((*of.get(&row.id)?, root))
    });
    Ok(kept.collect())
}

/// An instance has come up with all of its volumes: those beside its root, and that one where it outlives the instance.
///
/// # Errors
/// Those of the database.
pub async fn all_made(txn: &impl ConnectionTrait, instance: i64, now: Timestamp) -> Result<()> {
    use volume::Column as C;
    use volume_attachment::Column as A;
    let held = [AttachmentState::Attaching, AttachmentState::Attached].map(Named);
    let theirs = volume_attachment::Entity::find()
        .select_only()
        .column(A::Volume)
        .filter(A::Instance.eq(instance))
        .filter(A::BootIndex.is_null().or(A::DeleteOnTermination.eq(Flag(false))))
        .filter(A::State.is_in(held));
    let there = instance::Entity::find()
        .select_only()
        .column(instance::Column::Host)
        .filter(instance::Column::Id.eq(instance));
    let update = volume::Entity::update_many()
        .col_expr(C::MadeAt, Expr::value(now.0))
        .filter(C::Id.in_subquery(theirs.into_query()))
        // A root is where its instance is; what another host keeps has not come there yet.
        .filter(C::Host.in_subquery(there.into_query()).or(C::Image.is_not_null()))
        .filter(C::MadeAt.is_null());
    update.exec(txn).await.map(drop).map_err(failed)
}

/// What the end of an instance leaves to be done.
#[derive(Debug, Default)]
pub struct Released {
    /// Volumes that have ended with it.
    pub ended: Vec<i64>,
    /// Those that end as soon as their data is deleted, as they are now.
    pub deleting: Vec<volume::Model>,
}

/// Ends the attachments of an instance that has ended, which are all of its own. Volumes that end with it are deleted; the
/// others are free. `kept` is its root, where that outlives it, and the host that has it as a volume and has been charged
/// for it.
///
/// # Errors
/// Those of the database; `Internal` where a row is damaged.
pub async fn release(
    txn: &impl ConnectionTrait,
    theirs: &[volume_attachment::Model],
    kept: Option<(VolumeId, &str)>,
    now: Timestamp,
) -> Result<Released> {
    let Some(first) = theirs.first() else {
        return Ok(Released::default());
    };
    if let Some((root, host)) = kept {
        settle(txn, root, host).await?;
    }
    // A root's data is the instance's, and has gone with it, unless a host has it as a volume.
    let ends = |row: &&volume_attachment::Model| row.is_root() && kept.is_none();
    let (roots, data): (Vec<_>, Vec<_>) = theirs.iter().partition(ends);
    let mut released = Released {
        ended: roots.iter().map(|row| row.volume.to_db()).collect(),
        deleting: Vec::new(),
    };
    delete_all(txn, &released.ended, now).await?;
    if !data.is_empty() {
        release_data(txn, &data, now, &mut released).await?;
    }
    use volume_attachment::Column as A;
    let delete = volume_attachment::Entity::delete_many().filter(A::Instance.eq(first.instance));
    delete.exec(txn).await.map_err(failed)?;
    Ok(released)
}

/// A root is on a host from now on, as any volume.
async fn settle(txn: &impl ConnectionTrait, root: VolumeId, host: &str) -> Result<()> {
    use volume::Column as C;
    let update = volume::Entity::update_many()
        .col_expr(C::Host, Expr::value(host))
        .col_expr(C::Format, Expr::value(Named(DiskFormat::Qcow2)))
        .filter(C::Id.eq(root.to_db()))
        .filter(C::Host.is_null());
    update.exec(txn).await.map(drop).map_err(failed)
}

/// Volumes of which no host has anything are deleted.
async fn delete_all(txn: &impl ConnectionTrait, volumes: &[i64], now: Timestamp) -> Result<()> {
    use volume::Column as C;
    if volumes.is_empty() {
        return Ok(());
    }
    let update = volume::Entity::update_many()
        .col_expr(C::State, Expr::value(Named(VolumeState::Deleted)))
        .col_expr(C::DeletedAt, Expr::value(now.0))
        .col_expr(C::Generation, Expr::col(C::Generation).add(1))
        .filter(C::Id.is_in(volumes.iter().copied()));
    update.exec(txn).await.map(drop).map_err(failed)
}

async fn release_data(
    txn: &impl ConnectionTrait,
    theirs: &[&volume_attachment::Model],
    now: Timestamp,
    released: &mut Released,
) -> Result<()> {
    let ids: Vec<i64> = theirs.iter().map(|row| row.volume.to_db()).collect();
    lock::rows::<volume::Entity>(txn, volume::Column::Id, &ids).await?;
    let all = volume::Entity::find().filter(volume::Column::Id.is_in(ids));
    for row in rows::all(all.order_by_asc(volume::Column::Id), txn).await? {
        let attached = theirs.iter().find(|attached| attached.volume == row.id);
        let ends = attached.is_some_and(|attached| attached.delete_on_termination.0);
        match (ends, &row.host) {
            (false, _) => drop(moved(txn, &row, VolumeState::Available, None).await?),
            (true, None) => {
                moved(txn, &row, VolumeState::Deleted, Some(now)).await?;
                released.ended.push(row.id.to_db());
            }
            (true, Some(_)) => {
                moved(txn, &row, VolumeState::Deleting, None).await?;
                released.deleting.push(volume::Model {
                    state: Named(VolumeState::Deleting),
                    generation: row.generation.next(),
                    ..row
                });
            }
        }
    }
    Ok(())
}
