//! CopySnapshot: another snapshot of the same data, which is the caller's own. Nothing is copied: data that is named twice
//! is kept until neither needs it. Where plain data is to be encrypted a host does that (`cumulet_operations`), and the
//! copy is pending until then.

use cumulet_core::{RequestContext, tag_room::room as tag_room};
use cumulet_domain::{
    Result,
    account::{AccountId, Principal},
    id::{SnapshotId, marker},
    snapshot::{NO_VOLUME, SnapshotState, check_description},
    tag::Tag,
    volume::{DataKey, EncryptionAsked},
};
use cumulet_journal::Operation as _;
use cumulet_operations::{CreateSnapshot, snapshot as subject};
use cumulet_store::{
    Invalidates,
    authority::Permission,
    disk_keys,
    encryption::by_default,
    entity::{
        columns::{Flag, Key, Named, Owner},
        snapshot,
    },
    resource::{self, Lock},
    tags,
};
use sea_orm::DatabaseTransaction;

use super::{SnapshotView, check_completed, create::room, insert, pending};
use crate::{boxed, encryption};

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
/// `NotFound`; `IncorrectState` where it is not complete; `InvalidParameter`, `ParameterDependency`; `LimitExceeded`.
#[boxed]
pub async fn copy(cx: &RequestContext, who: &Principal, mut what: Copy) -> Result<SnapshotView> {
    let grant = cx.authorise(who, Permission::COPY_SNAPSHOT)?;
    check_description(&what.description)?;
    encryption::key_of(cx, who.account).check_asked("KmsKeyId", &what.encryption)?;
    tags::validate(&what.tags)?;
    what.tags.sort();
    let (call, tags_room) = (cx.clone(), tag_room(cx, who.account, what.tags.len()));
    let (name, nothing) = (CreateSnapshot::NAME, Invalidates::Nothing);
    let asked = cx.ask(name, &cx.store, nothing, move |txn| {
        Box::pin(async move {
            room(txn, &call, grant.account(), 1).await?;
            let source = resource::find::<snapshot::Entity>(txn, &grant, what.source, Lock::Shared).await?;
            check_completed(&source)?;
            let by_default = by_default(txn, grant.account()).await?;
            let key = encryption::key_of_copy(&what.encryption, by_default, source.encrypted.0)?;
            let row = copied(&call, grant.account(), (source, key), what.description)?;
            let made = SnapshotView { row, tags: what.tags };
            insert(txn, &call, &grant, &made).await?;
            if made.row.state.0 == SnapshotState::Pending {
                pending::check_copies(txn, call.config.quotas, grant.account()).await?;
            }
            encrypt(txn, &call, std::slice::from_ref(&made.row)).await?;
            tags_room.check(txn).await?;
            Ok(made)
        })
    });
    asked.await
}

/// The row of a copy with the key that `key_of_copy` has said. It is whole at once, unless it is to be encrypted and there
/// is data: then it waits for that of its source, which is needed from now on, whatever becomes of the source.
pub(crate) fn copied(
    cx: &RequestContext,
    account: AccountId,
    (source, key): (snapshot::Model, DataKey),
    description: String,
) -> Result<snapshot::Model> {
    let now = cx.now();
    let id = cx.rng.id::<marker::Snapshot>();
    let row = snapshot::Model {
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
        data_key: None,
        progress: None,
        ..source.clone()
    };
    if key != DataKey::Fresh {
        let data_key = encryption::of_copy(cx, &source, id)?;
        return Ok(snapshot::Model { data_key, ..row });
    }
    let row = snapshot::Model {
        encrypted: Flag(true),
        data_key: Some(disk_keys::fresh(&cx.rng, &cx.sealer, id)?),
        ..row
    };
    if source.manifest.is_none() {
        return Ok(row);
    }
    Ok(snapshot::Model {
        state: Named(SnapshotState::Pending),
        base: source.manifest,
        manifest: None,
        bytes: None,
        completed_at: None,
        ..row
    })
}

/// Has those copies encrypted that wait for it, where so many may be under way. All are of one account.
pub(crate) async fn encrypt(
    txn: &DatabaseTransaction,
    cx: &RequestContext,
    copies: &[snapshot::Model],
) -> Result<()> {
    let waiting = copies.iter().filter(|row| row.state.0 == SnapshotState::Pending);
    let waiting: Vec<snapshot::Model> = waiting.cloned().collect();
    let Some(first) = waiting.first() else {
        return Ok(());
    };
    pending::check(txn, cx.config.quotas, first.account.0, &[]).await?;
    subject::ask(txn, &waiting, cx.rng.id::<marker::Operation>(), cx.now()).await
}
