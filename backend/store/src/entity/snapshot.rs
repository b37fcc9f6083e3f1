//! A snapshot of a volume.
#![allow(missing_docs)] // the columns are explained in the migrations

use cumulet_domain::{
    id::marker::{Snapshot, Volume},
    snapshot::SnapshotState,
};
use sea_orm::{Condition, QuerySelect as _, QueryTrait as _, entity::prelude::*};

use super::{
    columns::{Amount, Count, Flag, Key, Named, Owner, Small},
    secret_text::SecretText,
};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "snapshots")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Key<Snapshot>,
    pub account: Owner,
    pub volume: Key<Volume>,
    pub size_gib: Count,
    pub state: Named<SnapshotState>,
    pub state_message: Option<String>,
    pub description: String,
    pub encrypted: Flag,
    pub public: Flag,
    pub manifest: Option<String>,
    pub base: Option<String>,
    pub bytes: Option<Amount>,
    pub host: Option<String>,
    pub created_at: i64,
    pub completed_at: Option<i64>,
    pub deleted_at: Option<i64>,
    pub data_key: Option<SecretText>,
    pub progress: Option<Small>,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

// One that was deleted is out of sight at once; its row stays for volumes that are yet to be made of it.
crate::resource::resource!(Snapshot, |to| restorable(to).add(Column::DeletedAt.is_null()));

/// Those that an account may make volumes of: its own, those that it was given, and where that is asked for those that
/// everybody was.
fn restorable(to: crate::authority::Visibility) -> Condition {
    use super::snapshot_permission as given;

    let account = to.account.to_db();
    let own = Condition::any().add(Column::Account.eq(account));
    let any = match to.public {
        true => {
            let theirs = given::Entity::find()
                .select_only()
                .column(given::Column::Snapshot)
                .filter(given::Column::Account.eq(account));
            own.add(Column::Public.eq(1))
                .add(Column::Id.in_subquery(theirs.into_query()))
        }
        false => own,
    };
    Condition::all().add(any)
}
