//! The operations on data volumes. Their subject, which they hold, is the volume and never the instance: any number
//! of them work on one instance, and none beside an operation on that.
//!
//! - `attach`, `detach`: a guest that runs is to have a volume, or to let go of it.
//! - `plug`: what those two have in common.
//! - `delete`: nothing of a volume is to be left on its host.
//! - `round`: what their steps share.

mod attach;
mod delete;
mod detach;
mod plug;
mod round;
#[cfg(test)]
pub(super) mod tests;

use cumulet_domain::{ResourceKind, Result};
use sea_orm::DatabaseTransaction;

pub use attach::AttachVolume;
pub use delete::DeleteVolume;
pub(super) use delete::delete_all;
pub use detach::DetachVolume;
use round::VolumeRound;

use crate::{
    entity::{operation, volume},
    journal::{Resource, Target},
    store::attachments,
};

/// A volume, as operations have it.
pub(crate) const fn subject(volume: i64) -> Resource {
    Resource {
        kind: ResourceKind::Volume,
        id: volume,
    }
}

/// A volume's row, for an operation that carries out what it says at this generation.
pub(crate) fn target(row: &volume::Model, generation: i64) -> Target {
    Target {
        account: row.account.0.to_db(),
        subject: subject(row.id.to_db()),
        generation,
    }
}

/// The number of the volume that an operation works on.
fn volume_of(operation: &operation::Model) -> i64 {
    operation.subject().1
}

/// The volume of an operation, if that still speaks for it.
async fn current(txn: &DatabaseTransaction, operation: &operation::Model) -> Result<Option<volume::Model>> {
    let row = attachments::find(txn, volume_of(operation)).await?;
    Ok(row.filter(|row| row.generation == operation.generation))
}
