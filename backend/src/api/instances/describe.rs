//! The listing of instances: rows first, then what belongs to all of them, one query a table.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use cumulet_domain::{
    Error, ResourceKind, Result,
    account::{AccountId, Principal},
    id::{InstanceId, ReservationId, SubnetId, VpcId},
    instance::State,
};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, ExprTrait, QueryFilter, QueryOrder, QuerySelect,
    Select,
};

use super::{DiskView, GroupRef, InstanceView, InterfaceView, ReservationKey, ReservationView};
use crate::{
    api::{Cloud, Page, PageRequest},
    authority::{Grant, Permission},
    boxed,
    entity::{image, instance, interface},
    store::{
        addresses,
        batch::load_in,
        failed, placement,
        resource::{self, Lock},
        tags, volumes,
    },
};

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
        if !self.vpcs.is_empty() {
            select = select.filter(C::Vpc.is_in(self.vpcs.iter().map(|id| id.to_db())));
        }
        if !self.subnets.is_empty() {
            select = select.filter(C::Subnet.is_in(self.subnets.iter().map(|id| id.to_db())));
        }
        select
    }

    fn wants(&self, row: &instance::Model) -> bool {
        (self.states.is_empty() || self.states.iter().any(|state| state.name() == row.state))
            && (self.vpcs.is_empty() || self.vpcs.iter().any(|id| id.to_db() == row.vpc))
            && (self.subnets.is_empty() || self.subnets.iter().any(|id| id.to_db() == row.subnet))
    }

    /// Whether all instances of the account are wanted.
    fn is_all(&self) -> bool {
        self.ids.is_empty() && self.states.is_empty() && self.vpcs.is_empty() && self.subnets.is_empty()
    }
}

/// What is wanted of what is in memory, in no order; `None` when it must be read in parts.
async fn in_memory(
    cloud: &Cloud,
    grant: &Grant,
    query: &InstanceQuery,
    whole: bool,
) -> Result<Option<Vec<Arc<InstanceView>>>> {
    // Before anything is read, so that what a commit changes in the meantime is not taken for current.
    let (visibility, version) = (grant.visibility(), cloud.store.version(grant.account()));
    let mut found = if query.ids.is_empty() {
        match cloud.instances.all(visibility.account, version) {
            Some(all) => all
                .iter()
                .filter(|view| query.wants(&view.row) && !visibility.has_lost(view.row.terminated_at))
                .cloned()
                .collect(),
            None if whole && query.is_all() => read_all(cloud, grant, version).await?,
            None => return Ok(None),
        }
    } else {
        let mut found = match cloud.instances.named(visibility, version, &query.ids) {
            Some(found) => found,
            None => read_named(cloud, grant, version, &query.ids).await?,
        };
        found.retain(|view| query.wants(&view.row));
        found
    };
    if query.ids.len() > 1 {
        found.sort_by_key(|view| view.row.id);
        found.dedup_by_key(|view| view.row.id);
    }
    Ok(Some(found))
}

async fn read_named(
    cloud: &Cloud,
    grant: &Grant,
    version: u64,
    ids: &[InstanceId],
) -> Result<Vec<Arc<InstanceView>>> {
    let conn = cloud.store.read();
    let rows = resource::list_all::<instance::Entity>(conn, grant, ids).await?;
    let found = views(conn, rows).await?;
    cloud.instances.put(grant.account(), version, &found);
    Ok(found)
}

async fn read_all(cloud: &Cloud, grant: &Grant, version: u64) -> Result<Vec<Arc<InstanceView>>> {
    let conn = cloud.store.read();
    let select = InstanceQuery::default().select(grant);
    let mut found = views(conn, select.all(conn).await.map_err(failed)?).await?;
    // In the order of the usual question, so that sorting it is one look over it.
    found.sort_by_key(|view| in_reservation(&view.row));
    cloud.instances.put_all(grant.account(), version, &found);
    Ok(found)
}

/// Instances in the order of their ids, for their states.
///
/// # Errors
/// `NotFound`, naming every id that is not there.
#[boxed]
pub async fn describe(
    cloud: &Cloud,
    who: &Principal,
    query: &InstanceQuery,
    page: PageRequest,
) -> Result<Page<Arc<InstanceView>>> {
    let grant = cloud.authorise(who, Permission::DESCRIBE_INSTANCE_STATUS)?;
    let whole = page.limit.is_none() && page.after.is_none();
    if let Some(mut found) = in_memory(cloud, &grant, query, whole).await? {
        found.retain(|view| page.after.is_none_or(|after| view.row.id > after));
        found.sort_by_key(|view| view.row.id);
        return Ok(Page::cut(found, &page, |view| view.row.id));
    }
    let conn = cloud.store.read();
    let mut select = query.select(&grant).order_by_asc(instance::Column::Id);
    if let Some(after) = page.after {
        select = select.filter(instance::Column::Id.gt(after));
    }
    let rows = select.limit(page.read_limit()).all(conn).await.map_err(failed)?;
    let page = Page::cut(rows, &page, |row| row.id);
    Ok(Page {
        rows: views(conn, page.rows).await?,
        next: page.next,
    })
}

