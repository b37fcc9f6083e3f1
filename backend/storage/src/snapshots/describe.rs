//! DescribeSnapshots: what an account may make volumes of, in the order of the ids: its own, what it was given, and what
//! everybody was.

use cumulet_core::{Page, PageRequest, RequestContext};
use cumulet_domain::{
    ResourceKind, Result,
    account::{AccountId, Principal},
    id::{SnapshotId, VolumeId},
};
use cumulet_store::{
    authority::Permission,
    entity::{snapshot, snapshot_permission as given},
    resource, tags,
};
use sea_orm::{
    ColumnTrait, Condition, EntityTrait as _, QueryFilter as _, QuerySelect as _, QueryTrait as _,
};

use super::{Grantees, SnapshotView};
use crate::boxed;

/// Which snapshots are wanted. Empty lists mean any; the given ids must all exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct SnapshotQuery {
    pub ids: Vec<SnapshotId>,
    pub volumes: Vec<VolumeId>,
    /// Of any of these accounts alone.
    pub owners: Vec<AccountId>,
    /// The account's own alone.
    pub own: bool,
    /// Only those that one of these may make volumes of, being told so: everybody; or an account, of its own and what it
    /// was given. Of other accounts than the one that asks these are those that it has given them.
    pub restorers: Option<Grantees>,
}

/// Snapshots in the order of their ids.
///
/// # Errors
/// `NotFound`, naming every id that is not there.
#[boxed]
pub async fn describe(
    cx: &RequestContext,
    who: &Principal,
    query: &SnapshotQuery,
    page: PageRequest,
) -> Result<Page<SnapshotView>> {
    let grant = cx.authorise(who, Permission::DESCRIBE_SNAPSHOTS)?;
    let grant = if query.own { grant.own() } else { grant };
    let conn = cx.store.read();
    let mut also = Condition::all();
    if !query.volumes.is_empty() {
        let volumes = query.volumes.iter().map(|id| id.to_db());
        also = also.add(snapshot::Column::Volume.is_in(volumes));
    }
    if !query.owners.is_empty() {
        let owners = query.owners.iter().map(|id| id.to_db());
        also = also.add(snapshot::Column::Account.is_in(owners));
    }
    if let Some(restorers) = &query.restorers {
        also = also.add(restorable(restorers, who.account));
    }
    let page = resource::list::<snapshot::Entity>(conn, &grant, &query.ids, also, &page).await?;
    // Tags are their account's.
    let own = page.rows.iter().filter(|row| row.account.0 == who.account);
    let ids: Vec<i64> = own.map(|row| row.id.to_db()).collect();
    let mut tags = tags::of(conn, ResourceKind::Snapshot, &ids).await?;
    Ok(page.map(|row| SnapshotView {
        tags: tags.remove(&row.id.to_db()).unwrap_or_default(),
        row,
    }))
}

/// Those that some may make volumes of. An account sees of what others were given only what is its own.
fn restorable(by: &Grantees, caller: AccountId) -> Condition {
    use snapshot::Column as C;
    let given_to = |accounts: Vec<i64>| {
        let theirs = given::Entity::find()
            .select_only()
            .column(given::Column::Snapshot)
            .filter(given::Column::Account.is_in(accounts));
        C::Id.in_subquery(theirs.into_query())
    };
    let own = C::Account.eq(caller.to_db());
    let others = by.accounts.iter().filter(|account| **account != caller);
    let others = given_to(others.map(|account| account.to_db()).collect());
    let mut any = Condition::any().add(Condition::all().add(own.clone()).add(others));
    if by.accounts.contains(&caller) {
        any = any.add(own).add(given_to(vec![caller.to_db()]));
    }
    if by.all {
        any = any.add(C::Public.eq(1));
    }
    any
}
