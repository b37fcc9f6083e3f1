//! The engine: it leases due operations from the journal and runs one step of each. Steps of one round run
//! side by side, so that their transactions share commits.

use std::{any::TypeId, collections::HashMap, marker::PhantomData, time::Duration};

use cumulet_domain::{
    Error, Result, crash_point,
    id::{HostId, marker::Operation},
};
use futures::future::join_all;

use super::{
    Context, Kind, Look, Next,
    lease::{lease, next_due},
    registry::Loaded,
    rows::postpone,
};
use cumulet_store::entity::{columns::Key, operation::Model};

/// Operations in one round at the most.
const ROUND: u64 = 256;

/// The longest that the engine goes without looking at the journal.
const IDLE: Duration = Duration::from_secs(2);

/// After an error of the database, so that a broken one is not hammered.
const PAUSE: Duration = Duration::from_millis(500);

/// When a step that failed runs again.
const AGAIN: Duration = Duration::from_secs(2);

/// Runs the steps `only`. Does not end.
pub async fn run<Cx: Context>(cx: Cx, only: Vec<&'static str>) {
    loop {
        let wait = match round(&cx, &only).await {
            Ok(0) => until_next(&cx, &only).await,
            Ok(_) => continue,
            Err(error) => {
                tracing::error!(%error, "the engine's round failed");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        // Either the time has come or a wake-up; both mean: look.
        drop(tokio::time::timeout(wait, cx.woken()).await);
    }
}

/// Runs one step of everything that is due; how many that were.
pub async fn round<Cx: Context>(cx: &Cx, only: &[&'static str]) -> Result<usize> {
    let now = cx.now();
    let look = Look { now, by: cx.by(now) };
    let due = lease(cx.store(), cx.owner(), only, look.now, ROUND).await?;
    if due.is_empty() {
        return Ok(0);
    }
    let batches = Batches::load(cx, &due, look).await?;
    let steps = due.iter().map(|row| {
        let batches = &batches;
        async move {
            crash_point!(&row.kind, "leased");
            Cx::registry().counts().step(&row.kind, &row.step);
            complain(cx, row, batches.step(row).await).await.flatten()
        }
    });
    let hosts = join_all(steps).await;
    // Commands go out when all claims of the round stand: one policy then has every instance of it.
    let told = due.iter().zip(hosts).map(|(row, host)| {
        let batches = &batches;
        async move {
            if let Some(host) = host {
                complain(cx, row, batches.tell(row, &host).await).await;
            }
        }
    });
    join_all(told).await;
    Ok(due.len())
}

/// What the steps of a round share, by its type: kinds that need the same share one.
struct Batches<Cx: Context> {
    shared: Vec<(TypeId, Loaded)>,
    /// Of those of which one has a damaged row: each has its own, or what is the matter with it.
    alone: HashMap<Key<Operation>, Result<Loaded>>,
    of: PhantomData<fn() -> Cx>,
}

impl<Cx: Context> Batches<Cx> {
    async fn load(cx: &Cx, due: &[Model], look: Look) -> Result<Self> {
        let mut wanted: Vec<(&'static dyn Kind<Cx>, Vec<&Model>)> = Vec::new();
        for row in due {
            let Some(kind) = Cx::registry().find(&row.kind) else {
                continue;
            };
            match wanted.iter_mut().find(|(other, _)| other.batch() == kind.batch()) {
                Some((_, rows)) => rows.push(row),
                None => wanted.push((kind, vec![row])),
            }
        }
        let mut batches = Batches {
            shared: Vec::new(),
            alone: HashMap::new(),
            of: PhantomData,
        };
        for (kind, rows) in &wanted {
            match kind.load(cx, rows, look).await {
                Ok(loaded) => batches.shared.push((kind.batch(), loaded)),
                // A damaged row is its operation's affair, and nobody else's.
                Err(Error::Internal(_)) if rows.len() > 1 => {
                    for row in rows {
                        let loaded = kind.load(cx, &[*row], look).await;
                        batches.alone.insert(row.id, loaded);
                    }
                }
                Err(error @ Error::Internal(_)) => {
                    let ids = rows.iter().map(|row| (row.id, Err(error.clone())));
                    batches.alone.extend(ids);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(batches)
    }

    fn of(&self, row: &Model) -> Result<(&'static dyn Kind<Cx>, &Loaded)> {
        let unknown = || Error::Internal(format!("unknown operation {:?}", row.kind));
        let kind = Cx::registry().find(&row.kind).ok_or_else(unknown)?;
        if let Some(loaded) = self.alone.get(&row.id) {
            return loaded.as_ref().map(|batch| (kind, batch)).map_err(Error::clone);
        }
        let mut shared = self.shared.iter();
        let (_, batch) = shared.find(|(id, _)| *id == kind.batch()).ok_or_else(unknown)?;
        Ok((kind, batch))
    }

    /// Runs the step that an operation is at; the host that is to be told, if one is.
    async fn step(&self, row: &Model) -> Result<Option<HostId>> {
        let (kind, batch) = self.of(row)?;
        Ok(match kind.step(batch, row).await? {
            Next::Wait => None,
            Next::Tell(host) => Some(host),
        })
    }

    async fn tell(&self, row: &Model, host: &HostId) -> Result<()> {
        let (kind, batch) = self.of(row)?;
        kind.tell(batch, row, host).await
    }
}

/// Notes a failure, and sees to it that the operation is looked at again before its lease runs out.
async fn complain<Cx: Context, T>(cx: &Cx, row: &Model, result: Result<T>) -> Option<T> {
    let error = match result {
        Ok(value) => return Some(value),
        Err(error) => error,
    };
    tracing::error!(operation = %row.id, row.kind, row.step, %error, "a step failed");
    Cx::registry().counts().error(&row.kind, &row.step);
    let again = cx.now().after(AGAIN);
    if let Err(error) = postpone(cx.store(), row.id.0, again).await {
        tracing::error!(operation = %row.id, %error, "it runs again when its lease has run out");
    }
    None
}

async fn until_next<Cx: Context>(cx: &Cx, only: &[&'static str]) -> Duration {
    let now = cx.now();
    match next_due(cx.store(), only, now).await {
        Ok(Some(next)) => next.since(cx.now()).min(IDLE).max(Duration::from_millis(5)),
        _ => IDLE,
    }
}
