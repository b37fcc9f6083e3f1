//! Declared resources: what a kind's rows are, which of them an account sees, and their listing and loading, once
//! for all kinds. Nothing of an account is loaded without an [`Authority`], whose sight is the scope of every query.
//! A row that a call is about (`find…`) is shown to the principal's policy; a listing is not, as on AWS, where a
//! principal may list a kind of resource or may not, and no policy leaves out one row of it.

mod declare;

use std::collections::{HashMap, HashSet};

use cumulet_domain::{
    Error, ResourceKind, Result,
    account::AccountId,
    id::{Digits, Id},
    tag::Tag,
};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect, Select,
};

pub use declare::{Declared, Named, Resource, lasting, owned};
pub(crate) use declare::{named, resource};

use super::{
    batch::{chunks, missing},
    column, failed, is_taken, lock,
    page::{Page, PageRequest},
    rows, tags,
};
use crate::authority::{Authority, Object};

/// Ids and names in a listing at the most that are looked for one by one.
const LOOKED_FOR: usize = 1024;

/// The rows that are in sight.
pub fn sight<E: Resource>(by: &dyn Authority) -> Condition {
    by.sight().map_or_else(Condition::all, E::visible)
}

/// How a row that is read is locked until the transaction ends (`store/lock.rs` has the order).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lock {
    /// Not at all.
    None,
    /// Nobody deletes it.
    Shared,
    /// Nobody changes it: it is what the call is going to change, which has to be the account's own.
    Exclusive,
}

/// The row that a condition selects, which is shown to the policy. For what is no id and no name: a kind's default,
/// another sight. (The condition is to have the sight in it.)
///
/// # Errors
/// `Unauthorized` where the policy, or its owner, refuses it; those of the database.
pub async fn one<E: Resource>(
    conn: &impl ConnectionTrait,
    by: &dyn Authority,
    which: Condition,
    lock: Lock,
) -> Result<Option<E::Model>> {
    let query = E::find().filter(which);
    let row = match lock {
        Lock::None => rows::all(query.limit(1), conn).await?.pop(),
        Lock::Shared => lock::shared(conn, query).await?,
        Lock::Exclusive => rows::all(query.limit(1).lock_exclusive(), conn).await?.pop(),
    };
    if let Some(row) = &row {
        if lock == Lock::Exclusive {
            own::<E>(by, std::slice::from_ref(row))?;
        }
        show::<E>(conn, by, std::slice::from_ref(row)).await?;
    }
    Ok(row)
}

/// The row of an id.
///
/// # Errors
/// `NotFound`, `Unauthorized`.
pub async fn find<E: Resource>(
    conn: &impl ConnectionTrait,
    by: &dyn Authority,
    id: Id<E::Marker>,
    lock: Lock,
) -> Result<E::Model> {
    let row = one::<E>(conn, by, sight::<E>(by).add(E::ID.eq(id.to_db())), lock).await?;
    row.ok_or_else(|| not_found::<E>(id.to_string()))
}

/// The row of a name.
///
/// # Errors
/// `NotFound`, `Unauthorized`.
pub async fn find_named<E: Named>(
    conn: &impl ConnectionTrait,
    by: &dyn Authority,
    name: &str,
    lock: Lock,
) -> Result<E::Model> {
    let row = one::<E>(conn, by, sight::<E>(by).add(E::NAME.eq(name)), lock).await?;
    row.ok_or_else(|| not_found::<E>(name.chars().take(255).collect()))
}

/// The rows of ids, in the ids' order without repetitions.
///
/// # Errors
/// `NotFound`, naming all that are not there; `Unauthorized`.
pub async fn find_all<E: Resource>(
    conn: &impl ConnectionTrait,
    by: &dyn Authority,
    ids: &[Id<E::Marker>],
) -> Result<Vec<E::Model>> {
    let rows = list_all::<E>(conn, by, ids).await?;
    show::<E>(conn, by, &rows).await?;
    Ok(rows)
}

/// Like [`find_all`], for a transaction that changes them: nobody else does until it ends.
///
/// # Errors
/// Those of [`find_all`].
pub async fn find_all_locked<E: Resource>(
    txn: &impl ConnectionTrait,
    by: &dyn Authority,
    ids: &[Id<E::Marker>],
) -> Result<Vec<E::Model>> {
    if lock::needed(txn) {
        // Nobody holds up what is not theirs.
        let theirs = list_all::<E>(txn, by, ids).await?;
        lock::rows::<E>(txn, E::ID, &numbers::<E>(&theirs)).await?;
    }
    let rows = find_all::<E>(txn, by, ids).await?;
    own::<E>(by, &rows)?;
    Ok(rows)
}

