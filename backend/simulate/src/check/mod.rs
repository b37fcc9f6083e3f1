//! The invariants over a cloud at rest: rows against each other, rows against hosts, and both against what
//! clients were told.

mod hosts;
mod rows;

use std::sync::Arc;

use cumulet_backend::store::{Store, failed};
use cumulet_domain::{Result, instance::State};
use sea_orm::{ConnectionTrait, DbBackend, Statement};

use crate::{client::Ledger, host::Host, outcome::Invariant};
pub(crate) use rows::Rows;

/// What does not hold, in words.
pub(crate) type Findings = Vec<(Invariant, String)>;

/// Whether nothing is on its way, by a look at few rows: enough to see if a closer look is worth it.
pub(crate) async fn is_quiet(store: &Store) -> Result<bool> {
    let sql = "SELECT
        (SELECT count(*) FROM operations WHERE status = 'active')
        + (SELECT count(*) FROM metadata_pushes)
        + (SELECT count(*) FROM host_networks h JOIN vpcs v ON v.id = h.vpc
            WHERE h.applied_generation < v.policy_generation) AS busy";
    let row = store
        .read()
        .query_one_raw(Statement::from_string(DbBackend::Sqlite, sql))
        .await
        .map_err(failed)?;
    let busy: i64 = match row {
        Some(row) => row.try_get("", "busy").map_err(failed)?,
        None => 0,
    };
    Ok(busy == 0)
}

/// Everything that does not hold now.
pub(crate) async fn all(
    store: &Store,
    hosts: &[Arc<Host>],
    ledger: &Ledger,
    only_slow: bool,
) -> Result<Findings> {
    let rows = Rows::load(store).await?;
    let mut findings = rows.findings();
    if only_slow {
        findings.extend(rows.given_up());
    }
    findings.extend(hosts::findings(&rows, hosts));
    findings.extend(promises(&rows, ledger));
    Ok(findings)
}

/// What clients were told against rows: I4 and I5.
fn promises(rows: &Rows, ledger: &Ledger) -> Findings {
    let told = ledger.told();
    let mut findings = Findings::new();
    for id in &told.launched {
        if !rows.instances.contains_key(id) {
            findings.push((
                Invariant::I5,
                format!("{id} was answered, and there is no such row"),
            ));
        }
    }
    for id in &told.ended {
        let state = rows.instances.get(id).map(|row| row.state.0);
        if state.is_some_and(|state| state != State::Terminated) {
            findings.push((
                Invariant::I2,
                format!("the end of {id} was answered for, and it is {state:?}"),
            ));
        }
    }
    for ((account, token), made) in &rows.tokens {
        if made.len() > 1 {
            findings.push((
                Invariant::I4,
                format!(
                    "token {token} of account {account} made {} reservations",
                    made.len()
                ),
            ));
        }
    }
    findings
}
