//! A disk that instances of an image start with: the root's, where the image is made of a snapshot, or one beside it.
#![allow(missing_docs)] // the columns are explained in the migrations

use cumulet_domain::{
    id::marker::{Image, Snapshot},
    volume::VolumeType,
};
use sea_orm::entity::prelude::*;

use super::columns::{Count, Device, Flag, Key, Named};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "image_mappings")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub image: Key<Image>,
    #[sea_orm(primary_key, auto_increment = false)]
    pub device: Device,
    pub snapshot: Option<Key<Snapshot>>,
    pub size_gib: Option<Count>,
    pub volume_type: Named<VolumeType>,
    pub iops: Option<Count>,
    pub throughput: Option<Count>,
    pub delete_on_termination: Flag,
    pub encrypted: Option<Flag>,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
