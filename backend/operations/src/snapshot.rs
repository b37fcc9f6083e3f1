//! Snapshots as the subject of an operation: one, or those of an instance's volumes that are taken at one moment.

use cumulet_domain::{
    ResourceKind, Result,
    id::{Id, OperationId, SnapshotId, marker},
    snapshot::SnapshotState,
    time::Timestamp,
};
use cumulet_journal::{self as journal, NewOperation, Operation as _, Resource, Target, enqueue};
use cumulet_store::{
    entity::{operation, snapshot},
    images, snapshots, volume_copies,
};
use sea_orm::DatabaseTransaction;
use serde::{Deserialize, Serialize};

use crate::{boxed, create_snapshot::CreateSnapshot};

/// What the taking of snapshots carries: those beside its subject, which are of the same moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TogetherState {
    /// In the order of the volumes' devices.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<SnapshotId>,
}

/// A snapshot, as operations have it.
pub const fn subject(snapshot: i64) -> Resource {
    Resource {
        kind: ResourceKind::Snapshot,
        id: snapshot,
    }
}

/// Has snapshots taken that have just been inserted, all at one moment. Nothing for none.
///
/// # Errors
/// Those of the database.
#[boxed]
pub async fn ask(
    txn: &DatabaseTransaction,
    rows: &[snapshot::Model],
    id: OperationId,
    now: Timestamp,
) -> Result<()> {
    let Some((first, others)) = rows.split_first() else {
        return Ok(());
    };
    let state = TogetherState {
        others: others.iter().map(|row| row.id.0).collect(),
    };
    let on = Target {
        account: first.account.0,
        subject: subject(first.id.to_db()),
        // It has none: there is one operation in a snapshot's life.
        generation: 1,
    };
    let new = NewOperation::of::<CreateSnapshot>(id, on, &state, now)?;
    enqueue(txn, new).await.map(drop)
}

/// Ends the taking of snapshots, and of what is made of them: in words why, where it has failed.
pub(crate) async fn settle(
    txn: &DatabaseTransaction,
    ids: &[i64],
    failure: Option<&str>,
    now: Timestamp,
) -> Result<()> {
    snapshots::close(txn, ids, failure, now).await?;
    volume_copies::settle(txn, ids, failure).await?;
    images::settle(txn, ids, failure).await
}

/// The numbers of an operation's snapshots.
///
/// # Errors
/// `Internal` where what it carries can't be read.
pub fn all_of(operation: &operation::Model) -> Result<Vec<i64>> {
    debug_assert_eq!(operation.kind, CreateSnapshot::NAME);
    let others = journal::state::<CreateSnapshot>(operation)?.others;
    let mut all = vec![operation.subject().1];
    all.extend(others.into_iter().map(Id::<marker::Snapshot>::to_db));
    Ok(all)
}

/// Whether a snapshot is still being taken.
pub(crate) fn is_pending(row: &snapshot::Model) -> bool {
    row.state.0 == SnapshotState::Pending
}
