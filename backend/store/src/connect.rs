//! The opening of the database, with the migration of its schema.

use std::{path::Path, sync::Arc};

use cumulet_domain::{Result, crash};
use cumulet_migrations::{Migrator, MigratorTrait};
use sea_orm::{Database, DatabaseConnection, DbBackend, ProxyDatabaseTrait};

use super::{
    Location, Store, Writer, failed, newer,
    server::{self, Server},
    sqlite::{Readers, Savepoints, WriteConnection},
    writer,
};

use crate::boxed;

/// Where the database is and how it is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it is.
    pub location: Location,
    /// Connections for reads; on a server, as many again for transactions.
    pub readers: u32,
}

impl Options {
    /// For a SQLite file.
    pub fn file(path: impl Into<std::path::PathBuf>, readers: u32) -> Self {
        Options {
            location: Location::Sqlite(path.into()),
            readers,
        }
    }
}

/// Opens the database, bringing its schema up to date first.
///
/// # Errors
/// When it can't be opened, or its schema can't be migrated (it is newer than this program).
#[boxed]
pub async fn connect(options: &Options) -> Result<Store> {
    cumulet_migrations::witness(met);
    let (reader, writer) = match &options.location {
        Location::Sqlite(path) => file(path, options.readers).await?,
        location => {
            server::migrate(location).await?;
            let (server, reader) = Server::open(location, options.readers).await?;
            (reader, Writer::Server(Arc::new(server)))
        }
    };
    crash::up("migrated");
    Ok(Store {
        reader,
        writer,
        keep: true,
        rows: 0,
        participant: None,
        spent: None,
    })
}

/// A migration's changes are made, and neither noted nor committed.
fn met(migration: &str) {
    crash::up(migration);
    #[cfg(test)]
    tests::met(migration);
}

async fn file(path: &Path, readers: u32) -> Result<(DatabaseConnection, Writer)> {
    let connection = Arc::new(WriteConnection::open(path)?);
    let savepoints = proxy(Savepoints(connection.clone())).await?;
    migrate(&connection, &savepoints, None).await?;
    let reader = proxy(Readers::open(path, readers)?).await?;
    let writer = writer::Writer::start(connection, savepoints)?;
    Ok((reader, Writer::Sqlite(Arc::new(writer))))
}

/// All that are pending, or so many of them; or none of those.
pub(super) async fn migrate(
    connection: &WriteConnection,
    savepoints: &DatabaseConnection,
    steps: Option<u32>,
) -> Result<()> {
    connection.begin()?;
    let done = Migrator::up(savepoints, steps).await.map_err(newer);
    match done.and_then(|()| connection.intact()) {
        Ok(()) => connection.commit(),
        Err(error) => {
            connection.rollback();
            Err(error)
        }
    }
}

/// Brings the schema of an empty database to where this migration has left it.
#[cfg(any(test, feature = "scratch"))]
#[boxed]
pub async fn connect_to(options: &Options, last: &str) -> Result<()> {
    let all = Migrator::migrations();
    let steps = all.iter().position(|migration| migration.name() == last);
    let steps = steps.and_then(|at| u32::try_from(at + 1).ok());
    assert!(steps.is_some(), "there is no {last}");
    match &options.location {
        Location::Sqlite(path) => {
            let connection = Arc::new(WriteConnection::open(path)?);
            let savepoints = proxy(Savepoints(connection.clone())).await?;
            migrate(&connection, &savepoints, steps).await
        }
        location => server::up(location, steps).await,
    }
}

/// A connection of sea-orm over one of ours.
pub(super) async fn proxy(database: impl ProxyDatabaseTrait + 'static) -> Result<DatabaseConnection> {
    let database: Box<dyn ProxyDatabaseTrait> = Box::new(database);
    Database::connect_proxy(DbBackend::Sqlite, Arc::new(database))
        .await
        .map_err(failed)
}

/// A connection of its own, for what is to be read as of one moment: a transaction that is begun on it and
/// only reads holds nobody up. (Those of [`Store::read`] may be many, and have no transactions.)
///
/// # Errors
/// When the database can't be opened.
#[boxed]
pub async fn snapshots(options: &Options) -> Result<DatabaseConnection> {
    match &options.location {
        Location::Sqlite(path) => proxy(Savepoints(Arc::new(WriteConnection::open(path)?))).await,
        location => server::snapshots(location).await,
    }
}

/// The points of a start, in order: those of the migrations, of which it passes the ones that it makes, and the rest.
pub fn up_points() -> Vec<String> {
    let migrations = Migrator::migrations();
    let steps = migrations.iter().map(|migration| migration.name());
    let steps = steps.chain(crash::UP);
    steps.map(|step| format!("up.{step}")).collect()
}

