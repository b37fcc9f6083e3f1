//! An instance. `vpc` and `subnet` are facts of its launch: they are written for programs of before, which go by them and
//! may run beside this one. Nothing here does: an instance's network is that of its interfaces (`store::interfaces`).
#![allow(missing_docs)] // the columns are explained in the migrations

use cumulet_domain::{
    id::marker::{Image, Instance, PlacementGroup, Reservation, Subnet, Vpc},
    instance::{Intent, ShutdownBehavior, State},
};
use sea_orm::entity::prelude::*;

use super::columns::{Amount, Count, Flag, Key, Named, Owner, Small};

use super::secret_text::SecretText;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "instances")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Key<Instance>,
    pub account: Owner,
    pub reservation: Key<Reservation>,
    pub launch_index: Count,
    pub image: Key<Image>,
    pub instance_type: String,
    pub vcpus: Count,
    pub memory_mib: Amount,
    pub disk_gib: Count,
    pub state: Named<State>,
    pub intent: Named<Intent>,
    pub generation: Amount,
    pub metadata_revision: Amount,
    pub host: Option<String>,
    pub claimed: Flag,
    pub vpc: Key<Vpc>,
    pub subnet: Key<Subnet>,
    pub availability_zone: String,
    pub key_name: Option<String>,
    pub public_key: Option<String>,
    pub user_data: Option<SecretText>,
    pub shutdown_behavior: Named<ShutdownBehavior>,
    pub disable_api_termination: Flag,
    pub disable_api_stop: Flag,
    pub http_enabled: Flag,
    pub http_tokens_required: Flag,
    pub http_hop_limit: Small,
    pub http_tags: Flag,
    pub client_token: Option<String>,
    pub reason_code: Option<String>,
    pub reason_message: Option<String>,
    pub transition_reason: Option<String>,
    pub launched_at: i64,
    pub created_at: i64,
    pub running_since: Option<i64>,
    pub terminated_at: Option<i64>,
    pub placement_group: Option<Key<PlacementGroup>>,
    pub partition_number: Option<Count>,
    pub sealed_user_data: Option<SecretText>,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

// Those that have ended are in sight for a while.
crate::resource::resource!(Instance, |to| crate::resource::lasting::<Entity>(
    to,
    Column::TerminatedAt
));
