//! CreateSnapshot and CreateSnapshots: rows, and the operation that has a host take them, all at one moment.

use std::collections::BTreeSet;

use cumulet_core::{RequestContext, quota, tag_room::room as tag_room};
use cumulet_domain::{
    Error, ResourceKind, Result,
    account::{AccountId, Principal},
    error::Limit,
    id::{InstanceId, VolumeId, marker},
    snapshot::{SnapshotState, check_description},
    tag::Tag,
    volume::{VolumeState, VolumeType},
};
use cumulet_journal::Operation as _;
use cumulet_operations::{CreateSnapshot, snapshot as subject};
use cumulet_store::{
    Invalidates, attachments,
    authority::{Grant, Permission},
    entity::{
        columns::{Flag, Key, Named, Owner},
        instance, snapshot, volume, volume_attachment,
    },
    failed,
    resource::{self, Lock},
    rows, tags,
};
use sea_orm::{ColumnTrait as _, DatabaseTransaction, EntityTrait, QueryFilter as _};

use super::pending;
use crate::{boxed, encryption, snapshots::SnapshotView};

/// A snapshot to be taken of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct NewSnapshot {
    pub volume: VolumeId,
    pub description: String,
    pub tags: Vec<Tag>,
}

/// Snapshots to be taken of the volumes of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSnapshots {
    /// Whose.
    pub instance: InstanceId,
    /// Not of the volume that it starts from.
    pub exclude_root: bool,
    /// Not of these.
    pub exclude: Vec<VolumeId>,
    /// Of each.
    pub description: String,
    /// Of each.
    pub tags: Vec<Tag>,
    /// Each has its volume's tags, too; one that is in `tags` has the value from there.
    pub copy_tags: bool,
}

/// Has a snapshot taken of a volume, attached or not.
///
/// # Errors
/// `NotFound`; `IncorrectState`; `InvalidParameter`; `LimitExceeded`. Then nothing has changed.
#[boxed]
pub async fn create(cx: &RequestContext, who: &Principal, mut new: NewSnapshot) -> Result<SnapshotView> {
    let grant = cx.authorise(who, Permission::CREATE_SNAPSHOT)?;
    check_description(&new.description)?;
    tags::validate(&new.tags)?;
    new.tags.sort();
    let (call, tags_room) = (cx.clone(), tag_room(cx, who.account, new.tags.len()));
    let asked = cx.ask(
        CreateSnapshot::NAME,
        &cx.store,
        Invalidates::Nothing,
        move |txn| {
            Box::pin(async move {
                let present = grant.clone().present();
                let find = |lock| resource::find::<volume::Entity>(txn, &present, new.volume, lock);
                // Who has no such volume holds up nobody for it; and accounts come before volumes (`store::lock`).
                find(Lock::None).await?;
                room(txn, &call, grant.account(), 1).await?;
                let disk = find(Lock::Exclusive).await?;
                let one = vec![(disk, new.tags)];
                let mut made = insert_all(txn, &call, &grant, one, &new.description).await?;
                tags_room.check(txn).await?;
                made.pop()
                    .ok_or_else(|| Error::Internal("no snapshot was made".into()))
            })
        },
    );
    asked.await
}

/// Has snapshots taken of an instance's volumes, all as they are at one moment; in the order of their devices.
///
/// # Errors
/// `NotFound`; `IncorrectState`; `InvalidParameter`, also where an excluded volume is not the instance's, or none is
/// left; `LimitExceeded`. Then nothing has changed.
#[boxed]
pub async fn create_all(
    cx: &RequestContext,
    who: &Principal,
    new: NewSnapshots,
) -> Result<Vec<SnapshotView>> {
    let grant = cx.authorise(who, Permission::CREATE_SNAPSHOTS)?;
    check_description(&new.description)?;
    tags::validate(&new.tags)?;
    let call = cx.clone();
    let asked = cx.ask(
        CreateSnapshot::NAME,
        &cx.store,
        Invalidates::Nothing,
        move |txn| {
            Box::pin(async move {
                let volumes = of_instance(txn, &call, &grant, &new).await?;
                let tagged = with_tags(txn, volumes, &new).await?;
                let count = tagged.iter().map(|(_, tags)| tags.len()).sum();
                let tags_room = tag_room(&call, grant.account(), count);
                let made = insert_all(txn, &call, &grant, tagged, &new.description).await?;
                tags_room.check(txn).await?;
                Ok(made)
            })
        },
    );
    asked.await
}

