//! An instance as the subject of operations.

use cumulet_domain::{ResourceKind, Result, id::InstanceId};
use sea_orm::DatabaseTransaction;

use cumulet_journal::{Resource, Target};
use cumulet_store::{
    entity::{instance, operation},
    instances,
};

/// An instance, as operations have it.
pub const fn subject(instance: i64) -> Resource {
    Resource {
        kind: ResourceKind::Instance,
        id: instance,
    }
}

/// An instance's row, for an operation that carries out what it says at this generation.
pub const fn target(row: &instance::Model, generation: u64) -> Target {
    Target {
        account: row.account.0,
        subject: subject(row.id.to_db()),
        generation,
    }
}

/// The same, as an operation's row has its subject.
pub const fn instance_subject(instance: i64) -> (&'static str, i64) {
    (ResourceKind::Instance.resource_type(), instance)
}

/// The number of the instance that an operation works on.
pub fn instance_of(operation: &operation::Model) -> i64 {
    operation.subject().1
}

/// The same as an id.
pub(crate) fn id_of(operation: &operation::Model) -> InstanceId {
    InstanceId::from_db(instance_of(operation))
}

/// The lock under which operations on an instance begin and end.
pub(crate) async fn lock(txn: &DatabaseTransaction, operation: &operation::Model) -> Result<()> {
    instances::lock(txn, &[instance_of(operation)]).await
}
