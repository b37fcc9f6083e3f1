//! CopyVolumes: a volume that has what another one has at one moment. It is made of a snapshot of that, which nobody
//! sees: a host takes it as any other (`cumulet_operations`), and the end of its taking makes the copy available, or puts
//! it in error. The source may be in use, and do what it likes meanwhile.

use cumulet_core::{ClientToken, RequestContext, tag_room::room as tag_room};
use cumulet_domain::{
    Error, Result,
    account::Principal,
    id::VolumeId,
    tag::Tag,
    volume::{DataKey, EncryptionAsked, Provisioned, StaysEncrypted, VolumeState, VolumeType, data_key},
};
use cumulet_journal::Operation as _;
use cumulet_operations::CreateSnapshot;
use cumulet_store::{
    Invalidates,
    authority::{Grant, Permission},
    encryption::by_default,
    entity::{account, columns::Named, snapshot, volume},
    lock,
    resource::{self, Lock},
    tags,
};
use sea_orm::DatabaseTransaction;

use super::{
    VolumeView,
    create::{Shape, again, available, keep},
    room::room,
};
use crate::{boxed, encryption, snapshots::insert_hidden};

/// Its name, for client tokens.
const OPERATION: &str = "CopyVolumes";

/// A copy of a volume to be made, in the source's zone.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct NewCopy {
    pub source: VolumeId,
    /// `None`: as large as the source.
    pub size_gib: Option<u32>,
    pub kind: VolumeType,
    pub provisioned: Provisioned,
    /// What is encrypted stays so, whatever this says.
    pub encryption: EncryptionAsked,
    /// The source's are not copied.
    pub tags: Vec<Tag>,
    pub client_token: Option<ClientToken>,
}

/// Copies a volume, attached or not.
///
/// # Errors
/// `NotFound`; `IncorrectState`; `InvalidParameter`, `InvalidCombination`, `ParameterDependency`; `LimitExceeded`;
/// `IdempotentParameterMismatch`. Then nothing has changed.
#[boxed]
pub async fn copy(cx: &RequestContext, who: &Principal, mut new: NewCopy) -> Result<VolumeView> {
    let grant = cx.authorise(who, Permission::COPY_VOLUMES)?.present();
    // Before anything is read, where it can be said.
    if let Some(size_gib) = new.size_gib {
        new.kind.check(size_gib, new.provisioned)?;
    }
    encryption::key_of(cx, who.account).check_asked("KmsKeyId", &new.encryption)?;
    tags::validate(&new.tags)?;
    if let Some(token) = &new.client_token {
        token.validate()?;
    }
    new.tags.sort();
    let room = tag_room(cx, who.account, new.tags.len());
    let (call, account) = (cx.clone(), who.account);
    let (name, nothing) = (CreateSnapshot::NAME, Invalidates::Nothing);
    let asked = cx.ask(name, &cx.store, nothing, move |txn| {
        Box::pin(async move {
            if let Some(token) = &new.client_token
                && let Some(made) = token.find(txn, account, OPERATION).await?
            {
                return again(txn, &grant, &made).await;
            }
            let view = insert(txn, &call, &grant, &new).await?;
            if let Some(token) = &new.client_token {
                let made = view.id().to_string();
                token.keep(txn, account, OPERATION, made, call.now()).await?;
            }
            room.check(txn).await?;
            Ok(view)
        })
    });
    asked.await
}

async fn insert(
    txn: &DatabaseTransaction,
    cx: &RequestContext,
    grant: &Grant,
    new: &NewCopy,
) -> Result<VolumeView> {
    let account = grant.account();
    let find = |lock| resource::find::<volume::Entity>(txn, grant, new.source, lock);
    // Who has no such volume holds up nobody for it; and accounts come before volumes (`store::lock`).
    find(Lock::None).await?;
    lock::rows::<account::Entity>(txn, account::Column::Id, &[account.to_db()]).await?;
    let source = find(Lock::Exclusive).await?;
    let size_gib = size(new, &source)?;
    new.kind.check(size_gib, new.provisioned)?;
    room(txn, cx.config.quotas, account, (1, size_gib)).await?;
    let taken = insert_hidden(txn, cx, grant, &source).await?;
    let key = key(new, by_default(txn, account).await?, &taken)?;
    let shape = Shape {
        availability_zone: &source.availability_zone,
        size_gib,
        kind: new.kind,
        provisioned: new.provisioned,
    };
    let row = volume::Model {
        // It waits for its snapshot.
        state: Named(VolumeState::Creating),
        source_volume: Some(source.id),
        ..available(cx, account, shape, Some(&taken), key)?
    };
    keep(txn, cx, grant, row, &new.tags).await
}

/// Whose data key it has. Of an encrypted source it is encrypted, also where a request says that it is not to be, as on
/// EC2.
fn key(new: &NewCopy, by_default: bool, taken: &snapshot::Model) -> Result<DataKey> {
    let asked = new.encryption.encrypted.filter(|_| !taken.encrypted.0);
    let key = data_key(asked, by_default, taken.encrypted.0);
    key.map_err(|StaysEncrypted| Error::Internal("nothing plain was asked for".into()))
}

/// As large as was asked for, and at least as its source.
fn size(new: &NewCopy, source: &volume::Model) -> Result<u32> {
    let least = source.size_gib.0;
    match new.size_gib {
        None => Ok(least),
        Some(size) if size < least => {
            let reason = format!("the volume '{}' has {least} GiB", source.id.0);
            Err(Error::invalid("Size", &size.to_string(), reason))
        }
        Some(size) => Ok(size),
    }
}
