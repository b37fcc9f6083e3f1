//! EnableImageDeprecation and DisableImageDeprecation: from when on others than its owner are not shown an image unless
//! they ask for it. It can be launched all the same.

use cumulet_core::RequestContext;
use cumulet_domain::{Error, Result, account::Principal, id::ImageId, time::Timestamp};
use cumulet_store::{Invalidates, authority::Permission, entity::image, failed, resource::Lock};
use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _, sea_query::Expr};

use super::registered;
use crate::boxed;

const MINUTE: i64 = 60_000;
const YEAR: i64 = 365 * 24 * 60 * MINUTE;

/// Says when an image is deprecated, to the minute.
///
/// # Errors
/// `NotFound`; `Unusable` where it was deregistered; `Unauthorized` for another account's; `InvalidParameter` for a time
/// that is over or too far away.
#[boxed]
pub async fn deprecate(cx: &RequestContext, who: &Principal, id: ImageId, at: Timestamp) -> Result<()> {
    let grant = cx.authorise(who, Permission::ENABLE_IMAGE_DEPRECATION)?;
    let now = cx.now();
    let write = cx.store.write_with(Invalidates::Nothing, move |txn| {
        Box::pin(async move {
            let row = registered(txn, &grant, id, Lock::Exclusive).await?;
            let at = minute(at, now, row.public.0.then_some(row.created_at))?;
            let update = image::Entity::update_many()
                .col_expr(image::Column::DeprecatedAt, Expr::value(at))
                .filter(image::Column::Id.eq(row.id));
            update.exec(txn).await.map(drop).map_err(failed)
        })
    });
    write.await
}

/// It is not deprecated, and is not going to be.
///
/// # Errors
/// `NotFound`; `Unusable` where it was deregistered; `Unauthorized` for another account's.
#[boxed]
pub async fn undeprecate(cx: &RequestContext, who: &Principal, id: ImageId) -> Result<()> {
    let grant = cx.authorise(who, Permission::DISABLE_IMAGE_DEPRECATION)?;
    let write = cx.store.write_with(Invalidates::Nothing, move |txn| {
        Box::pin(async move {
            let row = registered(txn, &grant, id, Lock::Exclusive).await?;
            let update = image::Entity::update_many()
                .col_expr(image::Column::DeprecatedAt, Expr::value(Option::<i64>::None))
                .filter(image::Column::Id.eq(row.id));
            update.exec(txn).await.map(drop).map_err(failed)
        })
    });
    write.await
}

/// The nearest minute of a time that may be, as on EC2: not over, at most ten years away, and of an image that was public
/// since then two years after it was made.
fn minute(at: Timestamp, now: Timestamp, public_since: Option<i64>) -> Result<i64> {
    let refused = |reason: &str| Err(Error::invalid("DeprecateAt", &at.to_string(), reason));
    if at < now {
        return refused("the time is over");
    }
    if at.0 > now.0 + 10 * YEAR {
        return refused("the time is more than 10 years away");
    }
    if public_since.is_some_and(|since| at.0 > since + 2 * YEAR) {
        return refused("the time is more than 2 years after the public image was made");
    }
    Ok((at.0 + MINUTE / 2) / MINUTE * MINUTE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rounded_and_bounded() {
        let now = Timestamp(1_795_219_200_000);
        let of = |more: i64, public| minute(Timestamp(now.0 + more), now, public).ok();
        let made = Some(now.0 - YEAR);
        for (more, public, expected) in [
            (0, None, Some(0)),
            (-1, None, None),
            (29_999, None, Some(0)),
            (30_000, None, Some(MINUTE)),
            (10 * YEAR, None, Some(10 * YEAR)),
            (10 * YEAR + 1, None, None),
            (YEAR, made, Some(YEAR)),
            (YEAR + 1, made, None),
        ] {
            let expected = expected.map(|more| now.0 + more);
            assert_eq!(of(more, public), expected, "{more} {public:?}");
        }
    }
}
