//! Who may launch an image beside its account: some accounts, or everybody.

use std::collections::BTreeSet;

use cumulet_core::RequestContext;
use cumulet_domain::{
    Result,
    account::{AccountId, Principal},
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
    failed,
    resource::{self, Lock},
};
use sea_orm::{ColumnTrait as _, DatabaseTransaction, EntityTrait as _, QueryFilter as _, sea_query::Expr};

use super::{Sharing, unusable};
use crate::boxed;

/// Changes who may.
///
/// # Errors
/// `NotFound`; `Unauthorized` for another account's; `Unusable` while it is disabled.
#[boxed]
pub async fn share(cx: &RequestContext, who: &Principal, id: ImageId, change: Sharing) -> Result<()> {
    let grant = cx.authorise(who, Permission::MODIFY_IMAGE_ATTRIBUTE)?;
    let write = cx.store.write_with(Invalidates::Nothing, move |txn| {
        Box::pin(async move {
            let row = resource::find::<image::Entity>(txn, &grant, id, Lock::Exclusive).await?;
            if row.state() == ImageState::Disabled {
                return Err(unusable(id, row.state().name()));
            }
            let public = (row.public.0 || change.add.all) && !change.remove.all;
            set_public(txn, id, public).await?;
            take(txn, id, Some(&change.add.accounts | &change.remove.accounts)).await?;
            let fresh = change.add.accounts.difference(&change.remove.accounts);
            let rows: Vec<given::ActiveModel> = fresh
                .map(|account| {
                    let row = given::Model {
                        image: Key(id),
                        account: Owner(*account),
                    };
                    row.into()
                })
                .collect();
            if rows.is_empty() {
                return Ok(());
            }
            let insert = given::Entity::insert_many(rows).exec_without_returning(txn);
            insert.await.map(drop).map_err(failed)
        })
    });
    write.await
}

/// Nobody may but the account.
///
/// # Errors
/// `NotFound`; `Unauthorized` for another account's.
#[boxed]
pub async fn reset(cx: &RequestContext, who: &Principal, id: ImageId) -> Result<()> {
    let grant = cx.authorise(who, Permission::RESET_IMAGE_ATTRIBUTE)?;
    let write = cx.store.write_with(Invalidates::Nothing, move |txn| {
        Box::pin(async move {
            resource::find::<image::Entity>(txn, &grant, id, Lock::Exclusive).await?;
            withdraw(txn, id).await
        })
    });
    write.await
}

/// Nobody may any more but the account. Who calls has the image's row locked.
pub(super) async fn withdraw(txn: &DatabaseTransaction, id: ImageId) -> Result<()> {
    set_public(txn, id, false).await?;
    take(txn, id, None).await
}

async fn set_public(txn: &DatabaseTransaction, id: ImageId, public: bool) -> Result<()> {
    let update = image::Entity::update_many()
        .col_expr(image::Column::Public, Expr::value(Flag(public)))
        .filter(image::Column::Id.eq(id.to_db()));
    update.exec(txn).await.map(drop).map_err(failed)
}

/// Takes what these accounts were given; `None`: what any was.
async fn take(txn: &DatabaseTransaction, id: ImageId, accounts: Option<BTreeSet<AccountId>>) -> Result<()> {
    let mut delete = given::Entity::delete_many().filter(given::Column::Image.eq(id.to_db()));
    if let Some(accounts) = accounts {
        delete = delete.filter(given::Column::Account.is_in(accounts.iter().map(|account| account.to_db())));
    }
    delete.exec(txn).await.map(drop).map_err(failed)
}