/// The volumes of an instance that are not excluded. They stay as they are until the transaction ends.
async fn of_instance(
    txn: &DatabaseTransaction,
    cx: &RequestContext,
    grant: &Grant,
    new: &NewSnapshots,
) -> Result<Vec<volume::Model>> {
    let mut found = resource::find_all_locked::<instance::Entity>(txn, grant, &[new.instance]).await?;
    let row = found
        .pop()
        .ok_or_else(|| resource::not_found::<instance::Entity>(new.instance.to_string()))?;
    let theirs = attachments::of_instance(txn, row.id.to_db()).await?;
    let data: BTreeSet<VolumeId> = theirs
        .iter()
        .filter(|disk| !disk.is_root())
        .map(|disk| disk.volume.0)
        .collect();
    if let Some(other) = new.exclude.iter().find(|id| !data.contains(id)) {
        let reason = format!("it is not a data volume of {}", new.instance);
        return Err(Error::invalid("ExcludeDataVolumeId", &other.to_string(), reason));
    }
    let excluded = |disk: &volume_attachment::Model| match disk.is_root() {
        true => new.exclude_root,
        false => new.exclude.contains(&disk.volume.0),
    };
    let wanted: Vec<VolumeId> = theirs
        .iter()
        .filter(|disk| !excluded(disk))
        .map(|disk| disk.volume.0)
        .collect();
    if wanted.is_empty() {
        let reason = "none of its volumes is left to take a snapshot of";
        return Err(Error::invalid("InstanceId", &new.instance.to_string(), reason));
    }
    room(txn, cx, grant.account(), wanted.len()).await?;
    resource::find_all_locked::<volume::Entity>(txn, &grant.clone().present(), &wanted).await
}

async fn with_tags(
    txn: &DatabaseTransaction,
    volumes: Vec<volume::Model>,
    new: &NewSnapshots,
) -> Result<Vec<(volume::Model, Vec<Tag>)>> {
    let mut theirs = match new.copy_tags {
        true => {
            let ids: Vec<i64> = volumes.iter().map(|row| row.id.to_db()).collect();
            tags::of(txn, ResourceKind::Volume, &ids).await?
        }
        false => Default::default(),
    };
    let tagged = volumes.into_iter().map(|row| {
        let mut all = theirs.remove(&row.id.to_db()).unwrap_or_default();
        all.retain(|tag| !new.tags.iter().any(|other| other.key == tag.key));
        all.extend(new.tags.iter().cloned());
        all.sort();
        (row, all)
    });
    let tagged: Vec<_> = tagged.collect();
    for (_, all) in &tagged {
        tags::validate(all)?;
    }
    Ok(tagged)
}

/// Whether the account may have so many more. (Before volumes are locked: `store::lock`.)
pub(crate) async fn room(
    txn: &DatabaseTransaction,
    cx: &RequestContext,
    account: AccountId,
    more: usize,
) -> Result<()> {
    let theirs = snapshot::Entity::find()
        .filter(snapshot::Column::Account.eq(account.to_db()))
        .filter(snapshot::Column::DeletedAt.is_null());
    let (limit, max) = (Limit::Snapshots, cx.config.quotas.snapshots);
    // Room for the last of them is room for all.
    let others = more.saturating_sub(1) as u64;
    let room = quota::room_for_one(txn, account, theirs, limit, max.saturating_sub(others)).await;
    room.map_err(|error| match error {
        Error::LimitExceeded { limit, .. } => Error::LimitExceeded { limit, max },
        other => other,
    })
}

/// The rows, and the operation. Who calls has locked the volumes.
async fn insert_all(
    txn: &DatabaseTransaction,
    cx: &RequestContext,
    grant: &Grant,
    volumes: Vec<(volume::Model, Vec<Tag>)>,
    description: &str,
) -> Result<Vec<SnapshotView>> {
    let made = insert_rows(txn, cx, grant, volumes, description).await?;
    let rows: Vec<snapshot::Model> = made.iter().map(|view| view.row.clone()).collect();
    subject::ask(txn, &rows, cx.rng.id::<marker::Operation>(), cx.now()).await?;
    Ok(made)
}