/// The rows of ids, in the ids' order without repetitions, of a listing or of what a call names beside what it is
/// about: they are not shown to the policy.
///
/// # Errors
/// `NotFound`, naming all that are not there.
pub async fn list_all<E: Resource>(
    conn: &impl ConnectionTrait,
    by: &dyn Authority,
    ids: &[Id<E::Marker>],
) -> Result<Vec<E::Model>> {
    let wanted: Vec<i64> = ids.iter().map(|id| id.to_db()).collect();
    let mut found: HashMap<i64, E::Model> = HashMap::with_capacity(wanted.len());
    for chunk in chunks(&wanted) {
        let query = E::find().filter(E::ID.is_in(chunk)).filter(sight::<E>(by));
        let rows = rows::all(query, conn).await?;
        found.extend(rows.into_iter().map(|row| (E::id(&row).to_db(), row)));
    }
    if let Some(ids) = missing(ids, |id| found.contains_key(&id.to_db())) {
        return Err(not_found::<E>(ids));
    }
    Ok(wanted.iter().filter_map(|id| found.remove(id)).collect())
}

/// A page of the rows in sight in the order of their ids: all, or those of these ids, which must all be there; and of
/// these those that something else is true of.
///
/// # Errors
/// `NotFound`, naming every id that is not there.
pub async fn list<E: Resource>(
    conn: &impl ConnectionTrait,
    by: &dyn Authority,
    ids: &[Id<E::Marker>],
    also: Condition,
    page: &PageRequest,
) -> Result<Page<E::Model>> {
    let select = |which: Condition| -> Select<E> {
        let after = page.after.map(|after| E::ID.gt(after));
        E::find()
            .filter(which)
            .filter(also.clone())
            .filter(after.into_iter().fold(Condition::all(), Condition::add))
            .order_by_asc(E::ID)
            .limit(page.read_limit())
    };
    let cut = |rows| Page::cut(rows, page, |row| E::id(row).to_db());
    if ids.is_empty() {
        return Ok(cut(rows::all(select(sight::<E>(by)), conn).await?));
    }
    let mut wanted: Vec<i64> = ids.iter().map(|id| id.to_db()).collect();
    wanted.sort_unstable();
    wanted.dedup();
    let mut found = Vec::new();
    for chunk in chunks(&wanted) {
        let which = sight::<E>(by).add(E::ID.is_in(chunk));
        found.extend(rows::all(select(which), conn).await?);
    }
    if found.len() < wanted.len() {
        // Some are of another page, or not what else is wanted, or not there.
        all_there::<E>(conn, by, ids, &wanted).await?;
    }
    Ok(cut(found))
}

async fn all_there<E: Resource>(
    conn: &impl ConnectionTrait,
    by: &dyn Authority,
    ids: &[Id<E::Marker>],
    wanted: &[i64],
) -> Result<()> {
    let mut there: HashSet<i64> = HashSet::with_capacity(wanted.len());
    for chunk in chunks(wanted) {
        let query = E::find()
            .select_only()
            .column(E::ID)
            .filter(sight::<E>(by))
            .filter(E::ID.is_in(chunk));
        there.extend(column::<_, i64>(query, conn).await?);
    }
    match missing(ids, |id| there.contains(&id.to_db())) {
        Some(ids) => Err(not_found::<E>(ids)),
        None => Ok(()),
    }
}

/// The rows in sight by name: all, or those of these ids and names, which must all be there.
///
/// # Errors
/// `NotFound`, naming every id or name that is not there.
pub async fn list_named<E: Named>(
    conn: &impl ConnectionTrait,
    by: &dyn Authority,
    ids: &[Id<E::Marker>],
    names: &[String],
) -> Result<Vec<E::Model>> {
    let mut select = E::find().filter(sight::<E>(by)).order_by_asc(E::NAME);
    let looked_for = ids.len() + names.len();
    if looked_for > 0 && looked_for <= LOOKED_FOR {
        let named = Condition::any()
            .add(E::ID.is_in(ids.iter().map(|id| id.to_db())))
            .add(E::NAME.is_in(names));
        select = select.filter(named);
    }
    let mut rows = rows::all(select, conn).await?;
    let known = |id: &Id<E::Marker>| rows.iter().any(|row| E::id(row) == *id);
    let gone = missing(ids, known)
        .or_else(|| missing(names, |name| rows.iter().any(|row| E::name(row) == name.as_str())));
    if let Some(gone) = gone {
        return Err(not_found::<E>(gone));
    }
    rows.retain(|row| {
        (ids.is_empty() || ids.contains(&E::id(row)))
            && (names.is_empty() || names.iter().any(|name| name == E::name(row)))
    });
    Ok(rows)
}

/// What is made of rows and their tags, in the rows' order.
///
/// # Errors
/// Those of the database.
pub async fn with_tags<E: Resource, V>(
    conn: &impl ConnectionTrait,
    rows: Vec<E::Model>,
    view: impl Fn(E::Model, Vec<Tag>) -> V,
) -> Result<Vec<V>> {
    let mut tags = tags::of(conn, E::KIND, &numbers::<E>(&rows)).await?;
    let tagged = |row: E::Model| {
        let tags = tags.remove(&E::id(&row).to_db()).unwrap_or_default();
        view(row, tags)
    };
    Ok(rows.into_iter().map(tagged).collect())
}

