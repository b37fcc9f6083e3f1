//! CreateVolume: a row, and nothing on any host yet. The first host that has an instance with it makes its file, which
//! takes no longer than a command takes anyway; so it is available at once, though the answer says `creating`, as
//! EC2's always does.

use cumulet_core::{ClientToken, RequestContext, tag_room::room as tag_room};
use cumulet_domain::{
    Error, ResourceKind, Result,
    account::{AccountId, Principal},
    id::{SnapshotId, VolumeId, marker},
    tag::Tag,
    volume::{DataKey, EncryptionAsked, Provisioned, StaysEncrypted, VolumeState, VolumeType, data_key},
};
use cumulet_store::{
    Invalidates,
    authority::{Grant, Permission},
    encryption::by_default,
    entity::{
        account,
        columns::{Amount, Count, Flag, Key, Named, Owner},
        snapshot, volume,
    },
    failed, lock,
    resource::{self, Lock},
    tags,
};
use sea_orm::{ActiveValue::NotSet, DatabaseTransaction, EntityTrait};

use crate::{
    boxed, encryption,
    snapshots::check_completed,
    volumes::{VolumeView, room::room},
};

/// Its name, for client tokens.
const OPERATION: &str = "CreateVolume";

/// A volume to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct NewVolume {
    pub availability_zone: String,
    /// `None`: as large as the snapshot.
    pub size_gib: Option<u32>,
    /// What it is made of; `None`: it is empty.
    pub snapshot: Option<SnapshotId>,
    pub kind: VolumeType,
    pub provisioned: Provisioned,
    pub encryption: EncryptionAsked,
    pub tags: Vec<Tag>,
    pub client_token: Option<ClientToken>,
}