/// The rows alone, for who enqueues what takes them, where so many may be under way. Who calls has locked the volumes.
pub(crate) async fn insert_rows(
    txn: &DatabaseTransaction,
    cx: &RequestContext,
    grant: &Grant,
    volumes: Vec<(volume::Model, Vec<Tag>)>,
    description: &str,
) -> Result<Vec<SnapshotView>> {
    let of: Vec<_> = volumes.iter().map(|(disk, _)| kind_of(disk)).collect();
    let mut made = Vec::with_capacity(volumes.len());
    for (disk, tags) in volumes {
        may_be_taken(&disk)?;
        let row = snapshot::Model {
            base: plain_data(txn, &disk).await?,
            ..new_row(cx, grant, &disk, description)?
        };
        made.push(SnapshotView { row, tags });
    }
    for view in &made {
        super::insert(txn, cx, grant, view).await?;
    }
    pending::check(txn, cx.config.quotas, grant.account(), &of).await?;
    Ok(made)
}

/// A volume of which a snapshot is taken, and its type.
fn kind_of(disk: &volume::Model) -> (VolumeId, VolumeType) {
    (disk.id.0, disk.volume_type.0)
}

/// A snapshot of a volume that is nobody's to see: it is deleted from the beginning, counts for no quota but that of what
/// is under way, and is kept for as long as it is being taken, and then for what is to be made of it. It is taken as any
/// other. Who calls has locked the volume.
pub(crate) async fn insert_hidden(
    txn: &DatabaseTransaction,
    cx: &RequestContext,
    grant: &Grant,
    disk: &volume::Model,
) -> Result<snapshot::Model> {
    may_be_taken(disk)?;
    let row = snapshot::Model {
        base: plain_data(txn, disk).await?,
        deleted_at: Some(cx.now().0),
        ..new_row(cx, grant, disk, "")?
    };
    let insert = snapshot::Entity::insert(snapshot::ActiveModel::from(row.clone()));
    insert.exec_without_returning(txn).await.map_err(failed)?;
    pending::check(txn, cx.config.quotas, grant.account(), &[kind_of(disk)]).await?;
    let id = cx.rng.id::<marker::Operation>();
    subject::ask(txn, std::slice::from_ref(&row), id, cx.now()).await?;
    Ok(row)
}

fn may_be_taken(disk: &volume::Model) -> Result<()> {
    match disk.state.0 {
        VolumeState::Available | VolumeState::InUse => Ok(()),
        other => Err(Error::IncorrectState {
            kind: ResourceKind::Volume,
            id: disk.id.0.to_string(),
            state: other.name().into(),
            expected: VolumeState::Available.name().into(),
        }),
    }
}

/// The manifest that a snapshot of an encrypted volume is made of, by a host that encrypts it, as long as no host has made
/// the volume itself: that of the plain snapshot which the volume is to be made of. It is needed from now on, also where
/// both go meanwhile.
async fn plain_data(txn: &DatabaseTransaction, disk: &volume::Model) -> Result<Option<String>> {
    let Some(source) = disk.snapshot else {
        return Ok(None);
    };
    // A root is taken when its instance is there, and has been made.
    if !disk.encrypted.0 || disk.made_at.is_some() || disk.image.is_some() {
        return Ok(None);
    }
    let source = rows::one(snapshot::Entity::find_by_id(source), txn).await?;
    Ok(source.filter(|row| !row.encrypted.0).and_then(|row| row.manifest))
}

/// As encrypted as its volume, with the same data key.
fn new_row(
    cx: &RequestContext,
    grant: &Grant,
    disk: &volume::Model,
    description: &str,
) -> Result<snapshot::Model> {
    let id = cx.rng.id::<marker::Snapshot>();
    let data_key = encryption::of_snapshot(cx, disk, id)?;
    Ok(snapshot::Model {
        id: Key(id),
        account: Owner(grant.account()),
        volume: disk.id,
        size_gib: disk.size_gib,
        state: Named(SnapshotState::Pending),
        state_message: None,
        description: description.into(),
        encrypted: disk.encrypted,
        public: Flag(false),
        manifest: None,
        base: None,
        bytes: None,
        host: None,
        created_at: cx.now().0,
        completed_at: None,
        deleted_at: None,
        data_key,
        progress: None,
    })
}
