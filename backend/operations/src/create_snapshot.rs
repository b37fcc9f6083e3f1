//! Create snapshots: the content of volumes, all as they are at one moment, comes to the store of snapshots. What they
//! are about may do what it likes meanwhile; of a volume that no host has made there is nothing to take, and the
//! snapshot is what the volume was to be made of. Where that is plain and the snapshot is encrypted, as a copy may be,
//! some host encrypts it. One in a store that hosts share is taken by whoever keeps it, or by another of them where that
//! one is not to be had.

use std::time::Duration;

use cumulet_domain::{
    Result,
    crash::Role,
    crash_point,
    id::{HostId, InstanceId},
    message::{Action, SnapshotOutcome, SnapshotSource},
    snapshot::TakenSnapshot,
    volume::VolumeStore,
};
use cumulet_journal::{self as journal, End, How, Next, Operation, Step};
use cumulet_store::{
    attachments,
    entity::{columns::Amount, operation::Model, snapshot, volume},
    images, snapshots, volume_copies,
};
use sea_orm::DatabaseTransaction;

use crate::{
    Driver,
    driver::Heard,
    plug::internal,
    snapshot::{TogetherState, all_of, is_pending, settle, subject},
    snapshot_round::{Content, SnapshotRound},
    steps::{
        ASK, COMMAND, HEAR,
        driven::backoff,
        failure::on_host,
        hand_over::{RESEND, hand_over},
    },
};

/// See the module.
#[derive(Debug)]
pub struct CreateSnapshot;

/// What a host passes while it takes snapshots.
const TAKE: Step = Step::elsewhere("take", Role::Host, &["received", "copied", "kept", "reported"]);

/// How often a command may fail before the operation does.
const ATTEMPTS: u32 = 5;

/// When it is looked again for where a volume's content is.
const AGAIN: Duration = Duration::from_secs(1);

impl Operation for CreateSnapshot {
    type Cx = Driver;
    type State = TogetherState;
    type Batch = SnapshotRound;

    const NAME: &'static str = "create-snapshot";
    const STEPS: &'static [Step] = &[ASK, COMMAND, TAKE, HEAR];
    /// A terabyte takes some hours.
    const DEADLINE: Duration = Duration::from_secs(12 * 3600);
    const SUPERSEDES: &'static [&'static str] = &[];

    fn holds(_: journal::Resource, state: &TogetherState) -> Vec<journal::Resource> {
        state.others.iter().map(|id| subject(id.to_db())).collect()
    }

    async fn step(round: &SnapshotRound, operation: &Model) -> Result<Next> {
        let driver = &round.driver;
        if round.is_overdue(operation) {
            let seconds = Self::DEADLINE.as_secs();
            return give_up(
                driver,
                operation,
                format!("the snapshot was not taken within {seconds} s"),
            )
            .await;
        }
        let (mut hosts, mut shared, mut is_anywhere) = (Vec::new(), Vec::new(), false);
        for row in round.of(operation)?.into_iter().filter(|row| is_pending(row)) {
            match round.content(row) {
                Content::On { host, .. } => hosts.push(host),
                Content::Shared => shared.push(row),
                Content::Plain(_) => is_anywhere = true,
                Content::Unmade => {}
                Content::Unsettled => return later(round, operation).await,
                Content::Gone(failure) => {
                    let end = journal::end::<Self>(driver, operation.clone(), How::Failed(failure));
                    return end.await.map(|_| Next::Wait);
                }
            }
        }
        hosts.sort_unstable();
        hosts.dedup();
        // Whoever has volumes does all of it.
        if hosts.is_empty() && !shared.is_empty() {
            let Some(host) = round.keeper(&shared) else {
                return later(round, operation).await;
            };
            hosts.push(host.to_owned());
        }
        if hosts.is_empty() && is_anywhere {
            let Some(host) = round.encrypting(operation)? else {
                return later(round, operation).await;
            };
            hosts.push(host.clone());
        }
        match hosts.as_slice() {
            [] => nothing_to_take(round, operation).await,
            [host] => to_be_told(round, operation, host).await,
            _ => {
                let why = "the volumes are on several hosts, which have no moment in common";
                give_up(driver, operation, why.into()).await
            }
        }
    }

    async fn tell(round: &SnapshotRound, operation: &Model, host: &HostId) -> Result<()> {
        // As they are now, with what they are taken over.
        let rows = snapshots::load(round.driver.store.read(), &all_of(operation)?).await?;
        let sources: Vec<SnapshotSource> = rows
            .iter()
            .filter(|row| is_pending(row))
            .filter_map(|row| match round.content(row) {
                Content::On { root_of, .. } => Some(SnapshotSource {
                    root_of: root_of.map(InstanceId::from_db),
                    ..of_volume(round, row)
                }),
                Content::Shared => Some(of_volume(round, row)),
                Content::Plain(manifest) => Some(SnapshotSource {
                    of: Some(manifest),
                    ..source(row)
                }),
                _ => None,
            })
            .collect();
        if sources.is_empty() {
            return Ok(());
        }
        let action = Action::TakeSnapshots(sources);
        if hand_over(&round.driver, operation, host, action, round.now).await? {
            crash_point!(Self::NAME, "sent");
        }
        Ok(())
    }

    async fn heard(driver: &Driver, operation: Model, heard: Heard) -> Result<()> {
        let Heard::Snapshots(host, outcome) = heard else {
            return Ok(());
        };
        match outcome.failure {
            None => taken(driver, operation, outcome).await,
            Some(failure) => failed(driver, operation, &host, failure, outcome.permanent).await,
        }
    }

    async fn lock(txn: &DatabaseTransaction, operation: &Model) -> Result<()> {
        let ids = all_of(operation)?;
        // Images and volumes come before snapshots (`store::lock`).
        images::lock_waiting(txn, &ids).await?;
        volume_copies::lock_waiting(txn, &ids).await?;
        snapshots::lock(txn, &ids).await
    }

    async fn ended(txn: &DatabaseTransaction, operation: &Model, end: &End) -> Result<()> {
        let ids = all_of(operation)?;
        match &end.how {
            How::Done => settle(txn, &ids, None, end.now).await,
            How::Failed(failure) => settle(txn, &ids, Some(&failure.message), end.now).await,
            How::Superseded => Ok(()),
        }
    }
}

