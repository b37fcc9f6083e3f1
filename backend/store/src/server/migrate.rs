//! Migrations on a server. Many processes may start at once: one at a time migrates, under a lock of the
//! server's that ends with its connection. PostgreSQL does all of it in one transaction. MariaDB commits with
//! every change of the schema, so each change is one that finds out by itself whether it has been made.

use std::{sync::Arc, time::Duration};

use cumulet_domain::{Error, Result};
use cumulet_migrations::{Migrator, MigratorTrait};
use sea_orm::{DatabaseConnection, DbBackend, DbErr};

use super::{
    fault::Failure,
    proxy,
    session::{Handle, Mode, Session},
    wire::Pool,
};
use crate::{Location, failed, newer};

/// The lock's number: "cumulet" in letters' places.
const LOCK: i64 = 0x0063_756d_756c_6574;

/// How long one process waits for another's migrations.
const PATIENCE: u32 = 120;

/// How long a statement may take here.
const LIMIT: Duration = Duration::from_mins(30);

/// Does all migrations that are pending.
///
/// # Errors
/// When the server is away, or its schema is newer than this program.
pub(crate) async fn migrate(location: &Location) -> Result<()> {
    up(location, None).await
}

/// Does so many of the migrations that are pending, or all.
pub(crate) async fn up(location: &Location, steps: Option<u32>) -> Result<()> {
    let (session, conn, backend) = open(location).await?;
    let told = |failure: Failure| failed(failure.told());
    lock(&session, backend).await.map_err(told)?;
    let done = Migrator::up(&conn, steps).await.map_err(newer);
    let unlock = match (backend, &done) {
        (DbBackend::MySql, _) => format!("DO RELEASE_LOCK(CONCAT('cumulet:', {DATABASE}))"),
        (_, Ok(())) => "COMMIT".into(),
        (_, Err(_)) => "ROLLBACK".into(),
    };
    let ended = session.simple(&unlock).await.map_err(told);
    done?;
    ended.map(drop)
}

/// The name of a lock has 64 characters at the most, as has the name of a database.
const DATABASE: &str = "LEFT(SHA1(DATABASE()), 40)";

async fn lock(session: &Session, backend: DbBackend) -> Result<(), Failure> {
    if backend != DbBackend::MySql {
        let sql = format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = '{PATIENCE}s'; \
             SELECT pg_advisory_xact_lock({LOCK})::text"
        );
        return session.simple(&sql).await.map(drop);
    }
    let sql = format!("SELECT CAST(GET_LOCK(CONCAT('cumulet:', {DATABASE}), {PATIENCE}) AS CHAR)");
    match session.simple(&sql).await?.as_deref() {
        Some("1") => Ok(()),
        _ => Err(Failure::lost("another process's migrations do not end")),
    }
}

/// The migrations, oldest first, and whether each has been applied.
///
/// # Errors
/// Those of [`migrate`].
pub(crate) async fn schema(location: &Location) -> Result<Vec<(String, bool)>> {
    let (_session, conn, _) = open(location).await?;
    listed(&conn).await.map_err(newer)
}

/// The migrations of a database, oldest first, and whether each has been applied.
pub(crate) async fn listed(conn: &DatabaseConnection) -> Result<Vec<(String, bool)>, DbErr> {
    let all = Migrator::get_migration_with_status(conn).await?;
    let named = all.iter().map(|migration| {
        let applied = migration.status() == cumulet_migrations::MigrationStatus::Applied;
        (migration.name().to_owned(), applied)
    });
    Ok(named.collect())
}

async fn open(location: &Location) -> Result<(Arc<Session>, DatabaseConnection, DbBackend)> {
    let pool = Pool::new(location, 1).ok_or_else(|| Error::Internal("a file is no server".into()))?;
    let conn = pool.acquire().await.map_err(|failure| failed(failure.told()))?;
    let conn = conn.patient(LIMIT);
    let backend = pool.backend();
    // What sea-orm begins is a savepoint of the one transaction, or nothing where there can be none.
    let mode = if backend == DbBackend::MySql {
        Mode::None
    } else {
        Mode::Nested
    };
    let session = Session::new(conn, mode);
    let conn = proxy(backend, Handle(session.clone())).await?;
    Ok((session, conn, backend))
}
