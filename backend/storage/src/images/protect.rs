//! EnableImageDeregistrationProtection and its opposite: an image that is protected is not deregistered, and where that
//! was asked for not for a day after its protection was switched off.

use cumulet_core::RequestContext;
use cumulet_domain::{Result, account::Principal, id::ImageId, image::DeregistrationProtection};
use cumulet_store::{
    Invalidates,
    authority::Permission,
    entity::{columns::Named, image},
    failed,
    resource::Lock,
};
use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _, sea_query::Expr};

use super::registered;
use crate::boxed;

/// Milliseconds of a day.
const COOLDOWN: i64 = 24 * 3_600_000;

/// Protects an image.
///
/// # Errors
/// `NotFound`; `Unusable` where it was deregistered; `Unauthorized` for another account's.
#[boxed]
pub async fn protect(
    cx: &RequestContext,
    who: &Principal,
    id: ImageId,
    how: DeregistrationProtection,
) -> Result<()> {
    let grant = cx.authorise(who, Permission::ENABLE_IMAGE_DEREGISTRATION_PROTECTION)?;
    let write = cx.store.write_with(Invalidates::Nothing, move |txn| {
        Box::pin(async move {
            use image::Column as C;
            let row = registered(txn, &grant, id, Lock::Exclusive).await?;
            let update = image::Entity::update_many()
                .col_expr(C::Protection, Expr::value(Named(how)))
                .col_expr(C::ProtectedUntil, Expr::value(Option::<i64>::None))
                .filter(C::Id.eq(row.id));
            update.exec(txn).await.map(drop).map_err(failed)
        })
    });
    write.await
}

/// Protects it no more, at once or in a day.
///
/// # Errors
/// `NotFound`; `Unusable` where it was deregistered; `Unauthorized` for another account's.
#[boxed]
pub async fn unprotect(cx: &RequestContext, who: &Principal, id: ImageId) -> Result<()> {
    let grant = cx.authorise(who, Permission::DISABLE_IMAGE_DEREGISTRATION_PROTECTION)?;
    let now = cx.now();
    let write = cx.store.write_with(Invalidates::Nothing, move |txn| {
        Box::pin(async move {
            use image::Column as C;
            let row = registered(txn, &grant, id, Lock::Exclusive).await?;
            let until = match row.protection {
                Some(Named(DeregistrationProtection::EnabledWithCooldown)) => Some(now.0 + COOLDOWN),
                Some(Named(DeregistrationProtection::EnabledWithoutCooldown)) => None,
                // Once more: it goes on as it was.
                None => row.protected_until,
            };
            let update = image::Entity::update_many()
                .col_expr(C::Protection, Expr::value(Option::<String>::None))
                .col_expr(C::ProtectedUntil, Expr::value(until))
                .filter(C::Id.eq(row.id));
            update.exec(txn).await.map(drop).map_err(failed)
        })
    });
    write.await
}
