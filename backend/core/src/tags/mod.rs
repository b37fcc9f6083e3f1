//! Tags of any resource: set and removed for many resources at once, or for none of them.

mod target;

use std::sync::Arc;

use cumulet_domain::{
    Error, ResourceKind, Result,
    account::{AccountId, Principal},
    error::Limit,
    tag::{MAX_TAGS, Tag, all_readable},
};
use cumulet_store::{
    Invalidates, authority::Permission, entity::tag, failed, first, fixed::Fixed, instances, lock, rows, tags,
};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DatabaseTransaction, DbBackend, EntityTrait, ExprTrait,
    QueryFilter, QueryOrder, QuerySelect, QueryTrait, Statement, sea_query::OnConflict,
};
use serde::{Deserialize, Serialize};

use crate::{Page, PageRequest, RequestContext, boxed, tag_room::room as tag_room};
use target::Seen;

pub use target::TagTarget;

/// Resources in one request at the most.
const MAX_RESOURCES: usize = 1000;

/// Which tags of a resource to remove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagSelector {
    /// The tag with this key,
    pub key: String,
    /// if it has this value, or whatever value it has.
    pub value: Option<String>,
}

/// A tag and what it is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagView {
    /// Of which resource.
    pub target: TagTarget,
    /// The tag.
    pub tag: Tag,
}

impl TagView {
    /// The resource's id as EC2 prints it.
    pub fn resource_id(&self) -> String {
        self.target.printed()
    }
}

/// Where a page of tags ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct TagKey {
    pub resource: i64,
    pub kind: String,
    pub key: String,
}

/// Which tags are wanted. Empty lists mean any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct TagQuery {
    pub resources: Vec<TagTarget>,
    pub kinds: Vec<ResourceKind>,
    pub keys: Vec<String>,
    pub values: Vec<String>,
}

/// Sets tags on resources; a tag that is there gets the new value.
///
/// # Errors
/// `NotFound` for a resource that is not the account's; `LimitExceeded`, `InvalidParameter`,
/// `UnreadableTagKey`; then nothing has changed.
#[boxed]
pub async fn create(cx: &RequestContext, who: &Principal, targets: &[TagTarget], new: &[Tag]) -> Result<()> {
    let grant = cx.authorise(who, Permission::CREATE_TAGS)?.own();
    tags::validate(new)?;
    let targets = checked(targets)?;
    if new.is_empty() {
        return Err(Error::MissingParameter { name: "Tag".into() });
    }
    let room = tag_room(cx, who.account, targets.len() * new.len());
    let (account, new) = (who.account, new.to_vec());
    // Before the transaction: what SQLite's writer need not do keeps nobody waiting.
    let backend = cx.store.read().get_database_backend();
    let upserts = Arc::new(upserts(backend, account, &targets, &new));
    let store = cx.store.writing(targets.len() * new.len());
    let write = store.write_with(Invalidates::Account(account), move |txn| {
        Box::pin(async move {
            let seen = target::look(txn, &grant, &targets).await?;
            if seen.iter().any(|seen| seen.reads) {
                all_readable(new.iter().map(|tag| tag.key.as_str()))?;
            }
            for upsert in upserts.iter() {
                txn.execute_raw(upsert.clone()).await.map_err(failed)?;
            }
            check_count(txn, &seen, new.len()).await?;
            room.check(txn).await?;
            changed(txn, &seen).await
        })
    });
    if write.await? {
        cx.wake.hosts();
    }
    Ok(())
}

