//! Database faults of a run, and the checks after each commit: that no host is oversold (I3), that nothing that
//! has ended comes back (I6), and that open operations and no others hold something (I10).

use std::sync::{Arc, OnceLock};

use cumulet_backend::store::{TransactionHooks, failed};
use cumulet_domain::{Error, Result};
use futures::future::BoxFuture;
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement};

use crate::{options::Sabotage, outcome::Invariant, world::World};

/// Hosts whose sums are compared with their rows after every transaction; those of more, now and then.
const FEW: usize = 64;

/// Transactions between two comparisons where there are many hosts.
const SELDOM: u64 = 20_000;

/// Notes what a statement does that none may; an undone one leaves no note.
const TRIGGERS: &str = "
    CREATE TEMP TABLE noted (invariant TEXT, words TEXT);
    CREATE TEMP TRIGGER oversold AFTER UPDATE ON main.hosts
    WHEN (NEW.vcpus_used > NEW.vcpus_max AND NEW.vcpus_used > OLD.vcpus_used)
      OR (NEW.memory_mib_used > NEW.memory_mib_max AND NEW.memory_mib_used > OLD.memory_mib_used)
      OR (NEW.disk_gib_used > NEW.disk_gib_max AND NEW.disk_gib_used > OLD.disk_gib_used)
      OR NEW.vcpus_used < 0 OR NEW.memory_mib_used < 0 OR NEW.disk_gib_used < 0
    BEGIN
        INSERT INTO noted VALUES ('I3', 'host ' || NEW.id || ' has ' || NEW.vcpus_used || ' vCPUs used of '
            || NEW.vcpus_max);
    END;
    CREATE TEMP TRIGGER revived AFTER UPDATE ON main.instances
    WHEN OLD.state = 'terminated' AND NEW.state <> 'terminated'
    BEGIN
        INSERT INTO noted VALUES ('I6', 'instance ' || NEW.id || ' was terminated and is ' || NEW.state);
    END;
";

/// Hosts whose counters are not the sums of their instances and volumes, or more than they have.
const SUMS: &str = "
    SELECT h.id AS id, h.vcpus_used AS used, coalesce(s.vcpus, 0) AS vcpus
    FROM hosts h LEFT JOIN (
        SELECT host, sum(vcpus) AS vcpus, sum(memory) AS memory, sum(disk) AS disk FROM (
            SELECT host, vcpus * claimed AS vcpus, memory_mib * claimed AS memory, disk_gib AS disk
            FROM instances WHERE host IS NOT NULL
            UNION ALL SELECT host, 0, 0, size_gib FROM volumes
            WHERE host IS NOT NULL AND coalesce(store, 'local') = 'local'
        ) GROUP BY host
    ) s ON s.host = h.id
    WHERE h.vcpus_used <> coalesce(s.vcpus, 0) OR h.memory_mib_used <> coalesce(s.memory, 0)
        OR h.disk_gib_used <> coalesce(s.disk, 0)";

/// Holds of what is not under way, and what is under way without holding its subject and all the rest.
const HOLDS: &str = "
    SELECT h.operation AS id, h.kind || ' ' || h.resource || ' is held' AS words
    FROM operation_holds h
    WHERE NOT EXISTS (SELECT 1 FROM operations o WHERE o.id = h.operation AND o.status = 'active')
    UNION ALL
    SELECT o.id, 'it does not hold ' || o.subject_kind || ' ' || o.subject FROM operations o
    WHERE o.status = 'active' AND (
        o.held <> (SELECT count(*) FROM operation_holds h WHERE h.operation = o.id)
        OR NOT EXISTS (SELECT 1 FROM operation_holds h
            WHERE h.operation = o.id AND h.kind = o.subject_kind AND h.resource = o.subject))";

/// What is around the database's transactions.
pub(crate) struct Database {
    world: Arc<World>,
    watched: OnceLock<DatabaseConnection>,
    hosts: usize,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database").finish_non_exhaustive()
    }
}

impl Database {
    pub(crate) fn new(world: Arc<World>, hosts: usize) -> Arc<Self> {
        Arc::new(Database {
            world,
            watched: OnceLock::new(),
            hosts,
        })
    }

    /// Begins to watch the tables.
    pub(crate) async fn watch(&self, connection: &DatabaseConnection) -> Result<()> {
        for statement in statements(TRIGGERS) {
            connection.execute_unprepared(&statement).await.map_err(failed)?;
        }
        if let Some(sabotage) = self.world.sabotage {
            for statement in statements(Sabotage::triggers(sabotage)) {
                connection.execute_unprepared(&statement).await.map_err(failed)?;
            }
        }
        drop(self.watched.set(connection.clone()));
        Ok(())
    }

    async fn look(&self, count: u64) -> Result<()> {
        let Some(connection) = self.watched.get() else {
            return Ok(());
        };
        let query =
            |sql: &'static str| connection.query_all_raw(Statement::from_string(DbBackend::Sqlite, sql));
        let noted = query("SELECT invariant, words FROM noted")
            .await
            .map_err(failed)?;
        for row in &noted {
            let words: String = row.try_get("", "words").map_err(failed)?;
            let invariant: String = row.try_get("", "invariant").map_err(failed)?;
            let known = if invariant == "I3" {
                Invariant::I3
            } else {
                Invariant::I6
            };
            self.world.violate(known, format_args!("{words}"));
        }
        if !noted.is_empty() {
            connection
                .execute_unprepared("DELETE FROM noted")
                .await
                .map_err(failed)?;
        }
        if self.hosts > FEW && !count.is_multiple_of(SELDOM) {
            return Ok(());
        }
        for row in query(HOLDS).await.map_err(failed)? {
            let id: i64 = row.try_get("", "id").map_err(failed)?;
            let words: String = row.try_get("", "words").map_err(failed)?;
            let known = Invariant::I10;
            self.world.violate(known, format_args!("operation {id}: {words}"));
        }
        for row in query(SUMS).await.map_err(failed)? {
            let id: String = row.try_get("", "id").map_err(failed)?;
            let used: i64 = row.try_get("", "used").map_err(failed)?;
            let sum: i64 = row.try_get("", "vcpus").map_err(failed)?;
            self.world.violate(
                Invariant::I3,
                format_args!("host {id} has {used} vCPUs used, and its instances have {sum}"),
            );
        }
        Ok(())
    }
}

/// The statements of a text; a trigger's own ones belong to it.
fn statements(text: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut one = String::new();
    for line in text.lines() {
        one.push_str(line);
        one.push('\n');
        let inside = one.contains("BEGIN") && line.trim() != "END;";
        if line.trim_end().ends_with(';') && !inside {
            all.push(std::mem::take(&mut one));
        }
    }
    all
}

impl TransactionHooks for Database {
    fn before(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async {
            if !self.world.rages() {
                return Ok(());
            }
            self.world.pause(0..3).await;
            if self.world.dice.chance(self.world.faults().database_fails) {
                self.world.count(|counts| counts.database_errors += 1);
                return Err(Error::Unavailable("the database has gone away".into()));
            }
            Ok(())
        })
    }

    fn after(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async {
            let count = {
                let mut seen = self.world.seen();
                seen.counts.transactions += 1;
                seen.counts.transactions
            };
            self.look(count).await?;
            if self.world.dice.chance(self.world.faults().database_lies) {
                self.world.count(|counts| counts.database_errors += 1);
                return Err(Error::Unavailable("the connection was cut in COMMIT".into()));
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_has_its_statements() {
        assert_eq!(statements(TRIGGERS).len(), 3);
        assert_eq!(statements("").len(), 0);
    }
}
