//! A host: what it has, what is claimed of it, when it was last heard.
#![allow(missing_docs)] // the columns are explained in the migrations

use sea_orm::entity::prelude::*;

use super::columns::{Amount, Flag, Ipv4};

#[derive(Clone, Debug, Default, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "hosts")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    pub availability_zone: String,
    // The host's own word, and a text: its worker may be of a program that has a driver which this one has not, and a
    // host that can't be read is one that nothing is placed on and that no command shows. It is compared with what an
    // image wants, and shown; nobody needs to know them all.
    pub hypervisor: String,
    pub enabled: Flag,
    pub vcpus: Amount,
    pub memory_mib: Amount,
    pub disk_gib: Amount,
    pub vcpus_max: Amount,
    pub memory_mib_max: Amount,
    pub disk_gib_max: Amount,
    // Sums that are counted along: where one is wrong, `cumulet audit` tells, and the row is good all the same.
    pub vcpus_used: i64,
    pub memory_mib_used: i64,
    pub disk_gib_used: i64,
    pub last_seen: i64,
    pub created_at: i64,
    pub tunnel_address: Option<Ipv4>,
    pub disabled_reason: Option<String>,
    pub draining: Option<Flag>,
    // The host's own word likewise, and no closed set: a machine is what it is, and libvirt has names for more of them
    // than there are images for (`image::Architecture`). One that no image is for gets none.
    pub architecture: Option<String>,
    pub capabilities: Option<String>,
    pub metrics: Option<String>,
    pub maintenance_start: Option<i64>,
    pub maintenance_end: Option<i64>,
    pub maintenance_reason: Option<String>,
    pub console_address: Option<String>,
    pub not_ready_reason: Option<String>,
    pub not_ready_cure: Option<String>,
    #[sea_orm(unique)]
    pub confirmed_tunnel: Option<Ipv4>,
    pub confirmed_console: Option<String>,
    pub problems: Option<String>,
    pub disk_key: Option<String>,
    // What it is to the cloud is decided when it is told: a pool that is not the cloud's is not written.
    pub rbd: Option<String>,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
