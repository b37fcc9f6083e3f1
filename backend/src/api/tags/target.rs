//! Resources of any kind, by their printed ids.

use std::collections::BTreeMap;

use cumulet_domain::{
    Error, Kind, Result,
    id::{Id, Resource, marker},
};
use sea_orm::{Condition, ConnectionTrait};

use crate::store::instances::Sight;

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

/// Checks that every target exists and belongs to the account.
pub(super) async fn check_owned(
    conn: &impl ConnectionTrait,
    sight: Sight,
    targets: &[TagTarget],
) -> Result<()> {
    for (kind, ids) in by_kind(targets) {
        let known = owned(conn, sight, kind, &ids).await?;
        let printed = |number: &i64| {
            TagTarget {
                kind,
                number: *number,
            }
            .printed()
        };
        let gone: Vec<String> = ids.iter().filter(|id| !known.contains(id)).map(printed).collect();
        if !gone.is_empty() {
            return Err(Error::NotFound {
                kind,
                id: gone.join(", "),
            });
        }
    }
    Ok(())
}

/// Those of the ids that the account owns.
macro_rules! owned_in {
    ($conn:expr, $account:expr, $entity:ident, $ids:expr $(, $extra:expr)*) => {{
        use sea_orm::ColumnTrait as _;
        use crate::entity::$entity::{Column, Entity};
        let which = Condition::all()
            .add(Column::Account.eq($account.to_db()))
            .add(Column::Id.is_in($ids.iter().copied()))
            $(.add($extra))*;
        crate::store::ids::<Entity>($conn, Column::Id, which).await
    }};
}

async fn owned(conn: &impl ConnectionTrait, sight: Sight, kind: Kind, ids: &[i64]) -> Result<Vec<i64>> {
    use sea_orm::ColumnTrait as _;
    let account = sight.account;
    match kind {
        // A root volume has its instance's number.
        Kind::Instance | Kind::Volume => owned_in!(conn, account, instance, ids, sight.condition()),
        Kind::Image => {
            let there = crate::entity::image::Column::DeregisteredAt.is_null();
            owned_in!(conn, account, image, ids, there)
        }
        Kind::KeyPair => owned_in!(conn, account, key_pair, ids),
        Kind::SecurityGroup => owned_in!(conn, account, security_group, ids),
        Kind::SecurityGroupRule => owned_in!(conn, account, security_group_rule, ids),
        Kind::Vpc => owned_in!(conn, account, vpc, ids),
        Kind::Subnet => owned_in!(conn, account, subnet, ids),
        Kind::NetworkInterface => owned_in!(conn, account, interface, ids),
        Kind::Reservation
        | Kind::Snapshot
        | Kind::InterfaceAttachment
        | Kind::RouteTable
        | Kind::InternetGateway
        | Kind::NetworkAcl
        | Kind::DhcpOptions
        | Kind::Address
        | Kind::Operation => Ok(Vec::new()),
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