/// A host is told that much of every snapshot.
fn source(row: &snapshot::Model) -> SnapshotSource {
    SnapshotSource {
        snapshot: row.id.0,
        volume: row.volume.0,
        root_of: None,
        store: VolumeStore::Local,
        base: None,
        encrypted: row.encrypted.0,
        of: None,
    }
}

/// And that of what is taken of a volume.
fn of_volume(round: &SnapshotRound, row: &snapshot::Model) -> SnapshotSource {
    SnapshotSource {
        store: round.volume(row).map_or(VolumeStore::Local, volume::Model::store),
        base: row.base.clone(),
        ..source(row)
    }
}

/// It is looked again.
async fn later(round: &SnapshotRound, operation: &Model) -> Result<Next> {
    let (attempts, next) = (operation.attempts.0, round.now.after(AGAIN));
    let later = journal::go_on(&round.driver.store, operation, &COMMAND, attempts, next);
    later.await.map(|_| Next::Wait)
}

async fn give_up(driver: &Driver, operation: &Model, why: String) -> Result<Next> {
    tracing::warn!(snapshot = operation.subject().1, why, "a snapshot can't be taken");
    let end = journal::end::<CreateSnapshot>(driver, operation.clone(), How::Failed(internal(why)));
    end.await.map(|_| Next::Wait)
}

/// No host has anything of the volumes.
async fn nothing_to_take(round: &SnapshotRound, operation: &Model) -> Result<Next> {
    let rows = round.of(operation)?;
    let theirs: Vec<TakenSnapshot> = rows.iter().filter_map(|row| of_source(round, row)).collect();
    keep(&round.driver, theirs).await?;
    let end = journal::end::<CreateSnapshot>(&round.driver, operation.clone(), How::Done);
    end.await.map(|_| Next::Wait)
}

/// What a volume is to be made of is what a snapshot of it is.
fn of_source(round: &SnapshotRound, row: &snapshot::Model) -> Option<TakenSnapshot> {
    if !is_pending(row) || round.content(row) != Content::Unmade {
        return None;
    }
    let source = round
        .source(row)
        .filter(|source| source.encrypted == row.encrypted)?;
    Some(TakenSnapshot {
        id: row.id.0,
        manifest: source.manifest.clone()?,
        fresh_bytes: 0,
        bytes: source.bytes.map_or(0, |Amount(bytes)| bytes),
    })
}

async fn keep(driver: &Driver, theirs: Vec<TakenSnapshot>) -> Result<()> {
    if theirs.is_empty() {
        return Ok(());
    }
    let write = driver.store.write(move |txn| {
        Box::pin(async move {
            for each in &theirs {
                snapshots::taken(txn, each).await?;
            }
            Ok(())
        })
    });
    write.await
}

