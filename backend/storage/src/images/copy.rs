//! CopyImage: another image of the same data, which is the caller's own. Nothing is copied: it has snapshots of its own,
//! and data that is named twice is kept until neither needs it. Where plain data is to be encrypted a host does that, and
//! the image is pending until then, as one that is made of an instance.

use cumulet_core::{ClientToken, RequestContext, tag_room::room as tag_room};
use cumulet_domain::{
    Error, ResourceKind, Result,
    account::Principal,
    id::{ImageId, SnapshotId, marker},
    image::ImageState,
    snapshot::{SnapshotState, check_description},
    tag::Tag,
    volume::{DataKey, EncryptionAsked},
};
use cumulet_journal::Operation as _;
use cumulet_operations::CreateSnapshot;
use cumulet_store::{
    Invalidates,
    authority::{Grant, Permission},
    encryption::by_default,
    entity::{
        columns::{Flag, Key, Named, Owner},
        image, image_mapping, snapshot,
    },
    images,
    resource::{self, Lock},
    tags,
};
use sea_orm::DatabaseTransaction;

use super::{
    insert::{self, check_name, room},
    usable,
};
use crate::{
    boxed, encryption,
    snapshots::{self, SnapshotView, check_completed, room as snapshots_room},
};

/// Its name, for client tokens.
const OPERATION: &str = "CopyImage";

/// What is copied.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ImageCopy {
    pub source: ImageId,
    pub name: String,
    pub description: String,
    /// With the source's tags, where those are the account's; one that is in `tags` has the value from there.
    pub copy_tags: bool,
    pub encryption: EncryptionAsked,
    pub tags: Vec<Tag>,
    /// Of each snapshot.
    pub snapshot_tags: Vec<Tag>,
    pub client_token: Option<ClientToken>,
}

/// Copies an image that the account may launch, and may read.
///
/// # Errors
/// `ImageName`, `ImageNameTaken`; `NotFound`, `Unusable`, `ImageStorage`; `InvalidParameter`,
/// `ParameterDependency`; `Unsupported` where it is a file and its copy is to be encrypted; `LimitExceeded`;
/// `IdempotentParameterMismatch`. Then nothing has changed.
#[boxed]
pub async fn copy(cx: &RequestContext, who: &Principal, mut what: ImageCopy) -> Result<ImageId> {
    let grant = cx.authorise(who, Permission::COPY_IMAGE)?;
    check_name(&what.name)?;
    check_description(&what.description)?;
    encryption::key_of(cx, who.account).check_asked("KmsKeyId", &what.encryption)?;
    for tags in [&mut what.tags, &mut what.snapshot_tags] {
        tags::validate(tags)?;
        tags.sort();
    }
    if let Some(token) = &what.client_token {
        token.validate()?;
    }
    let call = cx.clone();
    let (name, nothing) = (CreateSnapshot::NAME, Invalidates::Nothing);
    let asked = cx.ask(name, &cx.store, nothing, move |txn| {
        Box::pin(async move {
            let account = grant.account();
            if let Some(token) = &what.client_token
                && let Some(made) = token.find(txn, account, OPERATION).await?
            {
                return made.parse().map_err(|error| Error::internal(&error));
            }
            let id = make(txn, &call, &grant, &what).await?;
            if let Some(token) = &what.client_token {
                let made = id.to_string();
                token.keep(txn, account, OPERATION, made, call.now()).await?;
            }
            Ok(id)
        })
    });
    asked.await
}

