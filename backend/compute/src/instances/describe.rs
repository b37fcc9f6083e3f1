//! The listing of instances: rows first, then what belongs to all of them, one query a table. As many as can be kept for
//! the next time are read at once; of more (those that have ended are in sight for a while, and no quota counts them) a
//! chunk is held at a time.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use cumulet_core::{Page, PageRequest};
use cumulet_domain::{
    Error, ResourceKind, Result,
    account::{AccountId, Principal},
    id::{InstanceId, ReservationId, SubnetId, VpcId},
    instance::State,
};
use cumulet_network::interface_view::{InterfaceView, interface_views};
use cumulet_store::{
    authority::{Grant, Permission},
    batch::load_in,
    column,
    entity::{columns::Key, image, instance, interface},
    failed, placement,
    resource::{self, Lock},
    rows, tags, volumes,
};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, ExprTrait, QueryFilter, QueryOrder, QuerySelect,
    QueryTrait, Select, sea_query::SelectStatement,
};

use crate::{
    Compute, boxed,
    instances::{DiskView, InstanceView, ReservationKey, ReservationView, launch_spec::MAX_INSTANCES},
};

/// Instances in a chunk at the most: those of any one launch are in one.
const CHUNK: u32 = MAX_INSTANCES;

/// Which instances are wanted. Empty lists mean any; the given ids must all exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct InstanceQuery {
    pub ids: Vec<InstanceId>,
    pub states: Vec<State>,
    pub vpcs: Vec<VpcId>,
    pub subnets: Vec<SubnetId>,
}

impl InstanceQuery {
    fn select(&self, grant: &Grant) -> Select<instance::Entity> {
        use instance::Column as C;
        let mut select = instance::Entity::find().filter(resource::sight::<instance::Entity>(grant));
        if !self.states.is_empty() {
            select = select.filter(C::State.is_in(self.states.iter().map(|state| state.name())));
        }
        if !self.vpcs.is_empty() || !self.subnets.is_empty() {
            select = select.filter(C::Id.in_subquery(self.in_networks(grant)));
        }
        select
    }

    /// The instances whose primary interface is in one of the VPCs and in one of the subnets.
    fn in_networks(&self, grant: &Grant) -> SelectStatement {
        use interface::Column as I;
        let mut primary = interface::Entity::find()
            .select_only()
            .column(I::Instance)
            // For the index: no other account's would be found with an instance that is in sight.
            .filter(resource::sight::<interface::Entity>(grant))
            .filter(I::DeviceIndex.eq(0));
        if !self.vpcs.is_empty() {
            primary = primary.filter(I::Vpc.is_in(self.vpcs.iter().map(|id| id.to_db())));
        }
        if !self.subnets.is_empty() {
            primary = primary.filter(I::Subnet.is_in(self.subnets.iter().map(|id| id.to_db())));
        }
        primary.into_query()
    }

    fn wants(&self, view: &InstanceView) -> bool {
        (self.states.is_empty() || self.states.contains(&view.state()))
            && (self.vpcs.is_empty() || view.vpc().is_some_and(|id| self.vpcs.contains(&id)))
            && (self.subnets.is_empty() || view.subnet().is_some_and(|id| self.subnets.contains(&id)))
    }

    /// Whether all instances of the account are wanted.
    fn is_all(&self) -> bool {
        self.ids.is_empty() && self.states.is_empty() && self.vpcs.is_empty() && self.subnets.is_empty()
    }
}

/// What is wanted of what is in memory, in no order; `None` when it must be read in parts.
async fn in_memory(
    compute: &Compute,
    grant: &Grant,
    query: &InstanceQuery,
    whole: bool,
) -> Result<Option<Vec<Arc<InstanceView>>>> {
    // Before anything is read, so that what a commit changes in the meantime is not taken for current.
    let (visibility, version) = (grant.visibility(), compute.store.version(grant.account()));
    let mut found = if query.ids.is_empty() {
        match compute.instances.all(visibility.account, version) {
            Some(all) => all
                .iter()
                .filter(|view| query.wants(view) && !visibility.has_lost(view.row.terminated_at))
                .cloned()
                .collect(),
            None if whole && query.is_all() => match read_all(compute, grant, version).await? {
                Some(all) => all,
                None => return Ok(None),
            },
            None => return Ok(None),
        }
    } else {
        let mut found = match compute.instances.named(visibility, version, &query.ids) {
            Some(found) => found,
            None => read_named(compute, grant, version, &query.ids).await?,
        };
        found.retain(|view| query.wants(view));
        found
    };
    if query.ids.len() > 1 {
        found.sort_by_key(|view| view.row.id);
        found.dedup_by_key(|view| view.row.id);
    }
    Ok(Some(found))
}

