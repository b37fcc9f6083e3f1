//! Who may launch an image beside its account: some accounts, or everybody.

use cumulet_core::{Quotas, RequestContext};
use cumulet_domain::{
    Error, ResourceKind, Result,
    account::{AccountId, Principal},
    error::Limit,
    id::ImageId,
    image::ImageState,
};
use cumulet_store::{
    Invalidates,
    authority::Permission,
    entity::{
        columns::{Flag, Key, Owner},
        image, image_permission as given,
    },
    images,
    resource::Lock,
};
use sea_orm::{ActiveModelTrait, DatabaseTransaction};

use super::{Sharing, registered, unusable};
use crate::{
    boxed,
    sharing::{self, Shared},
};

/// Images, as they are shared.
pub(super) struct Images;

impl Shared for Images {
    type Rows = image::Entity;
    type Given = given::Entity;

    const LIMIT: Limit = Limit::AccountsPerImage;
    const ID: image::Column = image::Column::Id;
    const PUBLIC: image::Column = image::Column::Public;
    const WHICH: given::Column = given::Column::Image;
    const TO: given::Column = given::Column::Account;

    fn most(quotas: Quotas) -> u64 {
        quotas.accounts_per_image
    }

    fn given(id: i64, to: AccountId) -> impl ActiveModelTrait<Entity = given::Entity> + Send {
        given::ActiveModel::from(given::Model {
            image: Key::from_db(id),
            account: Owner(to),
        })
    }
}

/// Changes who may.
///
/// # Errors
/// `NotFound`; `Unauthorized` for another account's; `Unusable` where it was deregistered and while it is disabled;
/// `AccountsKey` where it has an encrypted snapshot; `LimitExceeded`.
#[boxed]
pub async fn share(cx: &RequestContext, who: &Principal, id: ImageId, change: Sharing) -> Result<()> {
    let grant = cx.authorise(who, Permission::MODIFY_IMAGE_ATTRIBUTE)?;
    let quotas = cx.config.quotas;
    let write = cx.store.write_with(Invalidates::Nothing, move |txn| {
        Box::pin(async move {
            let row = registered(txn, &grant, id, Lock::Exclusive).await?;
            if row.state() == ImageState::Disabled {
                return Err(unusable(id, row.state().name()));
            }
            if change.gives() && has_encrypted(txn, id).await? {
                let (kind, id) = (ResourceKind::Image, id.to_string());
                return Err(Error::AccountsKey { kind, id });
            }
            sharing::change::<Images>(txn, (id.to_db(), row.public.0), &change, quotas).await
        })
    });
    write.await
}

/// Whether a snapshot of an image is encrypted, its root's or another.
async fn has_encrypted(txn: &DatabaseTransaction, id: ImageId) -> Result<bool> {
    let disks = images::mappings(txn, &[id.to_db()]).await?;
    let mut disks = disks.values().flatten();
    Ok(disks.any(|disk| disk.snapshot.is_some() && disk.encrypted == Some(Flag(true))))
}

/// Nobody may but the account.
///
/// # Errors
/// `NotFound`; `Unusable` where it was deregistered; `Unauthorized` for another account's.
#[boxed]
pub async fn reset(cx: &RequestContext, who: &Principal, id: ImageId) -> Result<()> {
    let grant = cx.authorise(who, Permission::RESET_IMAGE_ATTRIBUTE)?;
    let write = cx.store.write_with(Invalidates::Nothing, move |txn| {
        Box::pin(async move {
            registered(txn, &grant, id, Lock::Exclusive).await?;
            sharing::withdraw::<Images>(txn, id.to_db()).await
        })
    });
    write.await
}