/// Removes tags from resources; none that is there is no error. No selectors mean all tags.
///
/// # Errors
/// `NotFound` for a resource that is not the account's; `InvalidParameter`; then nothing has changed.
#[boxed]
pub async fn delete(
    cx: &RequestContext,
    who: &Principal,
    targets: &[TagTarget],
    selectors: &[TagSelector],
) -> Result<()> {
    let grant = cx.authorise(who, Permission::DELETE_TAGS)?.own();
    let targets = checked(targets)?;
    if selectors.len() > MAX_RESOURCES {
        let reason = format!("at most {MAX_RESOURCES} tags in one request");
        return Err(Error::invalid("Tag", &selectors.len().to_string(), reason));
    }
    let account = who.account;
    let selectors = selectors.to_vec();
    let each = if selectors.is_empty() {
        MAX_TAGS
    } else {
        selectors.len().min(MAX_TAGS)
    };
    let store = cx.store.writing(targets.len() * each);
    let write = store.write_with(Invalidates::Account(account), move |txn| {
        Box::pin(async move {
            let seen = target::look(txn, &grant, &targets).await?;
            for (kind, ids) in target::by_kind(&targets) {
                let mut remove = tag::Entity::delete_many()
                    .filter(tag::Column::Kind.eq(kind.resource_type()))
                    .filter(tag::Column::Resource.is_in(ids))
                    .filter(tag::Column::Account.eq(account.to_db()));
                if !selectors.is_empty() {
                    remove = remove.filter(selected(&selectors));
                }
                remove.exec(txn).await.map_err(failed)?;
            }
            changed(txn, &seen).await
        })
    });
    if write.await? {
        cx.wake.hosts();
    }
    Ok(())
}

fn selected(selectors: &[TagSelector]) -> Condition {
    selectors.iter().fold(Condition::any(), |any, selector| {
        let one = Condition::all().add(tag::Column::Key.eq(&selector.key));
        any.add(match &selector.value {
            Some(value) => one.add(tag::Column::Value.eq(value)),
            None => one,
        })
    })
}

fn checked(targets: &[TagTarget]) -> Result<Vec<TagTarget>> {
    if targets.is_empty() {
        return Err(Error::MissingParameter {
            name: "ResourceId".into(),
        });
    }
    if targets.len() > MAX_RESOURCES {
        let reason = format!("at most {MAX_RESOURCES} resources in one request");
        return Err(Error::invalid("ResourceId", &targets.len().to_string(), reason));
    }
    let mut targets = targets.to_vec();
    targets.sort_by_key(|target| (target.kind, target.digits));
    targets.dedup();
    Ok(targets)
}

/// The statements that set tags.
fn upserts(backend: DbBackend, account: AccountId, targets: &[TagTarget], new: &[Tag]) -> Vec<Statement> {
    if let ([target], [tag]) = (targets, new) {
        return vec![upsert_one(backend, account, target, tag)];
    }
    let each = |target: &TagTarget| {
        let (kind, number) = (target.kind, target.number());
        new.iter().map(move |tag| tags::row(account, kind, number, tag))
    };
    let rows: Vec<tag::ActiveModel> = targets.iter().flat_map(each).collect();
    let insert = |rows: &[tag::ActiveModel]| {
        let insert = tag::Entity::insert_many(rows.to_vec()).on_conflict(new_value());
        backend.build(&insert.into_query())
    };
    rows.chunks(1000).map(insert).collect()
}

/// What almost every request asks for.
fn upsert_one(backend: DbBackend, account: AccountId, target: &TagTarget, tag: &Tag) -> Statement {
    static UPSERT: Fixed = Fixed::new();
    let values = vec![
        target.number().into(),
        target.kind.resource_type().into(),
        tag.key.as_str().into(),
        tag.value.as_str().into(),
        account.to_db().into(),
    ];
    UPSERT.with(backend, values, || {
        let row = tags::row(account, target.kind, target.number(), tag);
        tag::Entity::insert(row).on_conflict(new_value()).into_query()
    })
}

/// A tag that is there gets the new value.
fn new_value() -> OnConflict {
    OnConflict::columns([tag::Column::Resource, tag::Column::Kind, tag::Column::Key])
        .update_column(tag::Column::Value)
        .to_owned()
}

