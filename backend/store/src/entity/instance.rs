//! An instance.
#![allow(missing_docs)] // the columns are explained in the migrations

use sea_orm::entity::prelude::*;

use super::secret_text::SecretText;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "instances")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i64,
    pub account: i64,
    pub reservation: i64,
    pub launch_index: i64,
    pub image: i64,
    pub instance_type: String,
    pub vcpus: i64,
    pub memory_mib: i64,
    pub disk_gib: i64,
    pub state: String,
    pub intent: String,
    pub generation: i64,
    pub metadata_revision: i64,
    pub host: Option<String>,
    pub claimed: i64,
    pub vpc: i64,
    pub subnet: i64,
    pub availability_zone: String,
    pub key_name: Option<String>,
    pub public_key: Option<String>,
    pub user_data: Option<SecretText>,
    pub shutdown_behavior: String,
    pub disable_api_termination: i64,
    pub disable_api_stop: i64,
    pub http_enabled: i64,
    pub http_tokens_required: i64,
    pub http_hop_limit: i64,
    pub http_tags: i64,
    pub client_token: Option<String>,
    pub reason_code: Option<String>,
    pub reason_message: Option<String>,
    pub transition_reason: Option<String>,
    pub launched_at: i64,
    pub created_at: i64,
    pub running_since: Option<i64>,
    pub terminated_at: Option<i64>,
    pub placement_group: Option<i64>,
    pub partition_number: Option<i64>,
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