async fn read_named(
    compute: &Compute,
    grant: &Grant,
    version: u64,
    ids: &[InstanceId],
) -> Result<Vec<Arc<InstanceView>>> {
    let conn = compute.store.read();
    let rows = resource::list_all::<instance::Entity>(conn, grant, ids).await?;
    let found = views(conn, rows).await?;
    compute.instances.put(grant.account(), version, &found);
    Ok(found)
}

/// All that the account sees, which are kept; `None` where they are more than can be. What fits a chunk is one
/// statement.
async fn read_all(compute: &Compute, grant: &Grant, version: u64) -> Result<Option<Vec<Arc<InstanceView>>>> {
    use instance::Column as C;
    let (conn, chunk) = (compute.store.read(), chunk(compute));
    let select = InstanceQuery::default().select(grant).order_by_asc(C::Id);
    let mut found = rows::all(select.clone().limit(u64::from(chunk) + 1), conn).await?;
    if found.len() > chunk as usize
        && let Some(last) = found.last().map(|row| row.id.to_db())
    {
        let Some(left) = compute.instances.room().checked_sub(found.len()) else {
            return Ok(None);
        };
        // Looked for before the others are read, so that what is too much is never held.
        let rest = select.filter(C::Id.gt(last));
        let beyond = rest.clone().select_only().column(C::Id);
        let beyond = beyond.offset(left as u64).limit(1);
        let beyond: Vec<i64> = column(beyond, conn).await?;
        if !beyond.is_empty() {
            return Ok(None);
        }
        found.extend(rows::all(rest, conn).await?);
    }
    let mut found = views(conn, found).await?;
    // In the order of the usual question, so that sorting it is one look over it.
    found.sort_by_key(|view| in_reservation(&view.row));
    compute.instances.put_all(grant.account(), version, &found);
    Ok(Some(found))
}

/// How many instances are read at once where it is not known that all can be kept.
fn chunk(compute: &Compute) -> u32 {
    let room = u32::try_from(compute.instances.room()).unwrap_or(u32::MAX);
    room.clamp(1, CHUNK)
}

/// Instances in the order of their ids, for their states. Where no limit is given, all of them, or a chunk with where
/// the next one starts.
///
/// # Errors
/// `NotFound`, naming every id that is not there.
#[boxed]
pub async fn describe(
    compute: &Compute,
    who: &Principal,
    query: &InstanceQuery,
    page: PageRequest,
) -> Result<Page<Arc<InstanceView>>> {
    let grant = compute.authorise(who, Permission::DESCRIBE_INSTANCE_STATUS)?;
    let whole = page.limit.is_none() && page.after.is_none();
    if let Some(mut found) = in_memory(compute, &grant, query, whole).await? {
        found.retain(|view| page.after.is_none_or(|after| view.row.id > Key::from_db(after)));
        found.sort_by_key(|view| view.row.id);
        return Ok(Page::cut(found, &page, |view| view.row.id.to_db()));
    }
    let conn = compute.store.read();
    let page = PageRequest {
        limit: page.limit.or_else(|| Some(chunk(compute))),
        after: page.after,
    };
    let mut select = query.select(&grant).order_by_asc(instance::Column::Id);
    if let Some(after) = page.after {
        select = select.filter(instance::Column::Id.gt(after));
    }
    let rows = rows::all(select.limit(page.read_limit()), conn).await?;
    let page = Page::cut(rows, &page, |row| row.id.to_db());
    Ok(Page {
        rows: views(conn, page.rows).await?,
        next: page.next,
    })
}

