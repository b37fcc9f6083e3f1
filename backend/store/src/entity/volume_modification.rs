//! The last modification of a volume.
#![allow(missing_docs)] // the columns are explained in the migrations

use cumulet_domain::{
    id::marker::Volume,
    volume::{ModificationState, Provisioned, VolumeShape, VolumeType},
};
use sea_orm::entity::prelude::*;

use super::columns::{Amount, Count, Key, Named};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "volume_modifications")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub volume: Key<Volume>,
    pub state: Named<ModificationState>,
    pub status_message: Option<String>,
    pub original_size_gib: Count,
    pub target_size_gib: Count,
    pub original_type: Named<VolumeType>,
    pub target_type: Named<VolumeType>,
    pub original_iops: Option<Count>,
    pub target_iops: Option<Count>,
    pub original_throughput: Option<Count>,
    pub target_throughput: Option<Count>,
    pub progress: Count,
    pub started_at: i64,
    pub ended_at: Option<i64>,
    pub generation: Option<Amount>,
}

impl Model {
    /// What the volume was before.
    pub fn original(&self) -> VolumeShape {
        VolumeShape {
            size_gib: self.original_size_gib.0,
            kind: self.original_type.0,
            provisioned: Provisioned {
                iops: self.original_iops.map(|count| count.0),
                throughput: self.original_throughput.map(|count| count.0),
            },
        }
    }

    /// What it is to be.
    pub fn target(&self) -> VolumeShape {
        VolumeShape {
            size_gib: self.target_size_gib.0,
            kind: self.target_type.0,
            provisioned: Provisioned {
                iops: self.target_iops.map(|count| count.0),
                throughput: self.target_throughput.map(|count| count.0),
            },
        }
    }
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
