//! The declaration of a resource beside its entity, and the list of declared kinds as functions, for what goes over
//! resources of any kind.

use cumulet_domain::{
    ResourceKind,
    account::AccountId,
    id::{self, Id},
};
use sea_orm::{
    ColumnTrait, Condition, EntityTrait,
    sea_query::{ColumnRef, IntoColumnRef as _, Order, Query, SelectStatement},
};

use crate::authority::Visibility;

/// An entity that is a resource of an account: [`resource!`] declares it, beside its columns.
pub trait Resource: EntityTrait<Model: Sync> {
    /// Marks its ids, and says its kind.
    type Marker: id::Resource;

    /// The column of its id.
    const ID: Self::Column;

    /// The column of the account that owns it.
    const ACCOUNT: Self::Column;

    /// Its kind.
    const KIND: ResourceKind = <Self::Marker as id::Resource>::KIND;

    /// The id of a row.
    fn id(row: &Self::Model) -> Id<Self::Marker>;

    /// The account that owns a row.
    fn owner(row: &Self::Model) -> AccountId;

    /// The rows that an account sees: its own.
    fn visible(to: Visibility) -> Condition {
        owned::<Self>(to)
    }
}

/// A resource whose name is its account's alone.
pub trait Named: Resource {
    /// The column of its name.
    const NAME: Self::Column;

    /// The name of a row.
    fn name(row: &Self::Model) -> &str;
}

/// Declares the entity of its module: the kind, and what of it is in
/// sight where that is not all that the account owns.
macro_rules! resource {
    ($kind:ident $(, |$to:ident| $visible:expr)?) => {
        impl $crate::resource::Resource for Entity {
            type Marker = cumulet_domain::id::marker::$kind;

            const ID: Column = Column::Id;
            const ACCOUNT: Column = Column::Account;

            fn id(row: &Model) -> cumulet_domain::id::Id<Self::Marker> {
                row.id.0
            }

            fn owner(row: &Model) -> cumulet_domain::account::AccountId {
                row.account.0
            }

            $(fn visible($to: $crate::authority::Visibility) -> sea_orm::Condition {
                $visible
            })?
        }
    };
}
pub(crate) use resource;

/// Declares that names of the entity of its module are the account's.
macro_rules! named {
    () => {
        impl $crate::resource::Named for Entity {
            const NAME: Column = Column::Name;

            fn name(row: &Model) -> &str {
                &row.name
            }
        }
    };
}
pub(crate) use named;

/// The rows that an account owns.
pub fn owned<E: Resource>(to: Visibility) -> Condition {
    Condition::all().add(E::ACCOUNT.eq(to.account.to_db()))
}

/// Those of them that have not ended, or not so long ago that they are out of sight.
pub fn lasting<E: Resource>(to: Visibility, ended: E::Column) -> Condition {
    let there = Condition::any()
        .add(ended.is_null())
        .add(ended.gt(to.ended_after.0));
    owned::<E>(to).add(there)
}

/// A declared kind, for what goes over resources of any kind (tags): the list of them is `entity::RESOURCES`.
#[derive(Clone, Copy, Debug)]
pub struct Declared {
    /// The kind.
    pub kind: ResourceKind,
    id: fn() -> ColumnRef,
    select: fn(Visibility, &[i64]) -> SelectStatement,
}

impl Declared {
    /// The declaration of an entity.
    pub const fn of<E: Resource>() -> Declared {
        Declared {
            kind: E::KIND,
            id: || E::ID.as_column_ref().into_column_ref(),
            select: selected::<E>,
        }
    }

    /// The column of its id.
    pub fn id(&self) -> ColumnRef {
        (self.id)()
    }

    /// Selects the ids of those rows of the ids that are in sight, in their order.
    pub fn select(&self, to: Visibility, ids: &[i64]) -> SelectStatement {
        (self.select)(to, ids)
    }
}

fn selected<E: Resource>(to: Visibility, ids: &[i64]) -> SelectStatement {
    let (table, id) = (E::default(), E::ID);
    let which = Condition::all()
        .add(id.is_in(ids.iter().copied()))
        .add(E::visible(to));
    let mut select = Query::select();
    select.column((table, id)).from(table).cond_where(which);
    if ids.len() > 1 {
        select.order_by((table, id), Order::Asc);
    }
    select
}
