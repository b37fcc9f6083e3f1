//! DescribeVolumes: an account's volumes in the order of their ids, those that instances start from among them.

use std::collections::HashMap;

use cumulet_core::{Page, PageRequest, RequestContext};
use cumulet_domain::{
    ResourceKind, Result,
    account::Principal,
    id::{InstanceId, VolumeId},
};
use cumulet_store::{
    authority::{Grant, Permission},
    batch::load_in,
    entity::{volume, volume_attachment},
    resource, tags,
};
use sea_orm::{ColumnTrait, Condition, EntityTrait, QueryFilter, QuerySelect, QueryTrait};

use crate::{
    boxed,
    volumes::{AttachmentView, VolumeView},
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
    cx: &RequestContext,
    who: &Principal,
    query: &VolumeQuery,
    page: PageRequest,
) -> Result<Page<VolumeView>> {
    let grant = cx.authorise(who, Permission::DESCRIBE_VOLUMES)?.present();
    load(cx, &grant, query, page).await
}

/// The volumes that a grant shows.
pub(super) async fn load(
    cx: &RequestContext,
    grant: &Grant,
    query: &VolumeQuery,
    page: PageRequest,
) -> Result<Page<VolumeView>> {
    let conn = cx.store.read();
    let mut also = Condition::all();
    if !query.instances.is_empty() {
        use volume_attachment::Column as A;
        let attached = volume_attachment::Entity::find()
            .select_only()
            .column(A::Volume)
            .filter(A::Instance.is_in(query.instances.iter().map(|id| id.to_db())));
        also = also.add(volume::Column::Id.in_subquery(attached.into_query()));
    }
    let Page { rows, next } = resource::list::<volume::Entity>(conn, grant, &query.ids, also, &page).await?;
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
