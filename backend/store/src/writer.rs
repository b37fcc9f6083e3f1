//! The single writer. Transactions queue here; those that wait together run one after the other, each in a
//! savepoint, and share one commit, because on SQLite the commit's flush to disk costs far more than the
//! rows. No caller hears of success before the commit. Rehearsals give way to the others (see [`lanes`]).
//!
//! [`lanes`]: super::lanes

use std::{
    any::Any,
    panic::{AssertUnwindSafe, resume_unwind},
    sync::Arc,
    time::Instant,
};

use cumulet_domain::{Error, Result, crash::Killed};
use futures::{FutureExt as _, executor::block_on};
use sea_orm::{DatabaseConnection, TransactionTrait};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::{
    Participant, Spent, failed,
    inline::TransactionHooks,
    lanes::{Lane, Lanes, Next, Waits},
    sqlite::WriteConnection,
    versions::{Invalidates, Versions},
    work::{Value, Work},
};

/// Transactions in one commit at the most.
const GROUP: usize = 128;

/// Times that a rehearsal is broken off until its caller is told to come again.
const TRIES: u32 = 50;

/// Transactions that may wait; more make their callers wait for room.
const QUEUE: usize = 4096;

#[derive(Debug)]
pub(super) struct Writer {
    turn: Turn,
    versions: Arc<Versions>,
}

/// Who runs a transaction.
#[derive(Debug)]
enum Turn {
    /// A thread, together with others that wait.
    Thread {
        lanes: Lanes<Task>,
        room: Arc<Semaphore>,
    },
    /// The caller itself, at once and alone.
    Caller {
        connection: Arc<WriteConnection>,
        savepoints: DatabaseConnection,
        hooks: Arc<dyn TransactionHooks>,
    },
}

impl Writer {
    /// Starts the writer, on a thread of its own: statements run on it one after the other without
    /// waiting for anybody. It ends when the last handle is dropped.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub(super) fn start(connection: Arc<WriteConnection>, savepoints: DatabaseConnection) -> Result<Self> {
        let lanes = Lanes::<Task>::new();
        connection.give_way_to(lanes.urgent());
        let queue = lanes.clone();
        let versions = Arc::new(Versions::new());
        let counted = versions.clone();
        let serve = move || {
            while let Some(next) = queue.next(GROUP) {
                match next {
                    Next::Changes(group) => commit(&connection, &savepoints, group, &counted),
                    Next::Rehearsal(task, gives_way) => {
                        if let Some(again) = rehearse(&connection, &savepoints, task, gives_way) {
                            // Closed meanwhile: nobody waits for it.
                            drop(queue.push(again));
                        }
                    }
                }
            }
        };
        std::thread::Builder::new()
            .name("database-writer".into())
            .spawn(serve)
            .map_err(|error| Error::internal(&error))?;
        let turn = Turn::Thread {
            lanes,
            room: Arc::new(Semaphore::new(QUEUE)),
        };
        Ok(Writer { turn, versions })
    }

    /// A writer without a thread: a transaction runs on the caller's, from its beginning to its end.
    pub(super) fn inline(
        connection: Arc<WriteConnection>,
        savepoints: DatabaseConnection,
        hooks: Arc<dyn TransactionHooks>,
    ) -> Self {
        Writer {
            turn: Turn::Caller {
                connection,
                savepoints,
                hooks,
            },
            versions: Arc::new(Versions::new()),
        }
    }

    /// The numbers of what was committed. They grow before a commit's callers hear of its success.
    pub(super) fn versions(&self) -> &Versions {
        &self.versions
    }

    pub(super) async fn run(
        &self,
        lane: Lane,
        invalidates: Invalidates,
        (participant, spent): (Option<Arc<dyn Participant>>, Option<Spent>),
        work: Box<dyn Work>,
    ) -> Result<Value> {
        let (reply, answer) = oneshot::channel();
        let mut task = Task {
            work: Some(work),
            participant,
            spent,
            lane,
            invalidates,
            result: None,
            killed: None,
            broken_off: 0,
            room: None,
            reply,
        };
        let gone = || Error::Unavailable("the database's writer has stopped".into());
        match &self.turn {
            Turn::Thread { lanes, room } => {
                task.room = room.clone().acquire_owned().await.ok();
                lanes.push(task).map_err(|_| gone())?;
            }
            Turn::Caller {
                connection,
                savepoints,
                hooks,
            } => {
                hooks.before().await?;
                commit(connection, savepoints, vec![task], &self.versions);
                hooks.after().await?;
            }
        }
        answer.await.map_err(|_| gone())?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Turn::Thread { lanes, .. } = &self.turn {
            lanes.close();
        }
    }
}

