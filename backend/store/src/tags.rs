//! Tags of resources.

use std::collections::HashMap;

use cumulet_domain::{
    Error, ResourceKind, Result,
    account::AccountId,
    error::Limit,
    tag::{MAX_TAGS, Tag},
};
use sea_orm::{ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter};

use super::{batch::load_in, failed};
use crate::entity::{columns::Owner, tag};

/// Checks the tags of a new resource: each one, no key twice, not too many.
///
/// # Errors
/// The first rule that is broken.
pub fn validate(tags: &[Tag]) -> Result<()> {
    if tags.len() > MAX_TAGS {
        return Err(Error::LimitExceeded {
            limit: Limit::Tags,
            max: MAX_TAGS as u64,
        });
    }
    for (i, tag) in tags.iter().enumerate() {
        tag.validate()?;
        if tags[..i].iter().any(|other| other.key == tag.key) {
            return Err(Error::invalid("Tag", &tag.key, "the key is there twice"));
        }
    }
    Ok(())
}

/// The tags of many resources of one kind, each one's sorted by key.
///
/// # Errors
/// Those of the database.
pub async fn of(
    conn: &impl ConnectionTrait,
    kind: ResourceKind,
    ids: &[i64],
) -> Result<HashMap<i64, Vec<Tag>>> {
    let rows = load_in!(
        conn,
        tag,
        Resource,
        ids,
        tag::Column::Kind.eq(kind.resource_type())
    );
    let mut tags: HashMap<i64, Vec<Tag>> = HashMap::new();
    for row in rows {
        tags.entry(row.resource).or_default().push(Tag {
            key: row.key,
            value: row.value,
        });
    }
    for list in tags.values_mut() {
        list.sort();
    }
    Ok(tags)
}

/// Adds tags to new resources of one kind, the same ones to each.
///
/// # Errors
/// Those of the database.
pub async fn insert(
    conn: &impl ConnectionTrait,
    account: AccountId,
    kind: ResourceKind,
    ids: &[i64],
    tags: &[Tag],
) -> Result<()> {
    let rows: Vec<_> = ids
        .iter()
        .flat_map(|id| tags.iter().map(move |tag| row(account, kind, *id, tag)))
        .collect();
    // Five columns a row, under the number of parameters that every database takes.
    for rows in rows.chunks(1000) {
        let insert = tag::Entity::insert_many(rows.to_vec())
            .exec_without_returning(conn)
            .await;
        insert.map_err(failed)?;
    }
    Ok(())
}

/// One row.
pub fn row(account: AccountId, kind: ResourceKind, id: i64, tag: &Tag) -> tag::ActiveModel {
    tag::ActiveModel {
        resource: Set(id),
        kind: Set(kind.resource_type().into()),
        key: Set(tag.key.clone()),
        value: Set(tag.value.clone()),
        account: Set(Owner(account)),
    }
}

/// Removes the tags of resources that are gone.
///
/// # Errors
/// Those of the database.
pub async fn remove(conn: &impl ConnectionTrait, kind: ResourceKind, ids: &[i64]) -> Result<()> {
    let delete = tag::Entity::delete_many()
        .filter(tag::Column::Resource.is_in(ids.iter().copied()))
        .filter(tag::Column::Kind.eq(kind.resource_type()));
    delete.exec(conn).await.map(drop).map_err(failed)
}
