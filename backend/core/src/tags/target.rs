//! Tag targets: resources of any kind, by their printed ids.

use std::collections::BTreeMap;

use cumulet_domain::{
    Error, ResourceKind, Result,
    id::{Digits, Id, Resource},
};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbErr, ExprTrait, QueryResult, Value,
    sea_query::{Expr, LockType, Query, SelectStatement},
};

use cumulet_store::{
    authority::{Authority as _, Grant, Visibility},
    entity::{self, columns::Flag, instance, tag},
    failed,
    fixed::Fixed,
    resource::{self, Declared},
};

/// A resource of any kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TagTarget {
    /// Its kind.
    pub kind: ResourceKind,
    /// Its id without the kind.
    pub digits: Digits,
}

impl TagTarget {
    /// The resource with this printed id.
    ///
    /// # Errors
    /// `NoId` where the prefix is none, `Malformed` where the rest is no id.
    pub fn parse(text: &str) -> Result<Self> {
        let kind = ResourceKind::of_prefix(text).ok_or_else(|| Error::NoId {
            text: text.chars().take(128).collect(),
        })?;
        let digits = text.rsplit_once('-').map_or("", |(_, digits)| digits);
        let digits = digits.parse().map_err(|()| Error::Malformed {
            kind,
            id: text.chars().take(64).collect(),
        })?;
        Ok(TagTarget { kind, digits })
    }

    /// The target that a typed id names.
    pub fn of<R: Resource>(id: Id<R>) -> Self {
        TagTarget {
            kind: R::KIND,
            digits: id.digits(),
        }
    }

    /// The resource of a row.
    pub fn from_db(kind: ResourceKind, number: i64) -> Self {
        let digits = Digits::new(number.cast_unsigned());
        TagTarget { kind, digits }
    }

    /// The number as the database keeps it.
    pub fn number(&self) -> i64 {
        self.digits.to_db()
    }

    /// The printed id.
    pub fn printed(&self) -> String {
        format!("{}-{}", self.kind.prefix(), self.digits)
    }
}

/// Targets by kind.
pub(super) fn by_kind(targets: &[TagTarget]) -> BTreeMap<ResourceKind, Vec<i64>> {
    let mut kinds: BTreeMap<ResourceKind, Vec<i64>> = BTreeMap::new();
    for target in targets {
        kinds.entry(target.kind).or_default().push(target.number());
    }
    kinds
}

/// A target that is there.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) kind: ResourceKind,
    pub(super) number: i64,
    /// How many tags it has.
    pub(super) tags: i64,
    /// It is an instance that can read its own tags.
    pub(super) reads: bool,
}

impl Seen {
    pub(super) fn target(&self) -> TagTarget {
        TagTarget::from_db(self.kind, self.number)
    }
}

/// Looks at the targets, every one of which must exist and belong to the account, and locks them: what is
/// gone has no tags, and those who count come one after the other.
pub(super) async fn look(
    conn: &impl ConnectionTrait,
    grant: &Grant,
    targets: &[TagTarget],
) -> Result<Vec<Seen>> {
    let mut all = Vec::with_capacity(targets.len());
    for (kind, ids) in by_kind(targets) {
        let seen = owned(conn, grant.visibility(), kind, &ids).await?;
        let gone = |target: &&TagTarget| {
            target.kind == kind && !seen.iter().any(|seen| seen.number == target.number())
        };
        if seen.len() < ids.len() {
            let gone: Vec<String> = targets.iter().filter(gone).map(TagTarget::printed).collect();
            if !gone.is_empty() {
                let id = gone.join(", ");
                return Err(Error::NotFound { kind, id });
            }
        }
        if grant.policy().is_some() {
            let owner = |seen: &Seen| (seen.target().digits, grant.account());
            resource::shown(conn, grant, kind, &seen.iter().map(owner).collect::<Vec<_>>()).await?;
        }
        all.extend(seen);
    }
    Ok(all)
}

/// Those of the ids that the account owns, with what is wanted of them.
fn select(declared: Declared, visibility: Visibility, ids: &[i64]) -> SelectStatement {
    let mut select = declared.select(visibility, ids);
    select.expr_as(count(declared.kind, Expr::col(declared.id())), "tags");
    if declared.kind == ResourceKind::Instance {
        select.column(instance::Column::HttpTags);
    }
    select.lock(LockType::Update);
    select
}

/// How many tags a row has, as a column of its query.
fn count(kind: ResourceKind, id: Expr) -> Expr {
    use tag::Column as C;
    let mut select = Query::select();
    select
        .expr(C::Key.count())
        .from(tag::Entity)
        .and_where(Expr::col((tag::Entity, C::Resource)).eq(id))
        .and_where(C::Kind.eq(kind.resource_type()));
    select.into()
}

/// What almost every request is about.
async fn one_instance(
    conn: &impl ConnectionTrait,
    declared: Declared,
    visibility: Visibility,
    id: i64,
) -> Result<Vec<Seen>> {
    static SELECT: Fixed = Fixed::new();
    let values = vec![
        declared.kind.resource_type().into(),
        id.into(),
        Value::from(visibility.account.to_db()),
        visibility.ended_after.0.into(),
    ];
    let written = || select(declared, visibility, &[id]);
    let select = SELECT.with(conn.get_database_backend(), values, written);
    rows(declared.kind, conn.query_all_raw(select).await)
}

fn rows(kind: ResourceKind, found: Result<Vec<QueryResult>, DbErr>) -> Result<Vec<Seen>> {
    let seen = |row: QueryResult| -> Result<Seen, DbErr> {
        Ok(Seen {
            kind,
            number: row.try_get("", "id")?,
            tags: row.try_get("", "tags")?,
            reads: kind == ResourceKind::Instance && row.try_get::<Flag>("", "http_tags")?.0,
        })
    };
    let rows = found.map_err(failed)?;
    rows.into_iter().map(|row| seen(row).map_err(failed)).collect()
}

async fn owned(
    conn: &impl ConnectionTrait,
    visibility: Visibility,
    kind: ResourceKind,
    ids: &[i64],
) -> Result<Vec<Seen>> {
    let Some(declared) = entity::declared(kind) else {
        return Ok(Vec::new());
    };
    if let (ResourceKind::Instance, [id]) = (kind, ids) {
        return one_instance(conn, declared, visibility, *id).await;
    }
    rows(kind, conn.query_all(&select(declared, visibility, ids)).await)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_every_kind_parse_and_print() {
        for kind in ResourceKind::ALL {
            for digits in ["0f123456789abcdef", "1234567890abcdef0", "1a2b3c4d"] {
                let text = format!("{}-{digits}", kind.prefix());
                let target = TagTarget::parse(&text).unwrap();
                assert_eq!((target.kind, target.printed()), (kind, text));
            }
        }
        for (text, malformed) in [
            ("i-xyz", true),
            ("vpc-", true),
            ("hello", false),
            ("zz-0123456789abcdef0", false),
        ] {
            let error = TagTarget::parse(text).unwrap_err();
            assert_eq!(matches!(error, Error::Malformed { .. }), malformed, "{text}");
        }
    }
}