/// Adds a new resource with its tags. It is shown to the policy as it is going to be.
///
/// # Errors
/// `Duplicate` when its account has one of the name; `Unauthorized`.
pub async fn insert<E>(
    txn: &impl ConnectionTrait,
    by: &dyn Authority,
    row: E::Model,
    new_tags: &[Tag],
) -> Result<()>
where
    E: Named<Model: IntoActiveModel<E::ActiveModel>>,
{
    let (digits, owner, name) = (E::id(&row).digits(), E::owner(&row), E::name(&row).to_owned());
    show_new::<E>(by, &row, new_tags)?;
    let insert = E::insert(row.into_active_model()).exec_without_returning(txn);
    insert.await.map_err(|error| match is_taken(&error) {
        true => duplicate::<E>(&name),
        false => failed(error),
    })?;
    tags::insert(txn, owner, E::KIND, &[digits.to_db()], new_tags).await
}

/// Deletes a row, if that is still true of it, and its tags with it. The answer says whether it was there.
///
/// # Errors
/// Those of the database.
pub async fn delete<E: Resource>(
    txn: &impl ConnectionTrait,
    id: Id<E::Marker>,
    only_if: Condition,
) -> Result<bool> {
    let delete = E::delete_many()
        .filter(E::ID.eq(id.to_db()))
        .filter(only_if)
        .exec(txn);
    if delete.await.map_err(failed)?.rows_affected == 0 {
        return Ok(false);
    }
    tags::remove(txn, E::KIND, &[id.to_db()]).await?;
    Ok(true)
}

/// The error of what is not there, or not in sight.
pub fn not_found<E: Resource>(id: String) -> Error {
    Error::NotFound { kind: E::KIND, id }
}

/// The error of a name that the account has given already.
pub fn duplicate<E: Named>(name: &str) -> Error {
    Error::Duplicate {
        kind: E::KIND,
        name: name.into(),
    }
}

fn numbers<E: Resource>(rows: &[E::Model]) -> Vec<i64> {
    rows.iter().map(|row| E::id(row).to_db()).collect()
}

/// What is seen of another account's is not for changing.
fn own<E: Resource>(by: &dyn Authority, rows: &[E::Model]) -> Result<()> {
    let Some(sight) = by.sight() else { return Ok(()) };
    match rows.iter().all(|row| E::owner(row) == sight.account) {
        true => Ok(()),
        false => Err(by.permission().refused()),
    }
}

/// Shows rows to the policy, by which they were not chosen.
///
/// # Errors
/// `Unauthorized`.
pub async fn show<E: Resource>(
    conn: &impl ConnectionTrait,
    by: &dyn Authority,
    rows: &[E::Model],
) -> Result<()> {
    if by.policy().is_none() {
        return Ok(());
    }
    let rows: Vec<(Digits, AccountId)> = rows
        .iter()
        .map(|row| (E::id(row).digits(), E::owner(row)))
        .collect();
    shown(conn, by, E::KIND, &rows).await
}

/// Shows a row that is going to be made, with the tags that it is going to have, to the policy.
///
/// # Errors
/// `Unauthorized`.
pub fn show_new<E: Resource>(by: &dyn Authority, row: &E::Model, tags: &[Tag]) -> Result<()> {
    check(by, E::KIND, E::id(row).digits(), E::owner(row), tags)
}

/// Shows rows of one kind, with their owners, to the policy. Nothing is read where there is none.
///
/// # Errors
/// `Unauthorized`.
pub async fn shown(
    conn: &impl ConnectionTrait,
    by: &dyn Authority,
    kind: ResourceKind,
    rows: &[(Digits, AccountId)],
) -> Result<()> {
    let Some(policy) = by.policy() else { return Ok(()) };
    let mut tags_of = HashMap::new();
    if policy.wants_tags() {
        let numbers: Vec<i64> = rows.iter().map(|(digits, _)| digits.to_db()).collect();
        tags_of = tags::of(conn, kind, &numbers).await?;
    }
    for (digits, owner) in rows {
        let tags = tags_of.get(&digits.to_db()).map_or(&[][..], Vec::as_slice);
        check(by, kind, *digits, *owner, tags)?;
    }
    Ok(())
}

fn check(
    by: &dyn Authority,
    kind: ResourceKind,
    digits: Digits,
    owner: AccountId,
    tags: &[Tag],
) -> Result<()> {
    let object = Object {
        kind,
        digits,
        owner,
        tags,
    };
    match by.policy() {
        Some(policy) if !policy.allows(by.permission(), &object) => Err(by.permission().refused()),
        _ => Ok(()),
    }
}
