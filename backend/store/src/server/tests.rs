//! Faults of a server: what the program does about them. These run where `CUMULET_TEST_DATABASE` is set.

mod cut;

use cumulet_domain::{Error, Result};
use futures::future::join_all;
use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter, sea_query::Expr};

use super::{Server, commit, fault::Fault};
use crate::{Location, Options, Store, connect, entity::setting, failed, schema, scratch::Scratch, settings};

/// A database on a server, if there is one for tests.
async fn server() -> Option<(Scratch, Store)> {
    let database = Scratch::migrated().await;
    if !database.is_on_server() {
        return None;
    }
    let store = connect(&database.options(8)).await.unwrap();
    Some((database, store))
}

fn is_postgres(options: &Options) -> bool {
    matches!(options.location, Location::Postgres(_))
}

async fn put(store: &Store, name: String) -> Result<()> {
    let write = store.write(move |txn| {
        Box::pin(async move {
            let row = setting::ActiveModel {
                name: Set(name),
                value: Set("x".into()),
            };
            let insert = setting::Entity::insert(row).exec_without_returning(txn).await;
            insert.map(drop).map_err(failed)
        })
    });
    write.await
}

async fn rows(store: &Store) -> u64 {
    setting::Entity::find().count(store.read()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_processes_migrate_at_once_and_a_newer_schema_is_refused() {
    let database = Scratch::new().await;
    if !database.is_on_server() {
        return;
    }
    let options = database.options(2);
    let all = join_all((0..6).map(|_| connect(&options))).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    let listed = schema(&options).await.unwrap();
    assert!(!listed.is_empty() && listed.iter().all(|(_, applied)| *applied));
    database
        .administer("INSERT INTO seaql_migrations (version, applied_at) VALUES ('m9999_future', 0)")
        .await;
    let error = connect(&options).await.unwrap_err().to_string();
    assert!(
        error.contains("newer than this program") && error.contains("m9999_future"),
        "{error}"
    );
}

#[tokio::test]
async fn a_death_among_migrations_is_made_good() {
    let Some((database, store)) = server().await else {
        return;
    };
    drop(store);
    // As on MariaDB after a death between a migration's changes and its note.
    if !is_postgres(&database.options(1)) {
        database
            .administer("DELETE FROM seaql_migrations WHERE version >= 'm0004'; DROP INDEX operations__finished_at ON operations")
            .await;
    }
    connect(&database.options(1)).await.unwrap();
    assert!(
        schema(&database.options(1))
            .await
            .unwrap()
            .iter()
            .all(|(_, applied)| *applied)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_on_a_tenth_of_all_transactions_are_not_seen() {
    let Some((database, store)) = server().await else {
        return;
    };
    // The server itself fails one insert of ten: PostgreSQL as unserialisable, MariaDB as a deadlock.
    database
        .administer(if is_postgres(&database.options(1)) {
            "CREATE FUNCTION unlucky() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             IF random() < 0.1 THEN RAISE EXCEPTION 'unlucky' USING ERRCODE = '40001'; END IF; \
             RETURN NEW; END $$; \
             CREATE TRIGGER unlucky BEFORE INSERT ON settings FOR EACH ROW EXECUTE FUNCTION unlucky()"
        } else {
            "CREATE TRIGGER unlucky BEFORE INSERT ON settings FOR EACH ROW \
             IF RAND() < 0.1 THEN SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1213; END IF"
        })
        .await;
    let all = join_all((0..300).map(|i| put(&store, format!("n{i}")))).await;
    assert!(
        all.iter().all(Result::is_ok),
        "{:?}",
        all.iter().find(|answer| answer.is_err())
    );
    assert_eq!(rows(&store).await, 300);
    let counters = store.counters();
    assert!(counters.retried > 5 && counters.gave_up == 0, "{counters:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_that_lock_each_other_out_all_get_through() {
    let Some((_database, store)) = server().await else {
        return;
    };
    for name in ["a", "b"] {
        put(&store, name.into()).await.unwrap();
    }
    let cross = |i: usize| {
        let names = if i.is_multiple_of(2) {
            ["a", "b"]
        } else {
            ["b", "a"]
        };
        store.write(move |txn| {
            Box::pin(async move {
                for name in names {
                    let update = setting::Entity::update_many()
                        .col_expr(setting::Column::Value, Expr::value(i.to_string()))
                        .filter(setting::Column::Name.eq(name));
                    update.exec(txn).await.map_err(failed)?;
                    tokio::task::yield_now().await;
                }
                Ok(())
            })
        })
    };
    // PostgreSQL looks for deadlocks after a second: not many, or they wait for a connection for too long.
    let all = join_all((0..6).map(cross)).await;
    assert!(all.iter().all(Result::is_ok), "{:?} {all:?}", store.counters());
}

#[tokio::test]
async fn a_failed_statement_that_is_passed_over_commits_nothing_on_postgresql() {
    let Some((database, store)) = server().await else {
        return;
    };
    put(&store, "there".into()).await.unwrap();
    let write = store.write(|txn| {
        Box::pin(async move {
            settings::put(txn, "new", "x").await?;
            let row = setting::ActiveModel {
                name: Set("there".into()),
                value: Set("x".into()),
            };
            drop(setting::Entity::insert(row).exec_without_returning(txn).await);
            Ok(())
        })
    });
    let done = write.await;
    // MariaDB undoes the one statement alone.
    assert_eq!(done.is_err(), is_postgres(&database.options(1)), "{done:?}");
    assert_eq!(rows(&store).await, if done.is_ok() { 2 } else { 1 });
}

#[tokio::test]
async fn a_server_that_is_away_is_told_in_time() {
    let location = Location::parse("postgres://nobody@127.0.0.1:9/none", "x".into()).unwrap();
    let asked = tokio::time::Instant::now();
    let error = connect(&Options { location, readers: 1 }).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable(_)), "{error}");
    assert!(asked.elapsed() < std::time::Duration::from_secs(6));
}

#[tokio::test]
async fn a_transaction_that_the_server_gives_up_is_told_as_one_to_run_again() {
    let Some((database, _store)) = server().await else {
        return;
    };
    let options = database.options(1);
    let (server, _reads) = Server::open(&options.location, 1).await.unwrap();
    let (session, _) = server.begin().await.unwrap();
    session.conflict(server.writes.backend()).await;
    assert_eq!(session.doom().await.map(|doom| doom.fault), Some(Fault::Again));
    commit::undo(&session).await;
}