async fn make(
    txn: &DatabaseTransaction,
    cx: &RequestContext,
    grant: &Grant,
    what: &ImageCopy,
) -> Result<ImageId> {
    let source = usable(txn, grant, what.source).await?;
    let mut disks = images::mappings(txn, &[source.id.to_db()]).await?;
    let disks = disks.remove(&source.id.to_db()).unwrap_or_default();
    let with_data = disks.iter().filter(|disk| disk.snapshot.is_some()).count();
    room(txn, cx, grant.account(), &what.name).await?;
    if with_data > 0 {
        snapshots_room(txn, cx, grant.account(), with_data).await?;
    }
    let by_default = by_default(txn, grant.account()).await?;
    if with_data == 0 && encryption::key_of_copy(&what.encryption, by_default, false)? != DataKey::None {
        let words = "an encrypted copy of an image that is a file (instead, RunInstances with Encrypted makes an encrypted \
                     root of it)";
        return Err(Error::Unsupported { what: words.into() });
    }
    let tags = all_tags(txn, grant, &source, what).await?;
    let id = cx.rng.id::<marker::Image>();
    let (mut own, mut copies) = (Vec::with_capacity(disks.len()), Vec::with_capacity(with_data));
    for disk in disks {
        let mut disk = image_mapping::Model {
            image: Key(id),
            ..disk
        };
        if let Some(Key(of)) = disk.snapshot {
            let copy = copied(txn, cx, grant, (what, by_default), (of, id)).await?;
            (disk.snapshot, disk.encrypted) = (Some(copy.id), encrypted(&copy));
            copies.push(copy);
        }
        own.push(disk);
    }
    let source = of_copies(source, &own, &copies);
    let row = image::Model {
        id: Key(id),
        account: Owner(grant.account()),
        name: what.name.clone(),
        description: what.description.clone(),
        public: Flag(false),
        created_at: cx.now().0,
        source_instance: None,
        source_image: Some(source.id),
        deprecated_at: None,
        protection: None,
        protected_until: None,
        ..source
    };
    let count = tags.len() + what.snapshot_tags.len() * with_data;
    insert::insert(txn, cx, grant, row, own, &tags).await?;
    snapshots::encrypt(txn, cx, &copies).await?;
    tag_room(cx, grant.account(), count).check(txn).await?;
    Ok(id)
}

/// The copy of a snapshot for an image. What the account may launch it may not always read.
async fn copied(
    txn: &DatabaseTransaction,
    cx: &RequestContext,
    grant: &Grant,
    (what, by_default): (&ImageCopy, bool),
    (of, to): (SnapshotId, ImageId),
) -> Result<snapshot::Model> {
    let found = resource::find::<snapshot::Entity>(txn, grant, of, Lock::Shared).await;
    let source = found.map_err(|error| match error {
        Error::NotFound { .. } => Error::ImageStorage {
            image: what.source.to_string(),
        },
        other => other,
    })?;
    check_completed(&source)?;
    let key = encryption::key_of_copy(&what.encryption, by_default, source.encrypted.0)?;
    let words = format!(
        "Copied for DestinationAmi {to} from SourceAmi {} for SourceSnapshot {of}.",
        what.source
    );
    let view = SnapshotView {
        row: snapshots::copied(cx, grant.account(), (source, key), words)?,
        tags: what.snapshot_tags.clone(),
    };
    snapshots::insert(txn, cx, grant, &view).await?;
    Ok(view.row)
}

/// An image's words for whether a disk of a snapshot is encrypted.
fn encrypted(row: &snapshot::Model) -> Option<Flag> {
    row.encrypted.0.then_some(Flag(true))
}

/// What an image has by its snapshots: it is as encrypted as its root's, and waits for those that are yet to be encrypted.
fn of_copies(source: image::Model, own: &[image_mapping::Model], copies: &[snapshot::Model]) -> image::Model {
    let root = own.iter().find(|disk| disk.device == source.root_device);
    let root = root.and_then(|disk| copies.iter().find(|copy| Some(copy.id) == disk.snapshot));
    let source = match root {
        Some(root) => image::Model {
            encrypted: encrypted(root),
            ..source
        },
        None => source,
    };
    let waits = |copy: &snapshot::Model| copy.state.0 == SnapshotState::Pending;
    if !copies.iter().any(waits) {
        return source;
    }
    image::Model {
        phase: Some(Named(ImageState::Pending)),
        manifest: None,
        ..source
    }
}

/// The tags that are asked for, and the source's where they are.
async fn all_tags(
    txn: &DatabaseTransaction,
    grant: &Grant,
    source: &image::Model,
    what: &ImageCopy,
) -> Result<Vec<Tag>> {
    if !what.copy_tags || source.account.0 != grant.account() {
        return Ok(what.tags.clone());
    }
    let id = source.id.to_db();
    let mut all = tags::of(txn, ResourceKind::Image, &[id]).await?;
    let mut all = all.remove(&id).unwrap_or_default();
    all.retain(|tag| !what.tags.iter().any(|other| other.key == tag.key));
    all.extend(what.tags.iter().cloned());
    all.sort();
    tags::validate(&all)?;
    Ok(all)
}