/// Runs a rehearsal alone and tells its result; answers it if it was broken off and is to be run again.
fn rehearse(
    connection: &WriteConnection,
    savepoints: &DatabaseConnection,
    mut task: Task,
    gives_way: bool,
) -> Option<Task> {
    let again = task.work.as_ref().map(|work| work.again());
    connection.gives_way(gives_way);
    let outcome = connection
        .begin()
        .and_then(|()| block_on(task.run(savepoints)))
        .and_then(|()| connection.intact());
    let broken_off = connection.gives_way(false);
    connection.rollback();
    if broken_off {
        (task.work, task.result) = (again, None);
        task.broken_off += 1;
        if task.broken_off < TRIES {
            return Some(task);
        }
        let busy = "the database has no time for a rehearsal".to_owned();
        task.finish(Err(Error::Unavailable(busy)));
        return None;
    }
    task.finish(outcome);
    None
}

/// Runs a group in one transaction and tells each its result.
fn commit(
    connection: &WriteConnection,
    savepoints: &DatabaseConnection,
    mut group: Vec<Task>,
    versions: &Versions,
) {
    let outcome = together(connection, savepoints, &mut group);
    if outcome.is_err() {
        connection.rollback();
    }
    // Whatever became of it: one that failed may have been written all the same.
    for work in &group {
        versions.bump(work.touched());
    }
    for mut work in group {
        // A crash point of a simulation: the caller dies of it, and nothing of the transaction is kept.
        if let Some(killed) = work.killed.take() {
            resume_unwind(killed);
        }
        work.finish(outcome.clone());
    }
}

fn together(connection: &WriteConnection, savepoints: &DatabaseConnection, group: &mut [Task]) -> Result<()> {
    connection.begin()?;
    for work in group {
        block_on(work.run(savepoints))?;
        connection.intact()?;
    }
    connection.commit()
}

/// One transaction that waits for its turn.
struct Task {
    work: Option<Box<dyn Work>>,
    participant: Option<Arc<dyn Participant>>,
    spent: Option<Spent>,
    lane: Lane,
    invalidates: Invalidates,
    result: Option<Result<Value>>,
    killed: Option<Box<dyn Any + Send>>,
    /// How often it was broken off, as a rehearsal.
    broken_off: u32,
    /// Its place among those that may wait.
    room: Option<OwnedSemaphorePermit>,
    reply: oneshot::Sender<Result<Value>>,
}

impl std::fmt::Debug for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Task")
            .field("lane", &self.lane)
            .finish_non_exhaustive()
    }
}

impl Waits for Task {
    fn lane(&self) -> Lane {
        self.lane
    }

    fn broken_off(&self) -> u32 {
        self.broken_off
    }
}

impl Task {
    /// Runs in a savepoint; an error of the work itself undoes that savepoint alone. The answer is an
    /// error only where the whole transaction is lost.
    async fn run(&mut self, savepoints: &DatabaseConnection) -> Result<()> {
        let Some(work) = self.work.take().filter(|_| !self.reply.is_closed()) else {
            return Ok(());
        };
        let begun = self.spent.as_ref().map(|_| Instant::now());
        let savepoint = savepoints.begin().await.map_err(failed)?;
        // A panic is the end of one request, not of every write from then on.
        let run = AssertUnwindSafe(async {
            let value = work.run(&savepoint).await?;
            if let Some(participant) = &self.participant {
                participant.write(&savepoint).await?;
            }
            Ok(value)
        });
        let result = run.catch_unwind().await;
        let result = result.unwrap_or_else(|panic| {
            self.killed = Some(panic).filter(|panic| panic.is::<Killed>());
            Err(Error::Internal("a transaction panicked".into()))
        });
        match result {
            Ok(_) if self.lane != Lane::Rehearsal => savepoint.commit().await.map_err(failed)?,
            _ => savepoint.rollback().await.map_err(failed)?,
        }
        if let (Some(spent), Some(begun)) = (&self.spent, begun) {
            spent.add(begun.elapsed());
        }
        self.result = Some(result);
        Ok(())
    }

    /// What it may have changed, if its part of the transaction was kept.
    fn touched(&self) -> Invalidates {
        match self.result {
            // Told to be undone, failed by itself, or not begun.
            _ if self.lane == Lane::Rehearsal => Invalidates::Nothing,
            Some(Err(_)) | None => Invalidates::Nothing,
            Some(Ok(_)) => self.invalidates,
        }
    }

    /// Tells the caller, once the commit has succeeded or failed.
    fn finish(self, committed: Result<()>) {
        let result = match (self.result, committed) {
            (Some(Err(error)), _) => Err(error),
            (_, Err(error)) => Err(error),
            (Some(Ok(value)), Ok(())) => Ok(value),
            (None, Ok(())) => return,
        };
        drop(self.room);
        drop(self.reply.send(result));
    }
}

#[cfg(test)]
mod tests {
    use sea_orm::{ActiveModelTrait, ActiveValue::Set, ConnectionTrait as _, EntityTrait};

    use super::*;
    use crate::{Options, Store, connect, entity::setting, is_taken};

