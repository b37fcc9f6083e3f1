//! An operation of the journal.
#![allow(missing_docs)] // the columns are explained in the migrations

use cumulet_domain::{id::marker::Operation, named};
use sea_orm::entity::prelude::*;

use super::columns::{Amount, Count, Key, Named, Owner};

named! {
    /// Whether an operation is under way, and how it ended.
    OperationStatus {
        Active = "active",
        Done = "done",
        Failed = "failed",
        Superseded = "superseded",
    }
}

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "operations")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Key<Operation>,
    // A text, as the step is: what a newer program has begun is left to that (`Registry::find`), and holds up no other.
    pub kind: String,
    pub account: Owner,
    pub instance: i64,
    pub active_instance: Option<i64>,
    pub generation: Amount,
    pub status: Named<OperationStatus>,
    // One of its kind's own list (`Operation::STEPS`), which a newer program may have made longer.
    pub step: String,
    pub state: String,
    pub attempts: Count,
    pub next_at: i64,
    pub deadline: i64,
    pub lease_owner: Option<String>,
    pub lease_until: i64,
    pub error: Option<String>,
    pub created_at: i64,
    pub finished_at: Option<i64>,
    pub subject_kind: Option<String>,
    pub subject: Option<i64>,
    pub held: Option<i64>,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Model {
    /// What it works on: the kind of the resource (`ResourceKind::resource_type`) and its number. A program of
    /// before knows instances alone, and writes no more than that.
    #[inline]
    pub fn subject(&self) -> (&str, i64) {
        match (&self.subject_kind, self.subject) {
            (Some(kind), Some(resource)) => (kind, resource),
            _ => ("instance", self.instance),
        }
    }
}
