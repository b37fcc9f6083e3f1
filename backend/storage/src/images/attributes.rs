//! DescribeImageAttribute and ModifyImageAttribute: what an owner sees of an image and may change.

use cumulet_core::RequestContext;
use cumulet_domain::{Result, account::Principal, id::ImageId, snapshot::check_description};
use cumulet_store::{
    Invalidates,
    authority::Permission,
    entity::image,
    failed,
    resource::{self, Lock},
};
use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _, sea_query::Expr};

use super::{Grantees, ImageView, Sharing, clouds_account, describe::views, registered, share};
use crate::{boxed, sharing};

/// What of the metadata service an image supports, where that is said.
pub const IMDS_V2: &str = "v2.0";

/// An image of the account's own, and who else may launch it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ImageAttributes {
    pub view: ImageView,
    pub launchers: Grantees,
}

/// A change of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ImageChange {
    Description(String),
    /// Instances ask for tokens unless a launch says otherwise. There is no way back, as on EC2.
    ImdsV2,
    /// Who may launch it.
    Launchers(Sharing),
}

/// An image of the account's own with all of its attributes.
///
/// # Errors
/// `NotFound`, also for another account's; `Unusable` where it was deregistered.
#[boxed]
pub async fn attributes(cx: &RequestContext, who: &Principal, id: ImageId) -> Result<ImageAttributes> {
    let grant = cx.authorise(who, Permission::DESCRIBE_IMAGE_ATTRIBUTE)?.own();
    let conn = cx.store.read();
    let row = registered(conn, &grant, id, Lock::None).await?;
    let launchers = Grantees {
        all: row.public.0,
        accounts: sharing::accounts::<share::Images>(conn, id.to_db()).await?,
    };
    let clouds = clouds_account(conn).await?;
    let mut views = views(conn, who.account, clouds, vec![row]).await?;
    let view = views
        .pop()
        .ok_or_else(|| resource::not_found::<image::Entity>(id.to_string()))?;
    Ok(ImageAttributes { view, launchers })
}

/// Changes an attribute of an image.
///
/// # Errors
/// `NotFound`; `Unauthorized` for another account's; `InvalidParameter`; `Unusable` where it was deregistered, or can't
/// be shared.
#[boxed]
pub async fn modify(cx: &RequestContext, who: &Principal, id: ImageId, change: ImageChange) -> Result<()> {
    let update = match change {
        ImageChange::Launchers(sharing) => return share::share(cx, who, id, sharing).await,
        ImageChange::Description(text) => {
            check_description(&text)?;
            image::Entity::update_many().col_expr(image::Column::Description, Expr::value(text))
        }
        ImageChange::ImdsV2 => {
            image::Entity::update_many().col_expr(image::Column::ImdsSupport, Expr::value(IMDS_V2))
        }
    };
    let grant = cx.authorise(who, Permission::MODIFY_IMAGE_ATTRIBUTE)?;
    let write = cx.store.write_with(Invalidates::Nothing, move |txn| {
        Box::pin(async move {
            let row = registered(txn, &grant, id, Lock::Exclusive).await?;
            let update = update.filter(image::Column::Id.eq(row.id));
            update.exec(txn).await.map(drop).map_err(failed)
        })
    });
    write.await
}
