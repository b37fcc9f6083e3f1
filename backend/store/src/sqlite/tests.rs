//! Savepoints, kinds of values and errors.

use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ConnectionTrait as _, EntityTrait as _, TransactionTrait as _,
};

use crate::{Options, Store, connect, entity::setting, failed};

use super::*;

async fn store(dir: &tempfile::TempDir) -> Store {
    connect(&Options::file(dir.path().join("test.db"), 1))
        .await
        .unwrap()
}

fn row(name: &str) -> setting::ActiveModel {
    setting::ActiveModel {
        name: Set(name.into()),
        value: Set("v\u{0}'\u{1F600}".into()),
    }
}

#[tokio::test]
async fn savepoints_in_one_another_end_each_on_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir).await;
    let work = store.write(|txn| {
        Box::pin(async move {
            let kept = txn.begin().await.map_err(failed)?;
            row("kept").insert(&kept).await.map_err(failed)?;
            let dropped = kept.begin().await.map_err(failed)?;
            row("dropped").insert(&dropped).await.map_err(failed)?;
            drop(dropped);
            let undone = kept.begin().await.map_err(failed)?;
            row("undone").insert(&undone).await.map_err(failed)?;
            undone.rollback().await.map_err(failed)?;
            kept.commit().await.map_err(failed)
        })
    });
    work.await.unwrap();
    let rows = setting::Entity::find().all(store.read()).await.unwrap();
    let names: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names, ["kept"]);
    assert_eq!(rows[0].value.expose(), "v\u{0}'\u{1F600}");
}

#[tokio::test]
async fn a_taken_key_is_told_from_other_errors() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir).await;
    let work = store.write(|txn| {
        Box::pin(async move {
            row("n").insert(txn).await.map_err(failed)?;
            let taken = row("n").insert(txn).await.unwrap_err();
            let wrong = txn.execute_unprepared("insert into nowhere values (1)").await;
            Ok((crate::is_taken(&taken), crate::is_taken(&wrong.unwrap_err())))
        })
    });
    assert_eq!(work.await.unwrap(), (true, false));
}

#[tokio::test]
async fn readers_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir).await;
    assert!(row("n").insert(store.read()).await.is_err());
}

#[tokio::test]
async fn a_transaction_that_the_database_ended_is_not_taken_for_done() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir).await;
    let ended = store.write(|txn| {
        Box::pin(async move {
            // As SQLite does by itself when the disk is full.
            txn.execute_unprepared("ROLLBACK").await.map_err(failed)?;
            Ok(())
        })
    });
    assert!(matches!(ended.await, Err(Error::Unavailable(_))));
    let after = store.write(|txn| Box::pin(async move { row("n").insert(txn).await.map_err(failed) }));
    assert_eq!(after.await.unwrap().name, "n");
}

#[test]
fn values_keep_their_kinds() {
    let dir = tempfile::tempdir().unwrap();
    let connection = open(&dir.path().join("test.db"), false).unwrap();
    let ask = |sql: &str, values: Vec<Value>| {
        let statement = Statement::from_sql_and_values(sea_orm::DbBackend::Sqlite, sql, values);
        query(&connection, &statement).map(|mut rows| rows.remove(0).values)
    };
    for (value, expected) in [
        (Value::from(i64::MIN), Value::from(i64::MIN)),
        (Value::from(7_i32), Value::from(7_i64)),
        (Value::from(true), Value::from(1_i64)),
        (Value::from("a"), Value::from("a")),
        (Value::String(None), Value::BigInt(None)),
    ] {
        let found = ask("select ? as x", vec![value.clone()]).unwrap();
        assert_eq!(found.get("x"), Some(&expected), "{value:?}");
    }
    assert!(ask("select 1.5 as x", vec![]).is_err());
    assert!(ask("select ? as x", vec![Value::from(1.5_f64)]).is_err());
    assert!(ask("select ? as x", vec![Value::from(u64::MAX)]).is_err());
}
