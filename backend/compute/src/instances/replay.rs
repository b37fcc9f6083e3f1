//! The answer of a launch: made from its own rows, or loaded again for a client token that was used.

use std::sync::Arc;

use cumulet_domain::{Result, account::AccountId, id::ReservationId, tag::Tag};
use cumulet_network::interface_view::InterfaceView;
use cumulet_store::{
    authority::Grant,
    entity::{instance, volume_attachment},
    resource, rows,
};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder};

use crate::instances::{
    DiskView, InstanceView, ReservationView, describe, launch::reservation_of, launch_plan::LaunchPlan,
};

/// The answer to a launch that was just done.
pub(super) fn view(
    (account, id): (AccountId, ReservationId),
    rows: Vec<instance::Model>,
    interfaces: Vec<InterfaceView>,
    disks: Vec<Vec<volume_attachment::Model>>,
    plan: &LaunchPlan,
    tags: &[Tag],
) -> Result<ReservationView> {
    let image = Arc::new(plan.image.clone());
    let mut tags = tags.to_vec();
    tags.sort();
    let all = rows.into_iter().zip(interfaces).zip(disks);
    let instances = all.map(|((row, interface), disks)| {
        Ok(Arc::new(InstanceView {
            interfaces: vec![interface],
            disks: disks.into_iter().map(DiskView::of).collect(),
            tags: tags.clone(),
            image: Some(image.clone()),
            placement_group: plan.group.as_ref().map(|group| group.name.clone()),
            ..InstanceView::of(row)?
        }))
    });
    Ok(ReservationView {
        id,
        account,
        instances: instances.collect::<Result<_>>()?,
    })
}

/// The reservation that a client token made, with its instances as they are now, ended ones included.
pub(super) async fn reservation(
    conn: &impl ConnectionTrait,
    grant: &Grant,
    made: &str,
) -> Result<ReservationView> {
    let id = reservation_of(made)?;
    let query = instance::Entity::find()
        .filter(instance::Column::Reservation.eq(id.to_db()))
        .filter(instance::Column::Account.eq(grant.account().to_db()))
        .order_by_asc(instance::Column::LaunchIndex);
    let rows = rows::all(query, conn).await?;
    resource::show::<instance::Entity>(conn, grant, &rows).await?;
    Ok(ReservationView {
        id,
        account: grant.account(),
        instances: describe::views(conn, rows).await?,
    })
}