/// Reservations in the order of their launches, each with those of its instances that are wanted. A page
/// holds whole reservations; it ends before its limit, or without one, where they have more instances than a chunk.
///
/// # Errors
/// `NotFound`, naming every id that is not there.
#[boxed]
pub async fn describe_reservations(
    compute: &Compute,
    who: &Principal,
    query: &InstanceQuery,
    page: PageRequest<ReservationKey>,
) -> Result<Page<ReservationView, ReservationKey>> {
    let grant = compute.authorise(who, Permission::DESCRIBE_INSTANCES)?;
    use instance::Column as C;
    let whole = page.limit.is_none() && page.after.is_none();
    if let Some(mut found) = in_memory(compute, &grant, query, whole).await? {
        found.retain(|view| {
            page.after
                .is_none_or(|after| ReservationKey::of(&view.row) > after)
        });
        let page = Page::cut(grouped(found, |view| &view.row), &page, |(key, _)| *key);
        return Ok(reservations(who.account, page));
    }
    let conn = compute.store.read();
    let mut select = query.select(&grant);
    if let Some(after) = page.after {
        select = select.filter(beyond(after));
    }
    if page.limit.is_some() {
        let keys = select.clone().select_only().distinct();
        let keys = keys.column(C::CreatedAt).column(C::Reservation);
        let keys = keys.order_by_asc(C::CreatedAt).order_by_asc(C::Reservation);
        let keys = keys.limit(page.read_limit()).into_model().all(conn).await;
        let keys: Vec<ReservationKey> = keys.map_err(failed)?;
        let Some(last) = keys.last().copied() else {
            return Ok(Page {
                rows: Vec::new(),
                next: None,
            });
        };
        select = select.filter(up_to(last));
    }
    let (groups, more) = first_of(conn, select, chunk(compute)).await?;
    // Cut first: what belongs to the rows of the next page is not read.
    let Page { rows, next } = Page::cut(groups, &page, |(key, _)| *key);
    let next = next.or_else(|| rows.last().filter(|_| more).map(|(key, _)| *key));
    let rows = rows.into_iter().flat_map(|(_, rows)| rows).collect();
    let rows = grouped(views(conn, rows).await?, |view| &view.row);
    Ok(reservations(who.account, Page { rows, next }))
}

/// The rows of the first reservations of a query, which have no more than `most` instances and of each all that the
/// query selects; and whether there are others.
async fn first_of(
    conn: &impl ConnectionTrait,
    select: Select<instance::Entity>,
    most: u32,
) -> Result<(Vec<GroupedRows>, bool)> {
    use instance::Column as C;
    let select = select.order_by_asc(C::CreatedAt).order_by_asc(C::Reservation);
    let mut most = u64::from(most);
    loop {
        let found = rows::all(select.clone().limit(most + 1), conn).await?;
        let more = found.len() as u64 > most;
        let mut groups = grouped(found, |row| row);
        if !more {
            return Ok((groups, false));
        }
        // Of the last one some may not have been read.
        groups.pop();
        if !groups.is_empty() {
            return Ok((groups, true));
        }
        // One with more instances than a launch makes is whole all the same.
        most *= 2;
    }
}

/// The condition on instances of reservations that come after this place. (What it says first and once more is
/// for the index.)
fn beyond(key: ReservationKey) -> Condition {
    use instance::Column as C;
    let later = C::CreatedAt
        .gt(key.created_at)
        .or(C::Reservation.gt(key.reservation));
    Condition::all().add(C::CreatedAt.gte(key.created_at)).add(later)
}

/// The condition on those that come before it, its own among them.
fn up_to(key: ReservationKey) -> Condition {
    use instance::Column as C;
    let earlier = C::CreatedAt
        .lt(key.created_at)
        .or(C::Reservation.lte(key.reservation));
    Condition::all()
        .add(C::CreatedAt.lte(key.created_at))
        .add(earlier)
}

/// The order of instances in lists of reservations.
fn in_reservation(row: &instance::Model) -> (ReservationKey, i64, i64) {
    (
        ReservationKey::of(row),
        i64::from(row.launch_index.0),
        row.id.to_db(),
    )
}

/// Rows, or what has one, by reservation, sorted by its launch and in it by launch index.
fn grouped<T>(mut all: Vec<T>, row: impl Fn(&T) -> &instance::Model) -> Vec<(ReservationKey, Vec<T>)> {
    all.sort_by_key(|one| in_reservation(row(one)));
    let mut groups: Vec<(ReservationKey, Vec<T>)> = Vec::new();
    for one in all {
        let key = ReservationKey::of(row(&one));
        match groups.last_mut().filter(|(last, _)| *last == key) {
            Some((_, members)) => members.push(one),
            None => groups.push((key, vec![one])),
        }
    }
    groups
}

