//! Machine images: an account sees its own and the public ones. Their files come and go by the
//! operator's commands.

use cumulet_core::{Page, PageRequest, Parts, RequestContext};
use cumulet_domain::{
    Error, ResourceKind, Result,
    account::{AccountId, Principal},
    id::{ImageId, marker},
    image::{BootMode, DiskFormat, ImageState},
    tag::Tag,
    volume::check_root_device,
};
use cumulet_store::{
    authority::{Grant, Operator, Permission},
    entity::{
        account,
        columns::{Amount, Device, Flag, Key, Named, Owner},
        image, instance,
    },
    failed, lock,
    resource::{self, Lock},
    rows, tags,
};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder,
    sea_query::Expr,
};

use crate::{aliases, boxed};

/// An image with its tags, which only its owner sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageView {
    /// The image.
    pub row: image::Model,
    /// Its tags, sorted by key.
    pub tags: Vec<Tag>,
}

impl ImageView {
    /// Its id.
    pub fn id(&self) -> ImageId {
        self.row.id.0
    }

    /// Whether every account sees it.
    pub fn is_public(&self) -> bool {
        self.row.public.0
    }
}

/// Which images are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageQuery {
    /// Empty means any; given ones must all exist.
    pub ids: Vec<ImageId>,
    /// Only the account's own.
    pub owned: bool,
}

/// An image whose file is in place.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct NewImage {
    pub account: AccountId,
    pub name: String,
    pub description: String,
    /// Every account sees it.
    pub public: bool,
    /// For instance `x86_64`.
    pub architecture: String,
    pub format: DiskFormat,
    /// Of the stored file, 64 lower-case hexadecimal digits.
    pub sha256: String,
    pub size_bytes: u64,
    pub virtual_bytes: u64,
    /// For instance `/dev/xvda`; one of `cumulet_domain::volume::ROOT_DEVICES`.
    pub root_device: String,
    /// How it wants to be started.
    pub boot_mode: BootMode,
}

/// The images that the caller can launch, in the order of their ids.
///
/// # Errors
/// `NotFound`, naming every id that is not there.
#[boxed]
pub async fn describe(
    cx: &RequestContext,
    who: &Principal,
    query: &ImageQuery,
    page: PageRequest,
) -> Result<Page<ImageView>> {
    let grant = cx.authorise(who, Permission::DESCRIBE_IMAGES)?;
    let grant = if query.owned { grant.own() } else { grant };
    let conn = cx.store.read();
    let page = resource::list::<image::Entity>(conn, &grant, &query.ids, Condition::all(), &page).await?;
    let own: Vec<i64> = page
        .rows
        .iter()
        .filter(|row| row.account.0 == who.account)
        .map(|row| row.id.to_db())
        .collect();
    let mut tags = tags::of(conn, ResourceKind::Image, &own).await?;
    Ok(page.replace(|rows| {
        let view = |row: image::Model| ImageView {
            tags: tags.remove(&row.id.to_db()).unwrap_or_default(),
            row,
        };
        rows.into_iter().map(view).collect()
    }))
}

/// An image that a launch can use. Its row stays until the transaction ends.
pub async fn usable(conn: &impl ConnectionTrait, grant: &Grant, id: ImageId) -> Result<image::Model> {
    // Also a deregistered one, which is said to be so.
    let which = image::known(grant.visibility()).add(image::Column::Id.eq(id.to_db()));
    let row = resource::one::<image::Entity>(conn, grant, which, Lock::Shared).await?;
    let row = row.ok_or_else(|| resource::not_found::<image::Entity>(id.to_string()))?;
    let state = if row.deregistered_at.is_some() {
        "deregistered"
    } else {
        row.state().name()
    };
    if state == ImageState::Available.name() {
        return Ok(row);
    }
    Err(Error::Unusable {
        kind: ResourceKind::Image,
        id: id.to_string(),
        state: state.into(),
    })
}

/// Takes an image away from new launches. Instances that were made from it keep running.
///
/// # Errors
/// `NotFound`; `Unauthorized` for another account's public image.
#[boxed]
pub async fn deregister(cx: &RequestContext, who: &Principal, id: ImageId) -> Result<()> {
    let grant = cx.authorise(who, Permission::DEREGISTER_IMAGE)?;
    let now = cx.now();
    let write = cx.store.write(move |txn| {
        Box::pin(async move {
            let row = resource::find::<image::Entity>(txn, &grant, id, Lock::Exclusive).await?;
            let update = image::Entity::update_many()
                .col_expr(image::Column::DeregisteredAt, Expr::value(now.0))
                .filter(image::Column::Id.eq(row.id));
            update.exec(txn).await.map_err(failed)?;
            tags::remove(txn, ResourceKind::Image, &[row.id.to_db()]).await
        })
    });
    write.await
}