/// Makes a volume.
///
/// # Errors
/// `NoZone`; `InvalidParameter`, `InvalidCombination`, `ParameterDependency`; `LimitExceeded`; `IdempotentParameterMismatch`.
#[boxed]
pub async fn create(cx: &RequestContext, who: &Principal, mut new: NewVolume) -> Result<VolumeView> {
    let grant = cx.authorise(who, Permission::CREATE_VOLUME)?.present();
    if !cx.config.availability_zones.contains(&new.availability_zone) {
        return Err(Error::NoZone {
            name: new.availability_zone.chars().take(128).collect(),
        });
    }
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
    let write = cx.store.write_with(Invalidates::Nothing, move |txn| {
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
    write.await
}

/// The volume that the same request has made before.
pub(super) async fn again(txn: &DatabaseTransaction, grant: &Grant, made: &str) -> Result<VolumeView> {
    let gone = |_| resource::not_found::<volume::Entity>(made.to_owned());
    let id: VolumeId = made.parse().map_err(gone)?;
    let row = resource::find::<volume::Entity>(txn, grant, id, Lock::None).await?;
    let mut tags = tags::of(txn, ResourceKind::Volume, &[id.to_db()]).await?;
    Ok(VolumeView {
        row,
        attachment: None,
        tags: tags.remove(&id.to_db()).unwrap_or_default(),
    })
}

async fn insert(
    txn: &DatabaseTransaction,
    cx: &RequestContext,
    grant: &Grant,
    new: &NewVolume,
) -> Result<VolumeView> {
    let account = grant.account();
    // Before the snapshot's (`store::lock`).
    lock::rows::<account::Entity>(txn, account::Column::Id, &[account.to_db()]).await?;
    let source = source(txn, grant, new).await?;
    let size_gib = size(new, source.as_ref())?;
    new.kind.check(size_gib, new.provisioned)?;
    room(txn, cx.config.quotas, account, (1, size_gib)).await?;
    let key = key(txn, account, new, source.as_ref()).await?;
    let shape = Shape {
        availability_zone: &new.availability_zone,
        size_gib,
        kind: new.kind,
        provisioned: new.provisioned,
    };
    let row = available(cx, account, shape, source.as_ref(), key)?;
    keep(txn, cx, grant, row, &new.tags).await
}

/// Where a new volume is, how large, and how fast.
pub(super) struct Shape<'a> {
    pub(super) availability_zone: &'a str,
    pub(super) size_gib: u32,
    pub(super) kind: VolumeType,
    pub(super) provisioned: Provisioned,
}

/// The row of an account's new volume, made of a snapshot or empty.
pub(super) fn available(
    cx: &RequestContext,
    account: AccountId,
    shape: Shape<'_>,
    source: Option<&snapshot::Model>,
    key: DataKey,
) -> Result<volume::Model> {
    let id = cx.rng.id::<marker::Volume>();
    let data_key = encryption::of_volume(cx, key, source, id)?;
    Ok(volume::Model {
        id: Key(id),
        account: Owner(account),
        availability_zone: shape.availability_zone.to_owned(),
        size_gib: Count(shape.size_gib),
        volume_type: Named(shape.kind),
        state: Named(VolumeState::Available),
        state_message: None,
        image: None,
        snapshot: source.map(|row| row.id),
        encrypted: Flag(data_key.is_some()),
        iops: shape.provisioned.iops.map(Count),
        throughput: shape.provisioned.throughput.map(Count),
        host: None,
        generation: Amount(1),
        created_at: cx.now().0,
        deleted_at: None,
        made_at: None,
        auto_enable_io: None,
        data_key,
        source_volume: None,
        format: None,
        store: volume::kept_as(cx.config.volume_store),
    })
}

/// Keeps a new volume with its tags. It is shown to the policy as it is going to be.
pub(super) async fn keep(
    txn: &DatabaseTransaction,
    cx: &RequestContext,
    grant: &Grant,
    row: volume::Model,
    wanted: &[Tag],
) -> Result<VolumeView> {
    resource::show_new::<volume::Entity>(grant, &row, wanted)?;
    let made = volume::ActiveModel {
        state_message: NotSet,
        ..row.clone().into()
    };
    let insert = volume::Entity::insert(made).exec_without_returning(txn);
    insert.await.map_err(failed)?;
    cx.made(&row.id.0);
    let (kind, account) = (ResourceKind::Volume, grant.account());
    tags::insert(txn, account, kind, &[row.id.to_db()], wanted).await?;
    Ok(VolumeView {
        row,
        attachment: None,
        tags: wanted.to_vec(),
    })
}

/// The snapshot that it is made of. It stays until the volume's row is there, which says that its data is needed.
async fn source(
    txn: &DatabaseTransaction,
    grant: &Grant,
    new: &NewVolume,
) -> Result<Option<snapshot::Model>> {
    let Some(id) = new.snapshot else {
        return Ok(None);
    };
    let row = resource::find::<snapshot::Entity>(txn, grant, id, Lock::Shared).await?;
    check_completed(&row)?;
    Ok(Some(row))
}

/// Whose data key it has.
async fn key(
    txn: &DatabaseTransaction,
    account: AccountId,
    new: &NewVolume,
    source: Option<&snapshot::Model>,
) -> Result<DataKey> {
    let by_default = by_default(txn, account).await?;
    let is_encrypted = source.is_some_and(|row| row.encrypted.0);
    let key = data_key(new.encryption.encrypted, by_default, is_encrypted);
    key.map_err(|StaysEncrypted| {
        let of = source.map_or_else(String::new, |row| row.id.0.to_string());
        let reason = format!("The parameter Encrypted can't be false where the snapshot '{of}' is encrypted");
        Error::InvalidCombination { reason }
    })
}

/// As large as was asked for, and at least as its snapshot.
fn size(new: &NewVolume, source: Option<&snapshot::Model>) -> Result<u32> {
    let least = source.map(|row| row.size_gib.0);
    match (new.size_gib, least) {
        (None, None) => Err(Error::MissingParameter { name: "Size".into() }),
        (Some(size), Some(least)) if size < least => {
            let reason = format!("the snapshot has {least} GiB");
            Err(Error::invalid("Size", &size.to_string(), reason))
        }
        (Some(size), _) | (None, Some(size)) => Ok(size),
    }
}
