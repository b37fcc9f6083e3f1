//! DescribeVolumeStatus: whether the host that has a volume's data has been heard of lately.

use std::collections::{HashMap, HashSet};

use cumulet_core::{Page, PageRequest, RequestContext};
use cumulet_domain::{Result, account::Principal, time::Timestamp};
use cumulet_operations::SILENCE;
use cumulet_store::{authority::Permission, batch::load_in, entity::host, rows};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter};

use crate::{
    boxed,
    volumes::{VolumeQuery, VolumeView, describe::load},
};

/// A volume, and what is known of how it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeStatusView {
    /// The volume.
    pub volume: VolumeView,
    /// Its host is heard of, or it has none yet and waits for its first instance.
    pub is_known: bool,
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
) -> Result<Page<VolumeStatusView>> {
    let grant = cx.authorise(who, Permission::DESCRIBE_VOLUME_STATUS)?.present();
    let page = load(cx, &grant, query, page).await?;
    let conn = cx.store.read();
    let homes = homes(conn, &page.rows).await?;
    let silent = silent(conn, homes.values().collect(), cx.now()).await?;
    Ok(page.map(|volume| {
        let host = homes.get(&volume.row.id.to_db());
        let is_known = host.is_none_or(|host| !silent.contains(host));
        VolumeStatusView { volume, is_known }
    }))
}

/// The hosts that have the volumes' data. That of a root volume is where its instance is; what hosts share is asked of that
/// of its guest alone.
async fn homes(conn: &impl ConnectionTrait, views: &[VolumeView]) -> Result<HashMap<i64, String>> {
    let mut homes = HashMap::new();
    let mut roots = HashMap::new();
    for view in views {
        let volume = view.row.id.to_db();
        match (&view.row.host, &view.attachment) {
            (Some(_), None) if view.row.is_shared() => {}
            (Some(host), _) => drop(homes.insert(volume, host.clone())),
            (None, Some(attached)) if view.row.image.is_some() => {
                roots.insert(attached.instance.to_db(), volume);
            }
            (None, _) => {}
        }
    }
    let ids: Vec<i64> = roots.keys().copied().collect();
    for row in load_in!(conn, instance, Id, &ids) {
        if let (Some(host), Some(volume)) = (row.host, roots.get(&row.id.to_db())) {
            homes.insert(*volume, host);
        }
    }
    Ok(homes)
}

/// Those of the hosts that have not been heard of for a while.
async fn silent(
    conn: &impl ConnectionTrait,
    names: HashSet<&String>,
    now: Timestamp,
) -> Result<HashSet<String>> {
    if names.is_empty() {
        return Ok(HashSet::new());
    }
    let names = names.into_iter().map(String::as_str);
    let all = rows::all(host::Entity::find().filter(host::Column::Id.is_in(names)), conn).await?;
    let silent = all
        .into_iter()
        .filter(|row| now.since(Timestamp(row.last_seen)) >= SILENCE);
    Ok(silent.map(|row| row.id).collect())
}