/// Reservations in the order of their launches, each with those of its instances that are wanted. A page
/// holds whole reservations.
///
/// # Errors
/// `NotFound`, naming every id that is not there.
#[boxed]
pub async fn describe_reservations(
    cloud: &Cloud,
    who: &Principal,
    query: &InstanceQuery,
    page: PageRequest<ReservationKey>,
) -> Result<Page<ReservationView, ReservationKey>> {
    let grant = cloud.authorise(who, Permission::DESCRIBE_INSTANCES)?;
    use instance::Column as C;
    let whole = page.limit.is_none() && page.after.is_none();
    if let Some(mut found) = in_memory(cloud, &grant, query, whole).await? {
        found.retain(|view| {
            page.after
                .is_none_or(|after| ReservationKey::of(&view.row) > after)
        });
        let page = Page::cut(grouped(found, |view| &view.row), &page, |(key, _)| *key);
        return Ok(reservations(who.account, page));
    }
    let conn = cloud.store.read();
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
    let rows = select.all(conn).await.map_err(failed)?;
    // Cut first: what belongs to the rows of the next page is not read.
    let Page { rows, next } = Page::cut(grouped(rows, |row| row), &page, |(key, _)| *key);
    let rows = rows.into_iter().flat_map(|(_, rows)| rows).collect();
    let rows = grouped(views(conn, rows).await?, |view| &view.row);
    Ok(reservations(who.account, Page { rows, next }))
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
    (ReservationKey::of(row), row.launch_index, row.id)
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
pub async fn get(cloud: &Cloud, who: &Principal, id: InstanceId) -> Result<InstanceView> {
    let grant = cloud.authorise(who, Permission::DESCRIBE_INSTANCE_ATTRIBUTE)?;
    granted(cloud, &grant, id).await
}

/// One instance, for whom it was granted for something.
pub(super) async fn granted(cloud: &Cloud, grant: &Grant, id: InstanceId) -> Result<InstanceView> {
    let conn = cloud.store.read();
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
    let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
    let alive = |row: &&instance::Model| row.state != State::Terminated.name();
    let runs = |row: &&instance::Model| row.state == State::Running.name();
    let with_interfaces: Vec<i64> = rows.iter().filter(alive).map(|row| row.id).collect();
    let mut interfaces = interfaces(conn, &with_interfaces).await?;
    let mut tags = tags::of(conn, ResourceKind::Instance, &ids).await?;
    let running: Vec<i64> = rows.iter().filter(runs).map(|row| row.id).collect();
    let pending: HashSet<i64> = load_in!(conn, metadata_push, Instance, &running)
        .into_iter()
        .map(|push| push.instance)
        .collect();
    let mut images: Vec<i64> = rows.iter().map(|row| row.image).collect();
    images.sort_unstable();
    images.dedup();
    let images: HashMap<i64, Arc<image::Model>> = load_in!(conn, image, Id, &images)
        .into_iter()
        .map(|row| (row.id, Arc::new(row)))
        .collect();
    let groups = placement::names(conn, &rows).await?;
    let mut disks = volumes::disks(conn, &rows.iter().collect::<Vec<_>>()).await?;
    let view = |row: instance::Model| {
        let disks = disks.remove(&row.id).unwrap_or_default();
        Ok(Arc::new(InstanceView {
            placement_group: row.placement_group.and_then(|id| groups.get(&id).cloned()),
            interfaces: interfaces.remove(&row.id).unwrap_or_default(),
            disks: disks.into_iter().map(DiskView::of).collect(),
            tags: tags.remove(&row.id).unwrap_or_default(),
            image: images.get(&row.image).cloned(),
            metadata_pending: pending.contains(&row.id),
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
        views.entry(view.row.instance).or_default().push(view);
    }
    Ok(views)
}

/// The views of interfaces' rows, in their order.
pub(in crate::api) async fn interface_views(
    conn: &impl ConnectionTrait,
    rows: Vec<interface::Model>,
) -> Result<Vec<InterfaceView>> {
    let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
    let members = load_in!(conn, interface_group, Interface, &ids);
    let mut groups: Vec<i64> = members.iter().map(|member| member.security_group).collect();
    groups.sort_unstable();
    groups.dedup();
    let groups: HashMap<i64, GroupRef> = load_in!(conn, security_group, Id, &groups)
        .iter()
        .map(|row| (row.id, GroupRef::of(row)))
        .collect();
    let mut of: HashMap<i64, Vec<GroupRef>> = HashMap::new();
    for member in members {
        of.entry(member.interface)
            .or_default()
            .extend(groups.get(&member.security_group).cloned());
    }
    let mut tags = tags::of(conn, ResourceKind::NetworkInterface, &ids).await?;
    let mut addresses = addresses::of(conn, &rows).await?;
    let view = |row: interface::Model| {
        let mut groups = of.remove(&row.id).unwrap_or_default();
        groups.sort_by_key(|group| group.id);
        let tags = tags.remove(&row.id).unwrap_or_default();
        let none = || Error::Internal("an interface was read without its addresses".into());
        let addresses = addresses.remove(&row.id).ok_or_else(none)?;
        Ok(InterfaceView {
            groups,
            tags,
            ..InterfaceView::of(row, addresses)?
        })
    };
    rows.into_iter().map(view).collect()
}