/// The migrations, oldest first, and whether each has been applied.
///
/// # Errors
/// When the database can't be opened.
#[boxed]
pub async fn schema(options: &Options) -> Result<Vec<(String, bool)>> {
    match &options.location {
        Location::Sqlite(path) => {
            let connection = proxy(Savepoints(Arc::new(WriteConnection::open(path)?))).await?;
            server::listed(&connection).await.map_err(newer)
        }
        location => server::schema(location).await,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::RefCell,
        collections::BTreeMap,
        panic::{AssertUnwindSafe, resume_unwind},
    };

    use cumulet_domain::{
        crash::Killed,
        network::{Direction, Peer, Rule, Traffic},
    };
    use futures::FutureExt as _;
    use sea_orm::{ConnectionTrait as _, Statement};

    use super::*;
    use crate::{groups, scratch::Scratch};

    thread_local! {
        /// The migration in which this thread's start dies.
        static DIES: RefCell<Option<String>> = const { RefCell::new(None) };
    }

    pub(super) fn met(migration: &str) {
        if DIES
            .with_borrow_mut(|name| name.take_if(|name| name == migration))
            .is_some()
        {
            resume_unwind(Box::new(Killed));
        }
    }

    /// On every database: once in each migration, at its worst moment.
    #[tokio::test]
    async fn a_start_that_dies_in_any_migration_is_made_up_for() {
        let database = Scratch::new().await;
        for migration in Migrator::migrations() {
            DIES.set(Some(migration.name().to_owned()));
            let died = AssertUnwindSafe(connect(&database.options(1)))
                .catch_unwind()
                .await;
            assert!(
                died.err().is_some_and(|end| end.is::<Killed>()),
                "{}",
                migration.name()
            );
        }
        connect(&database.options(1)).await.unwrap();
        let all = schema(&database.options(1)).await.unwrap();
        assert!(all.iter().all(|(_, applied)| *applied), "{all:?}");
    }

    /// A table's and a column's name, and whether a row can be written that does not name the column.
    type Columns = BTreeMap<(String, String), bool>;

    async fn after(steps: u32) -> Columns {
        let dir = tempfile::tempdir().unwrap();
        let connection = Arc::new(WriteConnection::open(&dir.path().join("db")).unwrap());
        let savepoints = proxy(Savepoints(connection.clone())).await.unwrap();
        connection.begin().unwrap();
        Migrator::up(&savepoints, Some(steps)).await.unwrap();
        let query = "SELECT t.name AS t, c.name AS c, c.\"notnull\" = 0 OR c.dflt_value IS NOT NULL AS free \
                     FROM sqlite_master t JOIN pragma_table_info(t.name) c WHERE t.type = 'table'";
        let rows = savepoints.query_all_raw(Statement::from_string(DbBackend::Sqlite, query));
        let columns = rows.await.unwrap().into_iter().map(|row| {
            let text = |name| row.try_get::<String>("", name).unwrap();
            let free = row.try_get::<i64>("", "free").unwrap() == 1;
            ((text("t"), text("c")), free)
        });
        columns.collect()
    }

    /// While roles are replaced one after the other, a new one has migrated and old ones go on.
    #[tokio::test]
    async fn a_program_of_an_earlier_schema_can_go_on_reading_and_writing() {
        let steps = u32::try_from(Migrator::migrations().len()).unwrap();
        let now = after(steps).await;
        for earlier in 1..steps {
            let then = after(earlier).await;
            for (column, free) in &then {
                assert!(now.contains_key(column), "{column:?} is gone");
                assert!(now[column] || !free, "{column:?} has to be named now");
            }
            let tables: Vec<_> = then.keys().map(|(table, _)| table).collect();
            let added = now.iter().filter(|((table, _), _)| tables.contains(&table));
            for (column, free) in added.filter(|(column, _)| !then.contains_key(*column)) {
                assert!(free, "{column:?} came after step {earlier} and has to be named");
            }
        }
    }

    /// A rule as it is kept.
    fn kept(direction: Direction, traffic: Traffic, block: &str) -> String {
        let peer = Peer::Cidr(block.parse().unwrap());
        groups::rule_text(Rule {
            direction,
            traffic,
            peer,
        })
        .unwrap()
    }

    /// `IpProtocol=06` was once every port of TCP, kept as a protocol without ports.
    #[tokio::test]
    async fn rules_that_were_kept_without_ports_say_which_they_open() {
        use Direction::{Egress, Ingress};
        let (all, some) = ("0.0.0.0/0", "10.0.0.0/8");
        let tcp = Traffic::Tcp {
            from: 0,
            to: u16::MAX,
        };
        let udp = Traffic::Udp {
            from: 0,
            to: u16::MAX,
        };
        let icmp = Traffic::Icmp {
            kind: None,
            code: None,
        };
        // Group, rule before, rule after; where there is none, the group has it already.
        let rows = [
            (1, (Ingress, Traffic::Protocol(6), all), Some(tcp)),
            (1, (Ingress, Traffic::Protocol(6), some), Some(tcp)),
            (1, (Egress, Traffic::Protocol(17), all), Some(udp)),
            (1, (Ingress, Traffic::Protocol(1), all), Some(icmp)),
            (
                1,
                (Ingress, Traffic::Protocol(50), all),
                Some(Traffic::Protocol(50)),
            ),
            (
                1,
                (Ingress, Traffic::Protocol(16), all),
                Some(Traffic::Protocol(16)),
            ),
            (
                1,
                (Ingress, Traffic::Protocol(60), all),
                Some(Traffic::Protocol(60)),
            ),
            (1, (Ingress, Traffic::All, all), Some(Traffic::All)),
            (2, (Ingress, tcp, all), Some(tcp)),
            (2, (Ingress, Traffic::Protocol(6), all), None),
        ];
        let dir = tempfile::tempdir().unwrap();
        let connection = Arc::new(WriteConnection::open(&dir.path().join("db")).unwrap());
        let conn = proxy(Savepoints(connection.clone())).await.unwrap();
        connection.begin().unwrap();
        let migrations = Migrator::migrations();
        let before = migrations
            .iter()
            .position(|migration| migration.name() == "m0014_protocols");
        let before = u32::try_from(before.unwrap()).unwrap();
        Migrator::up(&conn, Some(before)).await.unwrap();
        for (id, (group, (direction, traffic, block), _)) in (1_i64..).zip(&rows) {
            let rule = kept(*direction, *traffic, block);
            for sql in [
                format!("INSERT INTO security_group_rules VALUES ({id}, 7, {group}, '{rule}', NULL, 'd', 0)"),
                format!(
                    "INSERT INTO tags (resource, kind, key, value, account) \
                     VALUES ({id}, 'security-group-rule', 'k', 'v', 7)"
                ),
            ] {
                conn.execute_unprepared(&sql).await.unwrap();
            }
        }
        Migrator::up(&conn, Some(1)).await.unwrap();
        let query = "SELECT r.id AS id, r.rule AS rule FROM security_group_rules r \
                     JOIN tags t ON t.resource = r.id ORDER BY r.id";
        let found = conn
            .query_all_raw(Statement::from_string(DbBackend::Sqlite, query))
            .await
            .unwrap();
        let found: Vec<(i64, String)> = found
            .iter()
            .map(|row| (row.try_get("", "id").unwrap(), row.try_get("", "rule").unwrap()))
            .collect();
        let expected = (1_i64..)
            .zip(&rows)
            .filter_map(|(id, (_, (direction, _, block), after))| {
                after.map(|traffic| (id, kept(*direction, traffic, block)))
            });
        assert_eq!(found, expected.collect::<Vec<_>>());
        let tags = "SELECT COUNT(*) AS n FROM tags";
        let tags = conn
            .query_one_raw(Statement::from_string(DbBackend::Sqlite, tags))
            .await
            .unwrap();
        assert_eq!(tags.unwrap().try_get::<i64>("", "n"), Ok(9));
    }

    /// A program of before was ended with operations under way.
    #[tokio::test]
    async fn operations_that_were_under_way_hold_their_instances() {
        let dir = tempfile::tempdir().unwrap();
        let connection = Arc::new(WriteConnection::open(&dir.path().join("db")).unwrap());
        let conn = proxy(Savepoints(connection.clone())).await.unwrap();
        connection.begin().unwrap();
        let migrations = Migrator::migrations();
        let before = migrations
            .iter()
            .position(|migration| migration.name() == "m0018_operation_holds");
        Migrator::up(&conn, Some(u32::try_from(before.unwrap()).unwrap()))
            .await
            .unwrap();
        for (id, instance, status) in [
            (1, 5, "done"),
            (2, 5, "active"),
            (3, 6, "active"),
            (4, 7, "failed"),
        ] {
            let active = if status == "active" {
                instance.to_string()
            } else {
                "NULL".into()
            };
            let insert = format!(
                "INSERT INTO operations (id, kind, account, instance, active_instance, generation, status, step, \
                 state, attempts, next_at, deadline, lease_until, created_at) VALUES \
                 ({id}, 'stop', 1, {instance}, {active}, 1, '{status}', 'command', '{{}}', 0, 0, 0, 0, 0)"
            );
            conn.execute_unprepared(&insert).await.unwrap();
        }
        Migrator::up(&conn, Some(1)).await.unwrap();
        let numbers = async |query: &str| -> Vec<(i64, i64)> {
            let rows = conn
                .query_all_raw(Statement::from_string(DbBackend::Sqlite, query))
                .await;
            let row =
                |row: &sea_orm::QueryResult| (row.try_get("", "a").unwrap(), row.try_get("", "b").unwrap());
            rows.unwrap().iter().map(row).collect()
        };
        let holds =
            "SELECT resource AS a, operation AS b FROM operation_holds WHERE kind = 'instance' ORDER BY 1";
        assert_eq!(numbers(holds).await, [(5, 2), (6, 3)]);
        let subjects =
            "SELECT subject AS a, held AS b FROM operations WHERE subject_kind = 'instance' ORDER BY id";
        assert_eq!(numbers(subjects).await, [(5, 0), (5, 1), (6, 1), (7, 0)]);
    }
}
