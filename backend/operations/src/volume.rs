//! A data volume as the subject of operations. They hold the volume and never the instance: any number of them work on
//! one instance, and none beside an operation on that.

use cumulet_domain::{ResourceKind, Result};
use sea_orm::DatabaseTransaction;

use cumulet_journal::{Resource, Target};
use cumulet_store::{
    attachments,
    entity::{operation, volume},
};

/// A volume, as operations have it.
pub const fn subject(volume: i64) -> Resource {
    Resource {
        kind: ResourceKind::Volume,
        id: volume,
    }
}

/// A volume's row, for an operation that carries out what it says at this generation.
pub fn target(row: &volume::Model, generation: u64) -> Target {
    Target {
        account: row.account.0,
        subject: subject(row.id.to_db()),
        generation,
    }
}

/// The number of the volume that an operation works on.
pub(crate) fn volume_of(operation: &operation::Model) -> i64 {
    operation.subject().1
}

/// The volume of an operation, if that still speaks for it.
pub(crate) async fn current(
    txn: &DatabaseTransaction,
    operation: &operation::Model,
) -> Result<Option<volume::Model>> {
    let row = attachments::find(txn, volume_of(operation)).await?;
    Ok(row.filter(|row| row.generation == operation.generation))
}
