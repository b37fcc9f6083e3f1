//! A volume.
#![allow(missing_docs)] // the columns are explained in the migrations

use cumulet_domain::{
    id::marker::{Image, Snapshot, Volume},
    volume::{VolumeState, VolumeType},
};
use sea_orm::entity::prelude::*;

use super::columns::{Count, Flag, Key, Named, Owner};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "volumes")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Key<Volume>,
    pub account: Owner,
    pub availability_zone: String,
    pub size_gib: Count,
    pub volume_type: Named<VolumeType>,
    pub state: Named<VolumeState>,
    pub state_message: Option<String>,
    pub image: Option<Key<Image>>,
    pub snapshot: Option<Key<Snapshot>>,
    pub encrypted: Flag,
    pub iops: Option<Count>,
    pub throughput: Option<Count>,
    pub host: Option<String>,
    pub generation: i64,
    pub created_at: i64,
    pub deleted_at: Option<i64>,
    pub made_at: Option<i64>,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

// Those that have ended with an instance are in sight as long as it is, for their tags. Calls about volumes go by
// `Grant::present`.
crate::resource::resource!(Volume, |to| crate::resource::lasting::<Entity>(
    to,
    Column::DeletedAt
));
