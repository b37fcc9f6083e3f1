//! CopySnapshot: another snapshot of the same data, which is the caller's own. Nothing is copied: data that is named twice
//! is kept until neither needs it.

use cumulet_core::{RequestContext, tag_room::room as tag_room};
use cumulet_domain::{
    Result,
    account::{AccountId, Principal},
    id::{SnapshotId, VolumeId, marker},
    snapshot::{SnapshotState, check_description},
    tag::Tag,
    volume::{EncryptionAsked, key_of_copy},
};
use cumulet_store::{
    Invalidates,
    authority::Permission,
    encryption::by_default,
    entity::{
        columns::{Flag, Key, Named, Owner},
        snapshot,
    },
    resource::{self, Lock},
    tags,
};

use super::{SnapshotView, check_completed, create::room, insert};
use crate::{boxed, encryption};

/// The volume of a copy: none. (On EC2, too, it is an arbitrary one.)
const NO_VOLUME: VolumeId = VolumeId::new(0xffff_ffff);

/// What is copied.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Copy {
    pub source: SnapshotId,
    /// Empty: it has none. (It is EC2's console, not its API, that writes `[Copied …]`, and Terraform makes a copy anew
    /// whose description nobody has asked for.)
    pub description: String,
    pub encryption: EncryptionAsked,
    pub tags: Vec<Tag>,
}

/// Copies a snapshot that the account may make volumes of.
///
/// # Errors
/// `NotFound`; `IncorrectState` where it is not complete; `InvalidParameter`, `ParameterDependency`; `Unsupported` where
/// it is not encrypted and its copy is to be; `LimitExceeded`.
#[boxed]
pub async fn copy(cx: &RequestContext, who: &Principal, mut what: Copy) -> Result<SnapshotView> {
    let grant = cx.authorise(who, Permission::COPY_SNAPSHOT)?;
    check_description(&what.description)?;
    encryption::key_of(cx, who.account).check_asked("KmsKeyId", &what.encryption)?;
    tags::validate(&what.tags)?;
    what.tags.sort();
    let (call, tags_room) = (cx.clone(), tag_room(cx, who.account, what.tags.len()));
    let write = cx.store.write_with(Invalidates::Nothing, move |txn| {
        Box::pin(async move {
            room(txn, &call, grant.account(), 1).await?;
            let source = resource::find::<snapshot::Entity>(txn, &grant, what.source, Lock::Shared).await?;
            check_completed(&source)?;
            let by_default = by_default(txn, grant.account()).await?;
            key_of_copy(what.encryption.encrypted, by_default, source.encrypted.0)?;
            let row = copied(&call, grant.account(), source, what.description)?;
            let made = SnapshotView { row, tags: what.tags };
            insert(txn, &call, &grant, &made).await?;
            tags_room.check(txn).await?;
            Ok(made)
        })
    });
    write.await
}

/// The row of a copy, which is whole at once, and has its source's data key. (Whether there may be a copy without one
/// `key_of_copy` has said.)
pub(crate) fn copied(
    cx: &RequestContext,
    account: AccountId,
    source: snapshot::Model,
    description: String,
) -> Result<snapshot::Model> {
    let now = cx.now();
    let id = cx.rng.id::<marker::Snapshot>();
    let data_key = encryption::of_copy(cx, &source, id)?;
    Ok(snapshot::Model {
        id: Key(id),
        account: Owner(account),
        volume: Key(NO_VOLUME),
        public: Flag(false),
        state: Named(SnapshotState::Completed),
        description,
        host: None,
        base: None,
        created_at: now.0,
        completed_at: Some(now.0),
        data_key,
        ..source
    })
}