/// No resource has too many tags now. Whether one could have, after so many were set, is known from before
/// where nobody else writes. (On a server the count that came with the lock is from before it was had.)
async fn check_count(txn: &DatabaseTransaction, seen: &[Seen], new: usize) -> Result<()> {
    let max = MAX_TAGS as u64;
    let others = lock::needed(txn);
    let room = |seen: &&Seen| !others && usize::try_from(seen.tags).is_ok_and(|tags| tags + new <= MAX_TAGS);
    let tight: Vec<TagTarget> = seen.iter().filter(|seen| !room(seen)).map(Seen::target).collect();
    for (kind, ids) in target::by_kind(&tight) {
        let over = tag::Entity::find()
            .select_only()
            .column(tag::Column::Resource)
            .filter(tag::Column::Resource.is_in(ids))
            .filter(tag::Column::Kind.eq(kind.resource_type()))
            .group_by(tag::Column::Resource)
            .having(tag::Column::Key.count().gt(max));
        if first::<_, i64>(over, txn).await?.is_some() {
            let limit = Limit::Tags;
            return Err(Error::LimitExceeded { limit, max });
        }
    }
    Ok(())
}

/// Instances can read their own tags, where their options say so. (What a host has of the others' tags
/// goes out of date; it gets the present ones together with the options that let them be read.) The
/// answer says whether a host has to hear of it.
async fn changed(txn: &DatabaseTransaction, seen: &[Seen]) -> Result<bool> {
    let readers: Vec<i64> = seen
        .iter()
        .filter(|seen| seen.reads)
        .map(|seen| seen.number)
        .collect();
    instances::bump_metadata(txn, &readers).await?;
    Ok(!readers.is_empty())
}

/// Tags in the order of their resources.
///
/// # Errors
/// Those of the database.
#[boxed]
pub async fn describe(
    cx: &RequestContext,
    who: &Principal,
    query: &TagQuery,
    page: PageRequest<TagKey>,
) -> Result<Page<TagView, TagKey>> {
    let grant = cx.authorise(who, Permission::DESCRIBE_TAGS)?;
    use tag::Column as C;
    let mut select = tag::Entity::find()
        .filter(C::Account.eq(grant.account().to_db()))
        .filter(query.condition())
        .order_by_asc(C::Resource)
        .order_by_asc(C::Kind)
        .order_by_asc(C::Key);
    if let Some(after) = &page.after {
        select = select.filter(beyond(after));
    }
    let rows = rows::all(select.limit(page.read_limit()), cx.store.read()).await?;
    let page = Page::cut(rows, &page, |row| TagKey {
        resource: row.resource,
        kind: row.kind.clone(),
        key: row.key.clone(),
    });
    Ok(page.replace(|rows| rows.into_iter().filter_map(view).collect()))
}

fn view(row: tag::Model) -> Option<TagView> {
    let kind = ResourceKind::ALL
        .into_iter()
        .find(|kind| kind.resource_type() == row.kind)?;
    Some(TagView {
        target: TagTarget::from_db(kind, row.resource),
        tag: Tag {
            key: row.key,
            value: row.value,
        },
    })
}

fn beyond(after: &TagKey) -> Condition {
    use tag::Column as C;
    let same = || Condition::all().add(C::Resource.eq(after.resource));
    let beyond = Condition::any()
        .add(C::Resource.gt(after.resource))
        .add(same().add(C::Kind.gt(&after.kind)))
        .add(same().add(C::Kind.eq(&after.kind)).add(C::Key.gt(&after.key)));
    // Said once more so that an index can begin there: a page costs its own rows and not those before it.
    Condition::all().add(C::Resource.gte(after.resource)).add(beyond)
}

impl TagQuery {
    fn condition(&self) -> Condition {
        use tag::Column as C;
        let mut all = Condition::all();
        if !self.resources.is_empty() {
            let any =
                target::by_kind(&self.resources)
                    .into_iter()
                    .fold(Condition::any(), |any, (kind, ids)| {
                        let kind = C::Kind.eq(kind.resource_type());
                        any.add(Condition::all().add(kind).add(C::Resource.is_in(ids)))
                    });
            all = all.add(any);
        }
        if !self.kinds.is_empty() {
            all = all.add(C::Kind.is_in(self.kinds.iter().map(|kind| kind.resource_type())));
        }
        if !self.keys.is_empty() {
            all = all.add(C::Key.is_in(&self.keys));
        }
        if !self.values.is_empty() {
            all = all.add(C::Value.is_in(&self.values));
        }
        all
    }
}
