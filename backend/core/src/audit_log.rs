//! The audit log: a row for every call that changes something, whether accepted or refused. Those that are
//! refused alike share one ([`refused`]).

use std::sync::{Mutex, MutexGuard, PoisonError};

use cumulet_domain::{Result, account::AccountId, rng::SharedRng, time::Timestamp};
use cumulet_store::{
    Invalidates, Participant,
    entity::{audit_event, columns::Owner},
    failed,
    fixed::Fixed,
    rows,
};
use futures::future::BoxFuture;
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    QueryTrait,
};

use crate::{Parts, RequestContext, boxed};

/// Bits of an entry's id that tell entries of one millisecond apart: two processes that share a database
/// pick the same ones for two entries of one millisecond once in two million times.
const LOW_BITS: u32 = 21;

/// Characters of an entry's detail at the most.
const MAX_DETAIL: usize = 500;

/// Ids in one entry at the most.
const MAX_IDS: usize = 20;

/// Ids that are remembered while a call runs.
const MAX_MADE: usize = 100;

/// One call.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct AuditLogEntry {
    pub account: AccountId,
    pub user_name: String,
    /// For instance `RunInstances`.
    pub action: String,
    /// What it was about, as printed, with commas between.
    pub resource: Option<String>,
    /// `ok` or the door's error code.
    pub outcome: String,
    pub request_id: String,
    pub detail: Option<String>,
}

impl AuditLogEntry {
    pub(crate) fn row(self, rng: &SharedRng, now: Timestamp) -> audit_event::Model {
        let cut = |text: String| -> String { text.chars().take(255).collect() };
        audit_event::Model {
            id: in_time_order(rng, now),
            at: now.0,
            account: Owner(self.account),
            user_name: cut(self.user_name),
            action: cut(self.action),
            resource: self.resource.map(cut),
            outcome: cut(self.outcome),
            request_id: cut(self.request_id),
            detail: self.detail.map(|text| text.chars().take(MAX_DETAIL).collect()),
            repeats: None,
        }
    }
}

/// An id that is above those of earlier entries, so that a new one goes to the end of the table's index:
/// the milliseconds, then a number that goes up by one within this process, whose start is random.
fn in_time_order(rng: &SharedRng, now: Timestamp) -> i64 {
    let low = rng.serial() & ((1 << LOW_BITS) - 1);
    // A millisecond has 42 bits until the year 2109.
    (now.0 << LOW_BITS) | low.cast_signed()
}

pub use super::refusals::{refused, throttled};

/// Writes an entry in a transaction of its own.
///
/// # Errors
/// Those of the database.
#[boxed]
pub async fn record(cx: &RequestContext, entry: AuditLogEntry) -> Result<()> {
    let row = entry.row(&cx.rng, cx.now());
    let write = cx.store.write_with(Invalidates::Nothing, move |txn| {
        Box::pin(async move { insert(txn, row).await })
    });
    write.await
}

pub(crate) async fn insert(txn: &DatabaseTransaction, row: audit_event::Model) -> Result<()> {
    static INSERT: Fixed = Fixed::new();
    let values = vec![
        row.id.into(),
        row.at.into(),
        row.account.into(),
        row.user_name.as_str().into(),
        row.action.as_str().into(),
        row.resource.as_deref().into(),
        row.outcome.as_str().into(),
        row.request_id.as_str().into(),
        row.detail.as_deref().into(),
        row.repeats.into(),
    ];
    let insert = INSERT.with(txn.get_database_backend(), values, || {
        audit_event::Entity::insert(audit_event::ActiveModel::from(row.clone())).into_query()
    });
    txn.execute_raw(insert).await.map(drop).map_err(failed)
}

/// The entry of a call that succeeds, on its way into the call's own transaction: a change and its entry
/// are kept together or not at all, and share one commit.
#[derive(Debug)]
pub struct Note {
    rng: SharedRng,
    now: Timestamp,
    request_id: String,
    state: Mutex<NoteState>,
}

#[derive(Debug)]
struct NoteState {
    /// What is still to be written.
    entry: Option<AuditLogEntry>,
    made: Vec<String>,
    /// The entry once more, should its transaction be undone and run again.
    spare: Option<AuditLogEntry>,
}

impl Note {
    /// A note of an entry that says how the call ends if it ends well.
    pub fn new(cx: &RequestContext, entry: AuditLogEntry) -> Self {
        let request_id = entry.request_id.clone();
        Note {
            rng: cx.rng.clone(),
            now: cx.now(),
            request_id,
            state: Mutex::new(NoteState {
                entry: Some(entry),
                made: Vec::new(),
                spare: None,
            }),
        }
    }

    /// The call's request id.
    pub fn request_id(&self) -> &str {
        &self.request_id
    }

    fn state(&self) -> MutexGuard<'_, NoteState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers what the call makes or changes without having named it.
    pub(super) fn made(&self, id: &dyn ToString) {
        let made = &mut self.state().made;
        if made.len() < MAX_MADE {
            made.push(id.to_string());
        }
    }

    /// What is still to be written, if the call has changed nothing or has failed.
    pub fn left(&self) -> Option<AuditLogEntry> {
        let mut state = self.state();
        let made = std::mem::take(&mut state.made);
        state.entry.take().map(|entry| with(entry, made))
    }
}

impl Participant for Note {
    fn write<'t>(&'t self, txn: &'t DatabaseTransaction) -> BoxFuture<'t, Result<()>> {
        // A call's second transaction, if there is one, needs no second entry.
        let row = self.left().map(|entry| entry.row(&self.rng, self.now));
        Box::pin(async move {
            match row {
                Some(row) => insert(txn, row).await,
                None => Ok(()),
            }
        })
    }

    fn begun(&self) {
        let mut state = self.state();
        state.spare = state.entry.clone();
    }

    fn undone(&self) {
        let mut state = self.state();
        state.made.clear();
        if state.spare.is_some() {
            state.entry = state.spare.take();
        }
    }
}

/// The ids that the call made, then those that it named.
fn with(mut entry: AuditLogEntry, mut ids: Vec<String>) -> AuditLogEntry {
    let named = entry.resource.iter().flat_map(|named| named.split(','));
    for id in named {
        if !ids.iter().any(|known| known == id) {
            ids.push(id.to_owned());
        }
    }
    ids.truncate(MAX_IDS);
    entry.resource = (!ids.is_empty()).then(|| ids.join(","));
    entry
}

/// The newest entries of an account, the newest first. For the operator.
///
/// # Errors
/// Those of the database.
#[boxed]
pub async fn list(parts: &Parts, account: AccountId, limit: u64) -> Result<Vec<audit_event::Model>> {
    let query = audit_event::Entity::find()
        .filter(audit_event::Column::Account.eq(account.to_db()))
        .order_by_desc(audit_event::Column::At)
        .order_by_desc(audit_event::Column::Id)
        .limit(limit);
    rows::all(query, parts.store.read()).await
}
