//! The template of a server's scratch databases: what the migrations make of an empty database, made once, and copied
//! for each test. Whichever test comes first makes it, under a lock of the server's (a test may be a process of its
//! own); it is whole when it says so, and what a killed test has left of one is made again. Its name has the text of the
//! migrations in it, so that a server which outlives a run has none of an earlier schema under that name.

use std::{
    collections::BTreeMap,
    env, fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    str::FromStr as _,
};

use sqlx::{
    AssertSqlSafe, Connection as _, Executor as _, MySqlConnection, PgConnection, Row as _,
    mysql::MySqlConnectOptions, postgres::PgConnectOptions,
};

use super::named;
use crate::server::migrate;

/// The lock's number on PostgreSQL: "scratch" in letters' places.
const LOCK: i64 = 0x73_6372_6174_6368;

/// The table of a template on MariaDB that is written last: the statements that make another one.
const WHOLE: &str = "whole";

/// Creates a database of this name as the migrations would make it.
pub(super) async fn copy(server: &str, name: &str) -> Result<(), sqlx::Error> {
    let template = format!("template_{:016x}", schema());
    if server.starts_with("postgres") {
        on_postgres(server, &template, name).await
    } else {
        on_mysql(server, &template, name).await
    }
}

/// What the migrations are, in a number.
fn schema() -> u64 {
    // A test runs in its package's folder.
    let here = env::current_dir().unwrap();
    let mut above = here.ancestors().map(|dir| dir.join("migrations/src"));
    let files = fs::read_dir(above.find(|dir| dir.is_dir()).unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let texts: BTreeMap<_, _> = files
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    let mut hasher = DefaultHasher::new();
    for (path, text) in texts {
        (path.file_name(), text).hash(&mut hasher);
    }
    hasher.finish()
}

async fn on_postgres(server: &str, template: &str, name: &str) -> Result<(), sqlx::Error> {
    let mut conn = PgConnection::connect_with(&PgConnectOptions::from_str(server)?).await?;
    let is_whole = format!("SELECT 1 FROM pg_database WHERE datname = '{template}' AND datistemplate");
    if ask(&mut conn, &is_whole).await?.is_none() {
        run(&mut conn, format!("SELECT pg_advisory_lock({LOCK})")).await?;
        if ask(&mut conn, &is_whole).await?.is_none() {
            run(
                &mut conn,
                format!("DROP DATABASE IF EXISTS {template} WITH (FORCE)"),
            )
            .await?;
            run(&mut conn, format!("CREATE DATABASE {template}")).await?;
            migrate(&named(server, template)).await.unwrap();
            run(&mut conn, format!("ALTER DATABASE {template} IS_TEMPLATE true")).await?;
        }
        run(&mut conn, format!("SELECT pg_advisory_unlock({LOCK})")).await?;
    }
    run(&mut conn, format!("CREATE DATABASE {name} TEMPLATE {template}")).await
}

async fn ask(conn: &mut PgConnection, sql: &str) -> Result<Option<sqlx::postgres::PgRow>, sqlx::Error> {
    conn.fetch_optional(sqlx::raw_sql(AssertSqlSafe(sql))).await
}

async fn on_mysql(server: &str, template: &str, name: &str) -> Result<(), sqlx::Error> {
    let mut conn = MySqlConnection::connect_with(&MySqlConnectOptions::from_str(server)?).await?;
    let statements = match whole(&mut conn, template).await? {
        Some(statements) => statements,
        None => made(&mut conn, server, template).await?,
    };
    run(&mut conn, statements.replace(NAME, name)).await
}

/// What stands for the name of the copy in the statements that make one.
const NAME: &str = "$name";

/// The statements that make a copy of a template, if it is there and whole.
async fn whole(conn: &mut MySqlConnection, template: &str) -> Result<Option<String>, sqlx::Error> {
    let there = format!(
        "SELECT 1 FROM information_schema.TABLES WHERE TABLE_SCHEMA = '{template}' AND TABLE_NAME = '{WHOLE}'"
    );
    if texts(conn, &there).await?.is_empty() {
        return Ok(None);
    }
    let said = texts(conn, &format!("SELECT statements FROM {template}.{WHOLE}")).await?;
    Ok(said.into_iter().next())
}

/// Makes the template, unless somebody has meanwhile, and says how it is copied. (There is no other way than to create
/// each table anew.)
async fn made(conn: &mut MySqlConnection, server: &str, template: &str) -> Result<String, sqlx::Error> {
    run(&mut *conn, format!("DO GET_LOCK('{template}', 120)")).await?;
    if let Some(statements) = whole(conn, template).await? {
        run(&mut *conn, format!("DO RELEASE_LOCK('{template}')")).await?;
        return Ok(statements);
    }
    run(&mut *conn, format!("DROP DATABASE IF EXISTS {template}")).await?;
    run(&mut *conn, format!("CREATE DATABASE {template}")).await?;
    migrate(&named(server, template)).await.unwrap();
    let tables =
        format!("SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = '{template}'");
    let mut statements = format!("CREATE DATABASE {NAME};");
    for table in texts(conn, &tables).await? {
        statements += &format!("CREATE TABLE {NAME}.`{table}` LIKE {template}.`{table}`;");
        if !texts(conn, &format!("SELECT 1 FROM {template}.`{table}` LIMIT 1"))
            .await?
            .is_empty()
        {
            statements += &format!("INSERT INTO {NAME}.`{table}` SELECT * FROM {template}.`{table}`;");
        }
    }
    let note = format!("CREATE TABLE {template}.{WHOLE} AS SELECT '{statements}' AS statements");
    run(&mut *conn, note).await?;
    run(&mut *conn, format!("DO RELEASE_LOCK('{template}')")).await?;
    Ok(statements)
}

/// The first column of each row, as text.
async fn texts(conn: &mut MySqlConnection, sql: &str) -> Result<Vec<String>, sqlx::Error> {
    let rows = conn.fetch_all(sqlx::raw_sql(AssertSqlSafe(sql))).await?;
    rows.iter().map(|row| row.try_get_unchecked(0)).collect()
}

async fn run<'c>(conn: impl sqlx::Executor<'c>, sql: String) -> Result<(), sqlx::Error> {
    conn.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await.map(drop)
}
