//! An image as it is made of an instance that is shut down for it: what its operations carry, how they are asked for,
//! and what becomes of its snapshots where they come to nothing.

use cumulet_domain::{
    Error, ResourceKind, Result,
    id::{Id, OperationId, SnapshotId, marker},
    time::Timestamp,
};
use cumulet_journal::{self as journal, NewOperation, Operation as _, enqueue};
use cumulet_store::{
    entity::{instance, snapshot},
    failed, images, snapshots,
};
use sea_orm::{ActiveModelTrait, ActiveValue::Set, DatabaseTransaction, IntoActiveModel};
use serde::{Deserialize, Serialize};

use crate::{
    boxed,
    create_image::CreateImage,
    instance::{subject as instance_subject, target},
    run_again::RunAgain,
    snapshot::{self as subject, settle},
};

/// What the operations of an image carry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageState {
    /// The snapshots that are to be taken while the guest is off, in the order of the volumes' devices.
    pub snapshots: Vec<SnapshotId>,
}

impl ImageState {
    /// Their numbers.
    pub(crate) fn ids(&self) -> Vec<i64> {
        self.snapshots
            .iter()
            .copied()
            .map(Id::<marker::Snapshot>::to_db)
            .collect()
    }
}

/// Has a running instance shut down, snapshots taken that have just been inserted, and the instance started again. Who
/// calls has the instance's lock.
///
/// # Errors
/// `IncorrectState` where another image is being made of it; `Unavailable` where another operation is under way for the
/// instance; those of the database.
#[boxed]
pub async fn ask(
    txn: &DatabaseTransaction,
    row: &instance::Model,
    rows: &[snapshot::Model],
    id: OperationId,
    now: Timestamp,
) -> Result<()> {
    let state = ImageState {
        snapshots: rows.iter().map(|row| row.id.0).collect(),
    };
    let open = journal::active(txn, instance_subject(row.id.to_db())).await?;
    if open.is_some_and(|open| [CreateImage::NAME, RunAgain::NAME].contains(&open.kind.as_str())) {
        return Err(Error::IncorrectState {
            kind: ResourceKind::Instance,
            id: row.id.0.to_string(),
            state: "rebooting for another image".into(),
            expected: row.state.0.name().into(),
        });
    }
    let generation = raised(txn, row).await?;
    let new = NewOperation::of::<CreateImage>(id, target(row, generation), &state, now)?;
    enqueue(txn, new).await.map(drop)
}

/// The instance's next generation, which it has from now on.
pub(crate) async fn raised(txn: &DatabaseTransaction, row: &instance::Model) -> Result<u64> {
    let generation = row.generation.next();
    let mut change = row.clone().into_active_model();
    change.generation = Set(generation);
    change.update(txn).await.map_err(failed)?;
    Ok(generation.0)
}

/// Ends snapshots that nobody has been told to take, and nobody will be.
pub(crate) async fn abandon(
    txn: &DatabaseTransaction,
    state: &ImageState,
    why: &str,
    now: Timestamp,
) -> Result<()> {
    let ids = state.ids();
    let Some(first) = ids.first() else { return Ok(()) };
    images::lock_waiting(txn, &ids).await?;
    snapshots::lock(txn, &ids).await?;
    if journal::active(txn, subject::subject(*first)).await?.is_some() {
        return Ok(());
    }
    settle(txn, &ids, Some(why), now).await
}
