//! A volume.
#![allow(missing_docs)] // the columns are explained in the migrations

use cumulet_domain::{
    id::marker::{Image, Snapshot, Volume},
    image::DiskFormat,
    volume::{Provisioned, VolumeShape, VolumeState, VolumeStore, VolumeType},
};
use sea_orm::{ExprTrait as _, entity::prelude::*, sea_query::SimpleExpr};

use super::{
    columns::{Amount, Count, Flag, Key, Named, Owner},
    secret_text::SecretText,
};

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
    pub generation: Amount,
    pub created_at: i64,
    pub deleted_at: Option<i64>,
    pub made_at: Option<i64>,
    pub auto_enable_io: Option<Flag>,
    pub data_key: Option<SecretText>,
    pub source_volume: Option<Key<Volume>>,
    pub format: Option<Named<DiskFormat>>,
    pub store: Option<Named<VolumeStore>>,
}

/// The GiB of the largest volume that is a raw file: ext4 has none of 16 TiB.
const LARGEST_RAW: u32 = 16_383;

/// The format in which a host makes a volume's file: raw, which has no tables between a guest and its blocks, but where
/// it is encrypted (what a raw file has not would be deciphered to noise) or too large.
pub const fn made_as(encrypted: bool, size_gib: u32) -> DiskFormat {
    if encrypted || size_gib > LARGEST_RAW {
        DiskFormat::Qcow2
    } else {
        DiskFormat::Raw
    }
}

/// The same of every row of an update.
pub fn each_made_as() -> SimpleExpr {
    let raw = Column::Encrypted
        .eq(Flag(false))
        .and(Column::SizeGib.lte(Count(LARGEST_RAW)));
    let name = |format| Expr::value(Named(format));
    Expr::case(raw, name(DiskFormat::Raw))
        .finally(name(DiskFormat::Qcow2))
        .into()
}

/// A store as rows keep it: those of a host's files say nothing, as before there were others.
pub fn kept_as(store: VolumeStore) -> Option<Named<VolumeStore>> {
    (!store.is_local()).then_some(Named(store))
}

/// That a row is of a volume which only one host has.
pub fn is_local() -> SimpleExpr {
    let local = Column::Store.eq(Named(VolumeStore::Local));
    Column::Store.is_null().or(local)
}

/// That it is of one in a store which hosts share.
pub fn is_shared() -> SimpleExpr {
    Column::Store.eq(Named(VolumeStore::Rbd))
}

impl Model {
    /// The format of its file on the host that it is bound to, or of that which a host is going to make: an instance is
    /// specified with its volumes before it comes to a host with them.
    pub fn format(&self) -> DiskFormat {
        let of_before = || match self.snapshot.is_some() && self.image.is_none() && !self.encrypted.0 {
            true => DiskFormat::Raw,
            false => DiskFormat::Qcow2,
        };
        match (&self.host, &self.format) {
            (None, _) => made_as(self.encrypted.0, self.size_gib.0),
            (Some(_), Some(Named(format))) => *format,
            (Some(_), None) => of_before(),
        }
    }

    /// Where its data is, or is going to be.
    pub fn store(&self) -> VolumeStore {
        self.store.map_or(VolumeStore::Local, |Named(store)| store)
    }

    /// Whether several hosts reach its data: then its host is the one that looks after it, and gives none of its disk.
    pub fn is_shared(&self) -> bool {
        !self.store().is_local()
    }

    /// What of it can be modified.
    pub fn shape(&self) -> VolumeShape {
        VolumeShape {
            size_gib: self.size_gib.0,
            kind: self.volume_type.0,
            provisioned: Provisioned {
                iops: self.iops.map(|count| count.0),
                throughput: self.throughput.map(|count| count.0),
            },
        }
    }
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
