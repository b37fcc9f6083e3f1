//! DescribeVolumes: an account's volumes in the order of their ids, those that instances start from among them.

use std::collections::HashMap;

use cumulet_domain::{
    Error, ResourceKind, Result,
    account::Principal,
    id::{InstanceId, VolumeId},
    volume::VolumeState,
};
use sea_orm::{ColumnTrait, EntityTrait, ExprTrait as _, QueryFilter, QueryOrder, QuerySelect, QueryTrait};

use super::{AttachmentView, VolumeView, account};
use crate::{
    api::{Cloud, Page, PageRequest},
    authority::authorise,
    boxed,
    entity::{columns::Named, volume, volume_attachment},
    store::{
        batch::{load_in, missing},
        rows, tags,
    },
};

/// Which volumes are wanted. Empty lists mean any; the given ids must all exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct VolumeQuery {
    pub ids: Vec<VolumeId>,
    pub instances: Vec<InstanceId>,
}

/// Volumes in the order of their ids.
///
/// # Errors
/// `NotFound`, naming every id that is not there.
#[boxed]
pub async fn describe(
    cloud: &Cloud,
    who: &Principal,
    query: &VolumeQuery,
    page: PageRequest,
) -> Result<Page<VolumeView>> {
    use volume::Column as C;
    authorise(who, "DescribeVolumes", false)?;
    let conn = cloud.store.read();
    let there = || {
        let theirs = C::Account.eq(account(who));
        theirs.and(C::State.ne(Named(VolumeState::Deleted)))
    };
    if !query.ids.is_empty() {
        let numbers: Vec<i64> = query.ids.iter().map(|id| id.to_db()).collect();
        let found = load_in!(conn, volume, Id, &numbers, there());
        if let Some(id) = missing(&query.ids, |id| found.iter().any(|row| row.id.0 == *id)) {
            let kind = ResourceKind::Volume;
            return Err(Error::NotFound { kind, id });
        }
    }
    let mut select = volume::Entity::find().filter(there()).order_by_asc(C::Id);
    if !query.ids.is_empty() {
        select = select.filter(C::Id.is_in(query.ids.iter().map(|id| id.to_db())));
    }
    if !query.instances.is_empty() {
        use volume_attachment::Column as A;
        let attached = volume_attachment::Entity::find()
            .select_only()
            .column(A::Volume)
            .filter(A::Instance.is_in(query.instances.iter().map(|id| id.to_db())));
        select = select.filter(C::Id.in_subquery(attached.into_query()));
    }
    if let Some(after) = page.after {
        select = select.filter(C::Id.gt(after));
    }
    let found = rows::all(select.limit(page.read_limit()), conn).await?;
    let Page { rows, next } = Page::cut(found, &page, |row| row.id.to_db());
    let ids: Vec<i64> = rows.iter().map(|row| row.id.to_db()).collect();
    let attached = load_in!(conn, volume_attachment, Volume, &ids);
    let mut attached: HashMap<i64, AttachmentView> = attached
        .iter()
        .map(|row| (row.volume.to_db(), AttachmentView::of(row)))
        .collect();
    let mut tags = tags::of(conn, ResourceKind::Volume, &ids).await?;
    let view = |row: volume::Model| VolumeView {
        attachment: attached.remove(&row.id.to_db()),
        tags: tags.remove(&row.id.to_db()).unwrap_or_default(),
        row,
    };
    Ok(Page {
        rows: rows.into_iter().map(view).collect(),
        next,
    })
}