/// The rows of one reservation, under its place.
type GroupedRows = (ReservationKey, Vec<instance::Model>);

/// Instances of one reservation, under its place.
type Grouped = (ReservationKey, Vec<Arc<InstanceView>>);

fn reservations(
    account: AccountId,
    page: Page<Grouped, ReservationKey>,
) -> Page<ReservationView, ReservationKey> {
    let reservation = |(key, instances): Grouped| ReservationView {
        id: ReservationId::from_db(key.reservation),
        account,
        instances,
    };
    Page {
        rows: page.rows.into_iter().map(reservation).collect(),
        next: page.next,
    }
}

/// One instance, for the attributes of it.
///
/// # Errors
/// `NotFound`.
#[boxed]
pub async fn get(compute: &Compute, who: &Principal, id: InstanceId) -> Result<InstanceView> {
    let grant = compute.authorise(who, Permission::DESCRIBE_INSTANCE_ATTRIBUTE)?;
    granted(compute, &grant, id).await
}

/// One instance, for whom it was granted for something.
pub(super) async fn granted(compute: &Compute, grant: &Grant, id: InstanceId) -> Result<InstanceView> {
    let conn = compute.store.read();
    let row = resource::find::<instance::Entity>(conn, grant, id, Lock::None).await?;
    let mut views = views(conn, vec![row]).await?;
    views
        .pop()
        .map(Arc::unwrap_or_clone)
        .ok_or_else(|| Error::Internal("a row has no view".into()))
}

/// The views of rows, in their order.
pub(super) async fn views(
    conn: &impl ConnectionTrait,
    rows: Vec<instance::Model>,
) -> Result<Vec<Arc<InstanceView>>> {
    let ids: Vec<i64> = rows.iter().map(|row| row.id.to_db()).collect();
    let alive = |row: &&instance::Model| row.state.0 != State::Terminated;
    let runs = |row: &&instance::Model| row.state.0 == State::Running;
    let with_interfaces: Vec<i64> = rows.iter().filter(alive).map(|row| row.id.to_db()).collect();
    let mut interfaces = interfaces(conn, &with_interfaces).await?;
    let mut tags = tags::of(conn, ResourceKind::Instance, &ids).await?;
    let running: Vec<i64> = rows.iter().filter(runs).map(|row| row.id.to_db()).collect();
    let pending: HashSet<i64> = load_in!(conn, metadata_push, Instance, &running)
        .into_iter()
        .map(|push| push.instance.to_db())
        .collect();
    let mut images: Vec<i64> = rows.iter().map(|row| row.image.to_db()).collect();
    images.sort_unstable();
    images.dedup();
    let images: HashMap<i64, Arc<image::Model>> = load_in!(conn, image, Id, &images)
        .into_iter()
        .map(|row| (row.id.to_db(), Arc::new(row)))
        .collect();
    let groups = placement::names(conn, &rows).await?;
    let mut disks = volumes::disks(conn, &rows.iter().collect::<Vec<_>>()).await?;
    let view = |row: instance::Model| {
        let disks = disks.remove(&row.id.to_db()).unwrap_or_default();
        Ok(Arc::new(InstanceView {
            placement_group: row
                .placement_group
                .and_then(|id| groups.get(&id.to_db()).cloned()),
            interfaces: interfaces.remove(&row.id.to_db()).unwrap_or_default(),
            disks: disks.into_iter().map(DiskView::of).collect(),
            tags: tags.remove(&row.id.to_db()).unwrap_or_default(),
            image: images.get(&row.image.to_db()).cloned(),
            metadata_pending: pending.contains(&row.id.to_db()),
            ..InstanceView::of(row)?
        }))
    };
    rows.into_iter().map(view).collect()
}

/// The interfaces of instances, with their groups.
async fn interfaces(
    conn: &impl ConnectionTrait,
    instances: &[i64],
) -> Result<HashMap<i64, Vec<InterfaceView>>> {
    let mut rows = load_in!(conn, interface, Instance, instances);
    rows.sort_by_key(|row| row.device_index);
    let mut views: HashMap<i64, Vec<InterfaceView>> = HashMap::new();
    for view in interface_views(conn, rows).await? {
        views.entry(view.row.instance.to_db()).or_default().push(view);
    }
    Ok(views)
}