/// Adds an image whose file is in place. For the operator.
///
/// # Errors
/// `InvalidParameter` for a name that EC2 would refuse, `NoDeviceName` for such a root device; `Duplicate` when the account has it already.
#[boxed]
pub async fn register(parts: &Parts, new: NewImage) -> Result<ImageView> {
    let row = image::Model {
        id: Key(parts.rng.id::<marker::Image>()),
        account: Owner(new.account),
        name: new.name,
        description: new.description,
        state: Named(ImageState::Available),
        public: Flag(new.public),
        architecture: new.architecture,
        format: Named(new.format),
        sha256: new.sha256,
        size_bytes: Amount(new.size_bytes),
        virtual_bytes: Amount(new.virtual_bytes),
        root_device: Device(new.root_device),
        boot_mode: Some(Named(new.boot_mode)),
        created_at: parts.clock.now().0,
        deregistered_at: None,
        manifest: None,
        phase: None,
        phase_reason: None,
        source_instance: None,
        source_image: None,
        deprecated_at: None,
        protection: None,
        protected_until: None,
        imds_support: None,
    };
    check_name(&row.name)?;
    check_root_device(&row.root_device.0)?;
    let view = ImageView {
        row: row.clone(),
        tags: Vec::new(),
    };
    let write = parts.store.write(move |txn| {
        Box::pin(async move {
            // Two of one name come one after the other. (No unique key: deregistered ones keep their names.)
            lock::rows::<account::Entity>(txn, account::Column::Id, &[row.account.0.to_db()]).await?;
            let same = image::Entity::find()
                .filter(image::Column::Account.eq(row.account))
                .filter(image::Column::Name.eq(&row.name))
                .filter(image::Column::DeregisteredAt.is_null());
            if same.count(txn).await.map_err(failed)? > 0 {
                return Err(Error::Duplicate {
                    kind: ResourceKind::Image,
                    name: row.name,
                });
            }
            let insert = image::Entity::insert(image::ActiveModel::from(row));
            insert.exec_without_returning(txn).await.map(drop).map_err(failed)
        })
    });
    write.await?;
    Ok(view)
}

/// RegisterImage's rule for names.
fn check_name(name: &str) -> Result<()> {
    let fine = |b: u8| b.is_ascii_alphanumeric() || b"()[] ./-'@_".contains(&b);
    if (3..=128).contains(&name.len()) && name.bytes().all(fine) {
        return Ok(());
    }
    let reason = "an image's name has 3 to 128 letters, digits and ()[] ./-'@_";
    Err(Error::invalid("Name", name, reason))
}

/// Every image, deregistered ones included. For the operator.
///
/// # Errors
/// Those of the database.
#[boxed]
pub async fn list(parts: &Parts) -> Result<Vec<image::Model>> {
    let query = image::Entity::find()
        .order_by_asc(image::Column::CreatedAt)
        .order_by_asc(image::Column::Id);
    rows::all(query, parts.store.read()).await
}

/// Removes an image's row and answers it, with whether no other image has the same file: then the file can
/// go too. For the operator.
///
/// # Errors
/// `NotFound`; `InUse` while an instance that was made from it has not ended, and while it has an alias: somebody
/// launches by that name, and is to be told another image first.
#[boxed]
pub async fn delete(parts: &Parts, id: ImageId) -> Result<(image::Model, bool)> {
    let write = parts.store.write(move |txn| {
        Box::pin(async move {
            // Locked before its users are counted: a launch that has read it is waited for.
            let row = resource::find::<image::Entity>(txn, &Operator, id, Lock::Exclusive).await?;
            let users = instance::Entity::find()
                .filter(instance::Column::Image.eq(row.id))
                .filter(instance::Column::TerminatedAt.is_null());
            let users = users.count(txn).await.map_err(failed)?;
            if users > 0 {
                return Err(Error::InUse {
                    kind: ResourceKind::Image,
                    id: id.to_string(),
                    by: format!("{users} instances"),
                });
            }
            aliases::none_of(txn, id).await?;
            image::Entity::delete_by_id(row.id)
                .exec(txn)
                .await
                .map_err(failed)?;
            tags::remove(txn, ResourceKind::Image, &[row.id.to_db()]).await?;
            let others = image::Entity::find().filter(image::Column::Sha256.eq(&row.sha256));
            let others = others.count(txn).await.map_err(failed)?;
            Ok((row, others == 0))
        })
    });
    write.await
}
