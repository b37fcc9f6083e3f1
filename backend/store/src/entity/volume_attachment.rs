//! The attachment of a volume to an instance, as one of its disks.
#![allow(missing_docs)] // the columns are explained in the migrations

use cumulet_domain::{
    id::marker::{Instance, Volume},
    volume::AttachmentState,
};
use sea_orm::entity::prelude::*;

use super::columns::{Amount, Count, Device, Flag, Key, Named};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "volume_attachments")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub instance: Key<Instance>,
    #[sea_orm(primary_key, auto_increment = false)]
    pub device: Device,
    pub volume: Key<Volume>,
    pub boot_index: Option<Count>,
    pub state: Named<AttachmentState>,
    pub delete_on_termination: Flag,
    pub attached_at: i64,
    pub generation: Option<Amount>,
}

impl Model {
    /// The disk that the instance starts from.
    #[inline]
    pub fn is_root(&self) -> bool {
        self.boot_index == Some(Count(0))
    }
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
