//! The pool of Ceph's that hosts share for volumes, as the operator has it: the first that was told, until it is forgotten.

use cumulet_core::Parts;
use cumulet_domain::{Error, Result};
use cumulet_store::{column, entity::volume, pool};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QuerySelect};

use crate::boxed;

/// Forgets which pool is the cloud's, so that it is the one that a host tells next; what it was, if there was one.
///
/// # Errors
/// `InvalidParameter` where volumes are in it.
#[boxed]
pub async fn forget_pool(parts: &Parts) -> Result<Option<String>> {
    let write = parts.store.write(|txn| {
        Box::pin(async move {
            let kept = pool::forget(txn).await?;
            let left = column::<_, i64>(there(), txn).await?.len();
            let full = kept.as_deref().filter(|_| left > 0);
            if let Some(pool) = full {
                let reason = format!("volumes are in it: {left}");
                return Err(Error::invalid("Pool", pool, reason));
            }
            Ok(kept)
        })
    });
    write.await
}

/// Volumes whose data is there, or may be.
fn there() -> sea_orm::Select<volume::Entity> {
    volume::Entity::find()
        .select_only()
        .column(volume::Column::Id)
        .filter(volume::is_shared())
        .filter(volume::Column::Host.is_not_null())
}
