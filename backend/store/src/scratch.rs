//! Scratch databases for tests: a SQLite file in a directory of its own or, where `CUMULET_TEST_DATABASE` is
//! the URL of a server (with a user who may create databases), a database of its own there. It is gone when
//! the test ends.

mod template;

use std::{env, path::PathBuf, str::FromStr as _};

use sqlx::{
    AssertSqlSafe, Connection as _, Executor as _, MySqlConnection, PgConnection, Row as _,
    mysql::MySqlConnectOptions, postgres::PgConnectOptions,
};

use super::{Location, Options};

/// A database that lives as long as this.
#[derive(Debug)]
pub struct Scratch {
    location: Location,
    on_server: Option<(String, String)>,
    dir: tempfile::TempDir,
}

impl Scratch {
    /// An empty database.
    ///
    /// # Panics
    /// When there is none to be had.
    pub async fn new() -> Scratch {
        match server() {
            Some(server) => {
                let name = new_name();
                run(&server, format!("CREATE DATABASE {name}")).await.unwrap();
                Scratch::on(server, name)
            }
            None => Scratch::file(),
        }
    }

    /// A database with the newest schema, as the migrations leave an empty one. On a server it is a copy of one that
    /// they have made: they take seconds there, and each test has a database of its own. (In a file they take some tens
    /// of milliseconds, with all that a cloud begins with.)
    ///
    /// # Panics
    /// When there is none to be had.
    pub async fn migrated() -> Scratch {
        match server() {
            Some(server) => {
                let name = new_name();
                template::copy(&server, &name).await.unwrap();
                Scratch::on(server, name)
            }
            None => Scratch::file(),
        }
    }

    fn file() -> Scratch {
        let dir = tempfile::tempdir().unwrap();
        Scratch {
            location: Location::Sqlite(dir.path().join("cumulet.db")),
            on_server: None,
            dir,
        }
    }

    fn on(server: String, name: String) -> Scratch {
        Scratch {
            location: named(&server, &name),
            on_server: Some((server, name)),
            dir: tempfile::tempdir().unwrap(),
        }
    }

    /// How it is opened.
    pub fn options(&self, readers: u32) -> Options {
        Options {
            location: self.location.clone(),
            readers,
        }
    }

    /// Whether it is on a server.
    pub fn is_on_server(&self) -> bool {
        self.on_server.is_some()
    }

    /// A directory for whatever else the test keeps.
    pub fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// Ends all other sessions of this database.
    ///
    /// # Panics
    /// When this is a file, or the server is away.
    pub async fn end_sessions(&self) {
        let Location::MySql(options) = &self.location else {
            let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                       WHERE datname = current_database() AND pid <> pg_backend_pid()";
            return self.administer(sql).await;
        };
        let mut conn = MySqlConnection::connect_with(options).await.unwrap();
        let ask =
            "SELECT ID FROM information_schema.PROCESSLIST WHERE DB = DATABASE() AND ID <> CONNECTION_ID()";
        let rows = conn.fetch_all(sqlx::raw_sql(ask)).await.unwrap();
        for row in rows {
            let id: i64 = row.try_get_unchecked(0).unwrap();
            // One that has ended by itself meanwhile is no failure.
            drop(
                conn.execute(sqlx::raw_sql(AssertSqlSafe(format!("KILL {id}"))))
                    .await,
            );
        }
    }

    /// Runs statements as the server's administrator, in this database.
    ///
    /// # Panics
    /// When they fail, or this is a file.
    pub async fn administer(&self, sql: &str) {
        match &self.location {
            Location::Postgres(options) => {
                let mut conn = PgConnection::connect_with(options).await.unwrap();
                conn.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await.unwrap();
            }
            Location::MySql(options) => {
                let mut conn = MySqlConnection::connect_with(options).await.unwrap();
                conn.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await.unwrap();
            }
            Location::Sqlite(_) => panic!("a file has no administrator"),
        }
    }
}

/// The URL of the server for tests, if there is one.
pub fn server() -> Option<String> {
    env::var("CUMULET_TEST_DATABASE")
        .ok()
        .filter(|server| !server.is_empty())
}

fn new_name() -> String {
    format!("t_{:016x}", rand::random::<u64>())
}

/// Where a database of a server is.
fn named(server: &str, name: &str) -> Location {
    match Location::parse(server, PathBuf::new()).unwrap() {
        Location::Postgres(options) => Location::Postgres(Box::new(options.database(name))),
        Location::MySql(options) => Location::MySql(Box::new(options.database(name))),
        Location::Sqlite(_) => unreachable!(),
    }
}

async fn run(server: &str, sql: String) -> Result<(), sqlx::Error> {
    let sql = sqlx::raw_sql(AssertSqlSafe(sql));
    if server.starts_with("postgres") {
        let mut conn = PgConnection::connect_with(&PgConnectOptions::from_str(server)?).await?;
        conn.execute(sql).await.map(drop)
    } else {
        let mut conn = MySqlConnection::connect_with(&MySqlConnectOptions::from_str(server)?).await?;
        conn.execute(sql).await.map(drop)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let Some((server, name)) = self.on_server.take() else {
            return;
        };
        // The test's runtime may be ending, so another one does it.
        let ended = std::thread::spawn(move || {
            let force = if server.starts_with("postgres") {
                " WITH (FORCE)"
            } else {
                ""
            };
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            let drop = run(&server, format!("DROP DATABASE IF EXISTS {name}{force}"));
            runtime.block_on(drop).map_err(std::io::Error::other)
        });
        if let Ok(Err(error)) = ended.join() {
            eprintln!("a test's database is left over: {error}");
        }
    }
}
