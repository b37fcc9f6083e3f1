//! The synchroniser of hosts' network policies and metadata snapshots with rows, between operations. Level
//! triggered: what a host has not confirmed is sent again.

use std::{collections::BTreeMap, time::Duration};

use cumulet_domain::{
    Error, Result,
    id::{HostId, InstanceId, VpcId, marker::Vpc},
    instance::State,
    message::Action,
    time::Timestamp,
};
use cumulet_operations::{
    RESEND, specs as host_specs,
    standing::{Standing, standing},
};
use cumulet_store::{
    column,
    entity::{
        columns::{Amount, Key},
        host_network, instance, metadata_push, vpc,
    },
    failed, first, instances, interfaces,
    rows::{self, Sound},
};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::Expr,
};
use tokio::time::Instant;

use crate::Conductor;

/// The longest that the synchroniser goes without looking.
const IDLE: Duration = Duration::from_secs(2);

/// Changes that come within this are sent together.
const GATHER: Duration = Duration::from_millis(20);

/// Instances whose snapshots are looked at together.
const SNAPSHOTS: u64 = if cfg!(test) { 4 } else { 200 };

/// How long a host may go without confirming anything newer before that is an alarm.
const ALARM: Duration = Duration::from_secs(30);

/// What was sent and not confirmed yet, by host and VPC.
type Sent = BTreeMap<(String, Key<Vpc>), Waiting>;

/// A policy that a host has not confirmed.
struct Waiting {
    generation: u64,
    sent: Instant,
    /// What it has confirmed last, and since when it has confirmed nothing newer.
    applied: Amount,
    since: Instant,
    alarmed: bool,
}

impl Waiting {
    /// Says, once, that a host enforces something old, for as long as that is so.
    fn watch(&mut self, pair: &host_network::Model) {
        if self.applied != pair.applied_generation {
            (self.applied, self.since, self.alarmed) = (pair.applied_generation, Instant::now(), false);
        }
        if !self.alarmed && self.since.elapsed() >= ALARM {
            self.alarmed = true;
            let (host, vpc) = (&pair.host, pair.vpc.0);
            tracing::error!(
                host,
                %vpc,
                wanted = self.generation,
                applied = self.applied.0,
                "ALARM: a host does not confirm a policy: a revoked rule may be open there"
            );
        }
    }
}

pub(crate) async fn run(conductor: Conductor) {
    let mut sent = Sent::new();
    let mut asked: BTreeMap<i64, (i64, Instant)> = BTreeMap::new();
    loop {
        let began = Instant::now();
        if let Err(error) = networks(&conductor, &mut sent).await {
            tracing::error!(%error, "network policies could not be sent");
        }
        if let Err(error) = snapshots(&conductor, &mut asked).await {
            tracing::error!(%error, "metadata could not be sent");
        }
        // A large policy takes time to build: at most a fifth of one core goes into that.
        tokio::time::sleep(GATHER.max(began.elapsed() * 4)).await;
        drop(tokio::time::timeout(IDLE, conductor.wake.sync()).await);
    }
}

#[derive(sea_orm::FromQueryResult)]
struct Generation {
    id: Key<Vpc>,
    policy_generation: Amount,
}