    async fn store(dir: &tempfile::TempDir) -> Store {
        connect(&Options::file(dir.path().join("test.db"), 2))
            .await
            .unwrap()
    }

    async fn put(store: &Store, name: String, fail: bool) -> Result<()> {
        store
            .write(move |txn| {
                Box::pin(async move {
                    let row = setting::ActiveModel {
                        name: Set(name.clone()),
                        value: Set("x".into()),
                    };
                    row.insert(txn).await.map_err(|error| {
                        if is_taken(&error) {
                            Error::invalid("name", &name, "taken")
                        } else {
                            failed(error)
                        }
                    })?;
                    if fail {
                        Err(Error::invalid("name", &name, "told to fail"))
                    } else {
                        Ok(())
                    }
                })
            })
            .await
    }

    #[tokio::test]
    async fn transactions_in_one_group_succeed_and_fail_each_on_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir).await;
        let all = (0..40).map(|i| put(&store, format!("n{}", i / 2), i % 8 == 0));
        let results = futures::future::join_all(all).await;
        // Each name is tried twice. Where the first try fails by itself the second one gets through.
        assert_eq!(results.iter().filter(|r| r.is_ok()).count(), 20);
        assert_eq!(setting::Entity::find().all(store.read()).await.unwrap().len(), 20);
    }

    #[tokio::test]
    async fn a_panic_ends_its_own_transaction_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir).await;
        let panics = store.write(|txn| {
            Box::pin(async move {
                let row = setting::ActiveModel {
                    name: Set("half".into()),
                    value: Set("x".into()),
                };
                row.insert(txn).await.map_err(failed)?;
                assert!(
                    txn.get_database_backend() != sea_orm::DbBackend::Sqlite,
                    "told to panic"
                );
                Ok(())
            })
        });
        assert!(matches!(panics.await, Err(Error::Internal(_))));
        put(&store, "next".into(), false).await.unwrap();
        let names = setting::Entity::find().all(store.read()).await.unwrap();
        assert_eq!(names.len(), 1, "{names:?}");
    }

    #[tokio::test]
    async fn what_is_acknowledged_is_in_the_file() {
        let dir = tempfile::tempdir().unwrap();
        put(&store(&dir).await, "kept".into(), false).await.unwrap();
        let again = store(&dir).await;
        assert!(
            setting::Entity::find_by_id("kept")
                .one(again.read())
                .await
                .unwrap()
                .is_some()
        );
    }

    #[tokio::test]
    async fn a_rehearsal_runs_everything_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir).await;
        put(&store.rehearsal(), "x".into(), false).await.unwrap();
        assert!(put(&store.rehearsal(), "x".into(), true).await.is_err());
        assert!(
            setting::Entity::find()
                .all(store.read())
                .await
                .unwrap()
                .is_empty()
        );
        put(&store, "x".into(), false).await.unwrap();
        assert!(put(&store.rehearsal(), "x".into(), false).await.is_err());
    }

    #[tokio::test]
    async fn what_transactions_take_is_counted_kept_or_not() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir).await;
        let mut before = std::time::Duration::ZERO;
        let spent = Spent::default();
        let counting = store.counting(spent.clone());
        for (store, name, fail) in [
            (counting.clone(), "a", false),
            (counting.clone(), "b", true),
            (counting.rehearsal(), "c", false),
        ] {
            let _ = put(&store, name.into(), fail).await;
            assert!(spent.time() > before, "{name}");
            before = spent.time();
        }
        put(&store, "d".into(), false).await.unwrap();
        assert_eq!(spent.time(), before);
    }

    /// A5: rehearsals that take long hold up no change.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_long_rehearsal_gives_way_to_changes_and_ends_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir).await;
        let begun = Arc::new(tokio::sync::Notify::new());
        let (runs, told) = (Arc::new(std::sync::atomic::AtomicU32::new(0)), begun.clone());
        let counted = runs.clone();
        // As long as nobody breaks it off, its first runs have no end.
        let rehearsal = store.rehearsal();
        let long = rehearsal.write(move |txn| {
            let (runs, told) = (counted.clone(), told.clone());
            Box::pin(async move {
                let run = runs.fetch_add(1, std::sync::atomic::Ordering::AcqRel);
                told.notify_one();
                let count = setting::Entity::find().all(txn).await.map_err(failed)?.len();
                if run < 3 {
                    loop {
                        setting::Entity::find().all(txn).await.map_err(failed)?;
                    }
                }
                Ok(count)
            })
        });
        let changes = async {
            for n in 0..3 {
                begun.notified().await;
                put(&store, format!("n{n}"), false).await.unwrap();
            }
        };
        let (counted, ()) = tokio::join!(long, changes);
        // It has seen what came in between, once it was run again as a whole.
        assert_eq!(
            (counted.unwrap(), runs.load(std::sync::atomic::Ordering::Acquire)),
            (3, 4)
        );
    }
}
