//! DisableImage and EnableImage: its owner keeps an image from launches, and nobody else has it any more.

use cumulet_core::RequestContext;
use cumulet_domain::{Error, ResourceKind, Result, account::Principal, id::ImageId, image::ImageState};
use cumulet_store::{
    Invalidates,
    authority::Permission,
    entity::{columns::Named, image},
    failed,
    resource::Lock,
};
use sea_orm::{ColumnTrait as _, DatabaseTransaction, EntityTrait as _, QueryFilter as _, sea_query::Expr};

use super::{registered, share::Images};
use crate::{boxed, sharing};

/// Disables an image. A second time changes nothing.
///
/// # Errors
/// `NotFound`; `Unusable` where it was deregistered; `Unauthorized` for another account's; `IncorrectState` where it was never available.
#[boxed]
pub async fn disable(cx: &RequestContext, who: &Principal, id: ImageId) -> Result<()> {
    let grant = cx.authorise(who, Permission::DISABLE_IMAGE)?;
    let write = cx.store.write_with(Invalidates::Nothing, move |txn| {
        Box::pin(async move {
            let row = registered(txn, &grant, id, Lock::Exclusive).await?;
            check_settled(&row)?;
            sharing::withdraw::<Images>(txn, id.to_db()).await?;
            set(txn, id, Some(ImageState::Disabled)).await
        })
    });
    write.await
}

/// Enables it again, for its owner alone.
///
/// # Errors
/// `NotFound`; `Unusable` where it was deregistered; `Unauthorized` for another account's; `IncorrectState` where it was never available.
#[boxed]
pub async fn enable(cx: &RequestContext, who: &Principal, id: ImageId) -> Result<()> {
    let grant = cx.authorise(who, Permission::ENABLE_IMAGE)?;
    let write = cx.store.write_with(Invalidates::Nothing, move |txn| {
        Box::pin(async move {
            let row = registered(txn, &grant, id, Lock::Exclusive).await?;
            check_settled(&row)?;
            set(txn, id, None).await
        })
    });
    write.await
}

async fn set(txn: &DatabaseTransaction, id: ImageId, phase: Option<ImageState>) -> Result<()> {
    let update = image::Entity::update_many()
        .col_expr(image::Column::Phase, Expr::value(phase.map(Named)))
        .filter(image::Column::Id.eq(id.to_db()));
    update.exec(txn).await.map(drop).map_err(failed)
}

fn check_settled(row: &image::Model) -> Result<()> {
    match row.state() {
        ImageState::Available | ImageState::Disabled => Ok(()),
        state @ (ImageState::Pending | ImageState::Failed) => Err(Error::IncorrectState {
            kind: ResourceKind::Image,
            id: row.id.0.to_string(),
            state: state.name().into(),
            expected: ImageState::Available.name().into(),
        }),
    }
}