/// Sends each host the policies that it has not confirmed.
async fn networks(conductor: &Conductor, sent: &mut Sent) -> Result<()> {
    let conn = conductor.store.read();
    let pairs = rows::sound::<_, host_network::Model>(host_network::Entity::find(), conn).await?;
    let generations = vpc::Entity::find()
        .select_only()
        .columns([vpc::Column::Id, vpc::Column::PolicyGeneration]);
    let generations = rows::sound::<_, Generation>(generations, conn).await?.rows;
    let generations = generations.into_iter().map(|row| (row.id, row.policy_generation));
    let generations: BTreeMap<Key<Vpc>, Amount> = generations.collect();
    for pair in pairs.rows {
        let wanted = generations.get(&pair.vpc).copied().unwrap_or_default();
        let key = (pair.host.clone(), pair.vpc);
        if pair.applied_generation >= wanted {
            sent.remove(&key);
            continue;
        }
        if let Some(waiting) = sent.get_mut(&key) {
            waiting.watch(&pair);
            // What it was told with an instance counts too, but it confirms only what it is told here.
            let told =
                waiting.generation >= wanted.0 || conductor.told.lately(&pair.host, pair.vpc.0, wanted.0);
            if told && waiting.sent.elapsed() < RESEND {
                continue;
            }
        }
        let (host, now) = (HostId(pair.host), Instant::now());
        let waiting = sent.entry(key).or_insert(Waiting {
            generation: 0,
            sent: now,
            applied: pair.applied_generation,
            since: now,
            alarmed: false,
        });
        (waiting.generation, waiting.sent) = (wanted.0, now);
        match host_specs::policy(conn, &host, pair.vpc.to_db()).await {
            Ok(policy) => {
                waiting.generation = policy.generation;
                let (policy, at) = (Action::Network(policy.into()), conductor.clock.now());
                conductor.send(&host, policy, at).await;
            }
            // A damaged row is its VPC's affair: no other one's policy waits for it, and the alarm comes in its time.
            Err(error @ Error::Internal(_)) => {
                tracing::error!(%host, vpc = %pair.vpc, %error, "a policy can't be made");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A host enforces a policy. Where nothing of the VPC is left on it, the two have nothing to do with each
/// other any more.
pub(crate) async fn network_applied(
    conductor: &Conductor,
    host: HostId,
    vpc: VpcId,
    generation: u64,
) -> Result<()> {
    let generation = Amount(generation);
    conductor
        .store
        .write(move |txn| {
            Box::pin(async move {
                if is_done(txn, &host, vpc, generation.to_db()).await? {
                    let forget = host_network::Entity::delete_by_id((host.0, Key(vpc)));
                    return forget.exec(txn).await.map(drop).map_err(failed);
                }
                use host_network::Column as C;
                host_network::Entity::update_many()
                    .col_expr(C::AppliedGeneration, Expr::value(generation))
                    .filter(C::Host.eq(host.0.as_str()))
                    .filter(C::Vpc.eq(vpc.to_db()))
                    .filter(C::AppliedGeneration.lt(generation))
                    .exec(txn)
                    .await
                    .map(drop)
                    .map_err(failed)
            })
        })
        .await
}

/// Whether nothing of a VPC is left on a host, and the host knows. Then the VPC is locked, and it stays so.
async fn is_done(conn: &impl ConnectionTrait, host: &HostId, vpc: VpcId, generation: i64) -> Result<bool> {
    if interfaces::is_on(conn, &host.0, vpc).await? {
        return Ok(false);
    }
    // An instance that was placed since that look has raised the generation; one that is placed from now on
    // waits for this.
    let current: Option<i64> = first(
        vpc::Entity::find_by_id(Key(vpc))
            .select_only()
            .column(vpc::Column::PolicyGeneration)
            .lock_exclusive(),
        conn,
    )
    .await?;
    Ok(current.is_none_or(|current| current <= generation))
}

/// Sends the snapshots that hosts have not confirmed.
async fn snapshots(conductor: &Conductor, asked: &mut BTreeMap<i64, (i64, Instant)>) -> Result<()> {
    let (conn, now) = (conductor.store.read(), conductor.clock.now());
    asked.retain(|_, (_, at)| at.elapsed() < RESEND);
    let mut last = i64::MIN;
    loop {
        let waiting: Vec<i64> = column(
            metadata_push::Entity::find()
                .select_only()
                .column(metadata_push::Column::Instance)
                .filter(metadata_push::Column::Instance.gt(last))
                .order_by_asc(metadata_push::Column::Instance)
                .limit(SNAPSHOTS),
            conn,
        )
        .await?;
        // All of them, not the first ones alone: those of a host that does not answer hold up no other.
        let Some(end) = waiting.last().copied() else {
            return Ok(());
        };
        last = end;
        some_snapshots(conductor, asked, waiting, now).await?;
    }
}

async fn some_snapshots(
    conductor: &Conductor,
    asked: &mut BTreeMap<i64, (i64, Instant)>,
    mut waiting: Vec<i64>,
    now: Timestamp,
) -> Result<()> {
    let conn = conductor.store.read();
    let rows = instance::Entity::find().filter(instance::Column::Id.is_in(waiting.clone()));
    let Sound { rows, damaged } = rows::sound::<_, instance::Model>(rows, conn).await?;
    waiting.retain(|id| !damaged.contains(id));
    settle_absent(conductor, &waiting, &rows).await?;
    let due: Vec<&instance::Model> = rows
        .iter()
        .filter(|row| row.claimed.0 && row.host.is_some())
        .filter(|row| {
            asked.get(&row.id.to_db()).is_none_or(|(revision, at)| {
                *revision < row.metadata_revision.to_db() || at.elapsed() >= RESEND
            })
        })
        .collect();
    for snapshot in host_specs::snapshots(conn, &due, conductor).await? {
        let Some(row) = due.iter().find(|row| row.id.0 == snapshot.instance) else {
            continue;
        };
        asked.insert(row.id.to_db(), (row.metadata_revision.to_db(), Instant::now()));
        let host = HostId(row.host.clone().unwrap_or_default());
        conductor.send(&host, Action::Metadata(snapshot), now).await;
    }
    Ok(())
}

/// What no host runs needs no push: a start brings the newest snapshot along.
pub(crate) async fn settle_absent(
    conductor: &Conductor,
    waiting: &[i64],
    rows: &[instance::Model],
) -> Result<()> {
    let runs = |id: &i64| {
        rows.iter()
            .any(|row| row.id.to_db() == *id && (row.claimed.0 || row.state.0 == State::Pending))
    };
    let idle: Vec<i64> = waiting.iter().copied().filter(|id| !runs(id)).collect();
    if idle.is_empty() {
        return Ok(());
    }
    conductor
        .store
        .write(move |txn| {
            Box::pin(async move {
                // One may have been started since the look, and changed after that; none is from here on.
                instances::lock(txn, &idle).await?;
                let begun = instance::Entity::find()
                    .select_only()
                    .column(instance::Column::Id)
                    .filter(instance::Column::Id.is_in(idle.iter().copied()))
                    .filter(
                        Condition::any()
                            .add(instance::Column::Claimed.ne(0))
                            .add(instance::Column::State.eq(State::Pending.name())),
                    );
                let begun: Vec<i64> = column(begun, txn).await?;
                metadata_push::Entity::delete_many()
                    .filter(metadata_push::Column::Instance.is_in(idle))
                    .filter(metadata_push::Column::Instance.is_not_in(begun))
                    .exec(txn)
                    .await
                    .map_err(failed)
                    .map(drop)
            })
        })
        .await
}

/// A host serves a snapshot; if it is the newest, there is nothing left to send.
pub(crate) async fn metadata_applied(
    conductor: &Conductor,
    host: HostId,
    instance: InstanceId,
    revision: u64,
) -> Result<()> {
    conductor
        .store
        .write(move |txn| {
            Box::pin(async move {
                // Locked: a transaction that changes what it reads at this time asks for another push after this.
                let query = instance::Entity::find_by_id(Key(instance)).lock_exclusive();
                let row = rows::one(query, txn).await?;
                let served = match row {
                    Some(row) => {
                        standing(&row, &host)? == Standing::Here && row.metadata_revision.0 == revision
                    }
                    None => false,
                };
                if !served {
                    return Ok(());
                }
                metadata_push::Entity::delete_by_id(Key(instance))
                    .exec(txn)
                    .await
                    .map_err(failed)
                    .map(drop)
            })
        })
        .await
}

#[cfg(test)]
mod tests;
