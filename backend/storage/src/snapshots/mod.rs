//! Snapshots of volumes. A call writes rows and queues one operation; a host does the rest (`backend/operations`), and
//! the data is in the store of snapshots (`backend/snapshots`).

mod copy;
mod create;
mod delete;
mod describe;
mod pending;
mod room;
mod share;

use cumulet_core::RequestContext;
use cumulet_domain::{Error, ResourceKind, Result, id::SnapshotId, snapshot::SnapshotState, tag::Tag};
use cumulet_store::{authority::Grant, entity::snapshot, failed, resource, tags};
use sea_orm::{DatabaseTransaction, EntityTrait as _};

pub use copy::{Copy, copy};
pub(crate) use copy::{copied, encrypt};
pub use create::{NewSnapshot, NewSnapshots, create, create_all};
pub(crate) use create::{insert_hidden, insert_rows, room};
pub use cumulet_snapshots::{Digest, Most, Part, Put, SnapshotStore, Swept, UploadName, Uploads};

pub use crate::sharing::{Grantees, Sharing};
pub use delete::delete;
pub(crate) use delete::end;
pub use describe::{SnapshotQuery, describe};
pub use room::sweep;
pub use share::{grantees, reset, share};

/// A snapshot with its tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotView {
    /// The snapshot.
    pub row: snapshot::Model,
    /// Its tags, sorted by key.
    pub tags: Vec<Tag>,
}

impl SnapshotView {
    /// Its id.
    pub fn id(&self) -> SnapshotId {
        self.row.id.0
    }
}

/// A snapshot's data is there to be used.
///
/// # Errors
/// `IncorrectState`.
pub fn check_completed(row: &snapshot::Model) -> Result<()> {
    match row.state.0 {
        SnapshotState::Completed => Ok(()),
        SnapshotState::Pending | SnapshotState::Error => Err(incorrect(row)),
    }
}

/// The error of a snapshot that is not complete.
fn incorrect(row: &snapshot::Model) -> Error {
    Error::IncorrectState {
        kind: ResourceKind::Snapshot,
        id: row.id.0.to_string(),
        state: row.state.0.name().into(),
        expected: SnapshotState::Completed.name().into(),
    }
}

/// Keeps a new snapshot with its tags. It is shown to the policy as it is going to be.
pub(crate) async fn insert(
    txn: &DatabaseTransaction,
    cx: &RequestContext,
    grant: &Grant,
    view: &SnapshotView,
) -> Result<()> {
    resource::show_new::<snapshot::Entity>(grant, &view.row, &view.tags)?;
    let insert = snapshot::Entity::insert(snapshot::ActiveModel::from(view.row.clone()));
    insert.exec_without_returning(txn).await.map_err(failed)?;
    cx.made(&view.id());
    let id = view.row.id.to_db();
    tags::insert(txn, grant.account(), ResourceKind::Snapshot, &[id], &view.tags).await
}