/// The host is to be told what is taken over what.
async fn to_be_told(round: &SnapshotRound, operation: &Model, host: &str) -> Result<Next> {
    let untold = |row: &&snapshot::Model| is_pending(row) && row.host.as_deref() != Some(host);
    let (mut on_host, mut plain) = (Vec::new(), Vec::new());
    for row in round.of(operation)?.into_iter().filter(untold) {
        match round.content(row) {
            Content::On { .. } | Content::Shared => on_host.push((row.clone(), round.made_of(row))),
            Content::Plain(_) => plain.push(row.clone()),
            _ => {}
        }
    }
    let hollow: Vec<_> = round
        .of(operation)?
        .iter()
        .filter_map(|row| of_source(round, row))
        .collect();
    let shared = shared_volumes(round, operation)?;
    let (row, name, next) = (operation.clone(), host.to_owned(), round.now.after(RESEND));
    let write = round.driver.store.write(move |txn| {
        Box::pin(async move {
            // Volumes come before snapshots, and in their order (`store::lock`).
            for volume in &shared {
                attachments::lock(txn, volume.id.to_db()).await?;
            }
            snapshots::lock(txn, &all_of(&row)?).await?;
            if !journal::proceed(txn, &row, &COMMAND, row.attempts.0, next).await? {
                return Ok(false);
            }
            for volume in &shared {
                let now = attachments::find(txn, volume.id.to_db()).await?;
                if now.is_none_or(|now| now.host != volume.host || now.generation != volume.generation) {
                    return Ok(false); // a guest of another host may have it by now
                }
                if volume.host.as_deref() != Some(name.as_str()) {
                    attachments::hand_over(txn, volume, &name).await?;
                }
            }
            for each in &hollow {
                snapshots::taken(txn, each).await?;
            }
            for (row, made_of) in &on_host {
                snapshots::told(txn, row, *made_of, &name).await?;
            }
            for row in &plain {
                snapshots::told_to_encrypt(txn, row, &name).await?;
            }
            Ok(true)
        })
    });
    if !write.await? {
        return Ok(Next::Wait);
    }
    crash_point!(CreateSnapshot::NAME, "waiting");
    Ok(Next::Tell(HostId(host.into())))
}

/// The volumes in a store that hosts share of which snapshots are to be taken, in their order: the host that takes them
/// keeps them from then on.
fn shared_volumes(round: &SnapshotRound, operation: &Model) -> Result<Vec<volume::Model>> {
    let rows = round.of(operation)?;
    let there = |row: &&snapshot::Model| {
        is_pending(row) && matches!(round.content(row), Content::Shared | Content::On { .. })
    };
    let volumes = rows.into_iter().filter(there).filter_map(|row| round.volume(row));
    let mut volumes: Vec<_> = volumes.filter(|volume| volume.is_shared()).cloned().collect();
    volumes.sort_unstable_by_key(|volume| volume.id.to_db());
    volumes.dedup_by_key(|volume| volume.id.to_db());
    Ok(volumes)
}

/// What was taken is kept first: a conductor that dies before the end finds it.
async fn taken(driver: &Driver, operation: Model, outcome: SnapshotOutcome) -> Result<()> {
    let all = all_of(&operation)?;
    let theirs = outcome
        .taken
        .into_iter()
        .filter(|each| all.contains(&each.id.to_db()));
    keep(driver, theirs.collect()).await?;
    let rows = snapshots::load(driver.store.read(), &all).await?;
    let missing = rows
        .iter()
        .any(|row| is_pending(row) && row.host.is_some() && row.manifest.is_none());
    if missing {
        tracing::warn!(
            snapshot = operation.subject().1,
            "a host has not taken all snapshots"
        );
        return Ok(());
    }
    journal::end::<CreateSnapshot>(driver, operation, How::Done)
        .await
        .map(drop)
}

async fn failed(
    driver: &Driver,
    operation: Model,
    host: &HostId,
    failure: String,
    is_permanent: bool,
) -> Result<()> {
    let attempts = operation.attempts.0 + 1;
    tracing::warn!(
        snapshot = operation.subject().1,
        attempts,
        failure,
        "a snapshot could not be taken"
    );
    if is_permanent || attempts >= ATTEMPTS {
        let how = How::Failed(on_host(host, failure));
        return journal::end::<CreateSnapshot>(driver, operation, how)
            .await
            .map(drop);
    }
    // What it was taken over may be what is wrong.
    let (ids, next) = (all_of(&operation)?, driver.clock.now().after(backoff(attempts)));
    let write = driver.store.write(move |txn| {
        Box::pin(async move {
            snapshots::lock(txn, &ids).await?;
            if journal::proceed(txn, &operation, &COMMAND, attempts, next).await? {
                snapshots::untold(txn, &ids).await?;
            }
            Ok(())
        })
    });
    write.await
}
