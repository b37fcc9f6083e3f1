//! Attributes of a volume: what DescribeVolumeAttribute and ModifyVolumeAttribute are about, and EnableVolumeIO. I/O is
//! never taken from a volume here, since nothing is known of one that could be inconsistent and whole at once: whether
//! it is enabled by itself is kept for its owner, and enabling it finds it enabled.

use cumulet_core::RequestContext;
use cumulet_domain::{Result, account::Principal, id::VolumeId};
use cumulet_store::{
    Invalidates,
    authority::Permission,
    entity::{columns::Flag, volume},
    failed,
    resource::{self, Lock},
};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, sea_query::Expr};

use crate::boxed;

/// Whether a volume's I/O is to be enabled again by itself.
///
/// # Errors
/// `NotFound`.
#[boxed]
pub async fn auto_enable_io(cx: &RequestContext, who: &Principal, id: VolumeId) -> Result<bool> {
    let grant = cx
        .authorise(who, Permission::DESCRIBE_VOLUME_ATTRIBUTE)?
        .present();
    let row = resource::find::<volume::Entity>(cx.store.read(), &grant, id, Lock::None).await?;
    Ok(row.auto_enable_io == Some(Flag(true)))
}

/// Says whether a volume's I/O is to be enabled again by itself.
///
/// # Errors
/// `NotFound`.
#[boxed]
pub async fn set_auto_enable_io(
    cx: &RequestContext,
    who: &Principal,
    id: VolumeId,
    enabled: bool,
) -> Result<()> {
    let grant = cx.authorise(who, Permission::MODIFY_VOLUME_ATTRIBUTE)?.present();
    let write = cx.store.write_with(Invalidates::Nothing, move |txn| {
        Box::pin(async move {
            let row = resource::find::<volume::Entity>(txn, &grant, id, Lock::Exclusive).await?;
            let update = volume::Entity::update_many()
                .col_expr(volume::Column::AutoEnableIo, Expr::value(Flag(enabled)))
                .filter(volume::Column::Id.eq(row.id));
            update.exec(txn).await.map(drop).map_err(failed)
        })
    });
    write.await
}

/// A volume's I/O shall be enabled, as it is.
///
/// # Errors
/// `NotFound`.
#[boxed]
pub async fn enable_io(cx: &RequestContext, who: &Principal, id: VolumeId) -> Result<()> {
    let grant = cx.authorise(who, Permission::ENABLE_VOLUME_IO)?.present();
    let write = cx.store.write_with(Invalidates::Nothing, move |txn| {
        Box::pin(async move {
            let found = resource::find::<volume::Entity>(txn, &grant, id, Lock::Exclusive);
            found.await.map(drop)
        })
    });
    write.await
}
