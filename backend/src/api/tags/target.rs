//! Resources of any kind, by their printed ids.

use std::collections::BTreeMap;

use cumulet_domain::{
    Error, Kind, Result,
    id::{Id, Resource, marker},
};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DbErr, ExprTrait, QueryResult, Value,
    sea_query::{Expr, LockType, Order, Query},
};

use crate::{
    entity::{instance, tag},
    store::{failed, fixed::Fixed, instances::Sight},
};

/// A resource of any kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TagTarget {
    /// Its kind.
    pub kind: Kind,
    /// The number of its id.
    pub number: i64,
}

impl TagTarget {
    /// The resource with this printed id.
    ///
    /// # Errors
    /// `InvalidParameter` where the prefix is none, `Malformed` where the rest is no id.
    pub fn parse(text: &str) -> Result<Self> {
        let kind = Kind::of(text)
            .ok_or_else(|| Error::invalid("ResourceId", text, "this is not a resource's id"))?;
        // A printed id of any kind differs in the prefix alone.
        let digits = text.rsplit_once('-').map_or("", |(_, digits)| digits);
        let id: Id<marker::Instance> = format!("i-{digits}").parse().map_err(|_| Error::Malformed {
            kind,
            id: text.chars().take(64).collect(),
        })?;
        Ok(TagTarget {
            kind,
            number: id.to_db(),
        })
    }

    /// The target that a typed id names.
    pub fn of<R: Resource>(id: Id<R>) -> Self {
        TagTarget {
            kind: R::KIND,
            number: id.to_db(),
        }
    }

    /// The printed id.
    pub fn printed(&self) -> String {
        format!("{}-{:017x}", self.kind.prefix(), self.number.cast_unsigned())
    }
}

/// Targets by kind.
pub(super) fn by_kind(targets: &[TagTarget]) -> BTreeMap<Kind, Vec<i64>> {
    let mut kinds: BTreeMap<Kind, Vec<i64>> = BTreeMap::new();
    for target in targets {
        kinds.entry(target.kind).or_default().push(target.number);
    }
    kinds
}

/// A target that is there.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) kind: Kind,
    pub(super) number: i64,
    /// How many tags it has.
    pub(super) tags: i64,
    /// It is an instance that can read its own tags.
    pub(super) reads: bool,
}

impl Seen {
    pub(super) fn target(&self) -> TagTarget {
        TagTarget {
            kind: self.kind,
            number: self.number,
        }
    }
}

/// Looks at the targets, every one of which must exist and belong to the account, and locks them: what is
/// gone has no tags, and those who count come one after the other.
pub(super) async fn look(
    conn: &impl ConnectionTrait,
    sight: Sight,
    targets: &[TagTarget],
) -> Result<Vec<Seen>> {
    let mut all = Vec::with_capacity(targets.len());
    for (kind, ids) in by_kind(targets) {
        let seen = owned(conn, sight, kind, &ids).await?;
        let gone = |id: &&i64| !seen.iter().any(|seen| seen.number == **id);
        let printed = |number: &i64| {
            let number = *number;
            TagTarget { kind, number }.printed()
        };
        let gone: Vec<String> = ids.iter().filter(gone).map(printed).collect();
        if !gone.is_empty() {
            let id = gone.join(", ");
            return Err(Error::NotFound { kind, id });
        }
        all.extend(seen);
    }
    Ok(all)
}

/// Those of the ids that the account owns.
macro_rules! select {
    ($kind:expr, $sight:expr, $entity:ident, $ids:expr $(, $extra:expr)*) => {{
        use crate::entity::$entity::{Column, Entity};
        let which = Condition::all()
            .add(Column::Account.eq($sight.account.to_db()))
            .add(Column::Id.is_in($ids.iter().copied()))
            $(.add($extra))*;
        let mut select = Query::select();
        select.column((Entity, Column::Id)).from(Entity).cond_where(which);
        select.expr_as(count($kind, Expr::col((Entity, Column::Id))), "tags");
        if $kind == Kind::Instance {
            select.column(instance::Column::HttpTags);
        }
        select.lock(LockType::Update);
        if $ids.len() > 1 {
            select.order_by((Entity, Column::Id), Order::Asc);
        }
        select
    }};
}

macro_rules! owned_in {
    ($conn:expr, $kind:expr, $($rest:tt)*) => {
        rows($kind, $conn.query_all(&select!($kind, $($rest)*)).await)
    };
}

/// How many tags a row has, as a column of its query.
fn count(kind: Kind, id: Expr) -> Expr {
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
async fn one_instance(conn: &impl ConnectionTrait, sight: Sight, id: i64) -> Result<Vec<Seen>> {
    static SELECT: Fixed = Fixed::new();
    let (kind, account) = (Kind::Instance, Value::from(sight.account.to_db()));
    let values = vec![
        kind.resource_type().into(),
        account.clone(),
        id.into(),
        account,
        sight.ended_after.0.into(),
    ];
    let select = SELECT.with(conn.get_database_backend(), values, || {
        select!(kind, sight, instance, [id], sight.condition())
    });
    rows(kind, conn.query_all_raw(select).await)
}

fn rows(kind: Kind, found: Result<Vec<QueryResult>, DbErr>) -> Result<Vec<Seen>> {
    let seen = |row: QueryResult| -> Result<Seen, DbErr> {
        Ok(Seen {
            kind,
            number: row.try_get("", "id")?,
            tags: row.try_get("", "tags")?,
            reads: kind == Kind::Instance && row.try_get::<i64>("", "http_tags")? != 0,
        })
    };
    let rows = found.map_err(failed)?;
    rows.into_iter().map(|row| seen(row).map_err(failed)).collect()
}

async fn owned(conn: &impl ConnectionTrait, sight: Sight, kind: Kind, ids: &[i64]) -> Result<Vec<Seen>> {
    if let (Kind::Instance, [id]) = (kind, ids) {
        return one_instance(conn, sight, *id).await;
    }
    match kind {
        // A root volume has its instance's number.
        Kind::Instance | Kind::Volume => owned_in!(conn, kind, sight, instance, ids, sight.condition()),
        Kind::Image => {
            let there = crate::entity::image::Column::DeregisteredAt.is_null();
            owned_in!(conn, kind, sight, image, ids, there)
        }
        Kind::KeyPair => owned_in!(conn, kind, sight, key_pair, ids),
        Kind::SecurityGroup => owned_in!(conn, kind, sight, security_group, ids),
        Kind::SecurityGroupRule => owned_in!(conn, kind, sight, security_group_rule, ids),
        Kind::Vpc => owned_in!(conn, kind, sight, vpc, ids),
        Kind::Subnet => owned_in!(conn, kind, sight, subnet, ids),
        Kind::NetworkInterface => owned_in!(conn, kind, sight, interface, ids),
        Kind::PlacementGroup => owned_in!(conn, kind, sight, placement_group, ids),
        Kind::Reservation
        | Kind::Snapshot
        | Kind::InterfaceAttachment
        | Kind::RouteTable
        | Kind::InternetGateway
        | Kind::NetworkAcl
        | Kind::DhcpOptions
        | Kind::Address
        | Kind::Operation
        | Kind::Aggregate => Ok(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_every_kind_parse_and_print() {
        for kind in Kind::ALL {
            let text = format!("{}-0f123456789abcdef", kind.prefix());
            let target = TagTarget::parse(&text).unwrap();
            assert_eq!((target.kind, target.printed()), (kind, text));
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
