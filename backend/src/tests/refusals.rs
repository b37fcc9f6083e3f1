//! Refused calls in the audit log.

use std::time::Duration;

use cumulet_core::audit_log::{AuditLogEntry, list, *};
use cumulet_store::{entity::audit_event, failed};
use sea_orm::EntityTrait;

use crate::test_support::{Rig, cloud};

async fn refuse(rig: &Rig, key: &str, outcome: &str, detail: &str) {
    let entry = AuditLogEntry {
        outcome: outcome.into(),
        detail: Some(detail.into()),
        ..crate::test_support::audit_log_entry(rig.who.account)
    };
    refused(&rig.cloud, key, entry).await.unwrap();
}

/// Outcomes with their counts, the oldest first.
async fn told(rig: &Rig) -> Vec<(String, i64)> {
    let rows = list(&rig.cloud.parts(), rig.who.account, 100).await.unwrap();
    let told = rows.into_iter().rev();
    told.map(|row| (row.outcome, 1 + i64::from(row.repeats.unwrap_or_default().0)))
        .collect()
}

#[tokio::test]
async fn what_is_refused_alike_within_a_minute_is_one_row() {
    let rig = cloud().await;
    for n in 0..50 {
        refuse(&rig, "a", "Full", &format!("reason {n}")).await;
    }
    rig.pass(Duration::from_secs(1));
    refuse(&rig, "b", "Full", "").await;
    rig.pass(Duration::from_secs(1));
    refuse(&rig, "a", "Other", "").await;
    refuse(&rig, "a", "Full", "").await;
    rig.pass(Duration::from_secs(58));
    refuse(&rig, "a", "Full", "").await;
    refuse(&rig, "b", "Full", "").await;
    let outcome = |name: &str, count| (name.to_owned(), count);
    assert_eq!(
        told(&rig).await,
        [
            outcome("Full", 51),
            outcome("Full", 2),
            outcome("Other", 1),
            outcome("Full", 1)
        ]
    );
}

#[tokio::test]
async fn one_call_too_many_is_written_once_a_minute() {
    let rig = cloud().await;
    for seconds in [0, 1, 58, 1, 1] {
        rig.pass(Duration::from_secs(seconds));
        let entry = crate::test_support::audit_log_entry(rig.who.account);
        throttled(&rig.cloud, "a", entry).await.unwrap();
    }
    assert_eq!(told(&rig).await, [("ok".to_owned(), 1), ("ok".to_owned(), 1)]);
}

#[tokio::test]
async fn details_are_cut_and_a_row_that_is_gone_is_written_anew() {
    let rig = cloud().await;
    refuse(&rig, "a", "Full", &"é".repeat(100_000)).await;
    let rows = list(&rig.cloud.parts(), rig.who.account, 1).await.unwrap();
    assert_eq!(rows[0].detail.as_ref().unwrap().chars().count(), 500);
    let delete = rig.cloud.store.write(|txn| {
        Box::pin(async move { audit_event::Entity::delete_many().exec(txn).await.map_err(failed) })
    });
    delete.await.unwrap();
    refuse(&rig, "a", "Full", "").await;
    assert_eq!(told(&rig).await, [("Full".to_owned(), 1)]);
}
