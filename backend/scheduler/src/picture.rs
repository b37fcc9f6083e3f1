//! The cached fleet, as read from the database: a decision for each of many launches must not read all hosts
//! each time. It may be out of date, since others claim too: a claim that fails corrects it, and a refusal
//! stands only by a fleet that was read for it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use cumulet_domain::{
    Result,
    id::{HostId, marker::Aggregate},
    rng::SharedRng,
    time::Timestamp,
};
use rand::RngExt as _;
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, FromQueryResult, QueryFilter, QuerySelect, QueryTrait,
};

use super::{
    Fleet, HostInfo, HostState, Profile, Refusal, Request, Settings, fitting, fleet::Pairs, pick, room,
    settings,
};
use cumulet_store::{
    entity::{
        aggregate_host, aggregate_metadata, columns::Key, host, instance, instance_type_spec, operation,
    },
    failed, rows,
};

/// How old the picture may be.
const AGE: Duration = Duration::from_secs(1);

/// The configured scheduler with its picture of the hosts. Cheap to clone; clones share the picture.
#[derive(Clone, Debug)]
pub struct Scheduler(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: Settings,
    rng: SharedRng,
    picture: Mutex<Picture>,
    placing: OnceLock<Vec<&'static str>>,
}

#[derive(Debug, Default)]
struct Picture {
    fleet: Fleet,
    read_at: Option<Timestamp>,
}

impl Default for Scheduler {
    fn default() -> Self {
        Scheduler::new(Settings::default(), SharedRng::seeded(0))
    }
}

impl Scheduler {
    /// A scheduler that has seen no host yet.
    pub fn new(settings: Settings, rng: SharedRng) -> Self {
        let picture = Mutex::default();
        Scheduler(Arc::new(Inner {
            settings,
            rng,
            picture,
            placing: OnceLock::new(),
        }))
    }

    /// Says by which operations an instance comes to its host: as long as one is under way, it counts as I/O of the
    /// host (Nova's `io_ops`). What is said first holds.
    pub fn placed_by(&self, operations: Vec<&'static str>) {
        self.0.placing.get_or_init(|| operations);
    }

    /// What is configured.
    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    fn picture(&self) -> MutexGuard<'_, Picture> {
        self.0.picture.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the hosts again if the picture is not of late.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn look(&self, conn: &impl ConnectionTrait, now: Timestamp) -> Result<()> {
        let of_late = |at: Timestamp| at <= now && now.since(at) < AGE;
        if self.picture().read_at.is_some_and(of_late) {
            return Ok(());
        }
        self.read(conn, now).await
    }

    /// Reads the hosts now.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn read(&self, conn: &impl ConnectionTrait, now: Timestamp) -> Result<()> {
        let placing = self.0.placing.get().map_or(&[][..], Vec::as_slice);
        let fleet = read(conn, &self.0.settings, placing).await?;
        *self.picture() = Picture {
            fleet,
            read_at: Some(now),
        };
        Ok(())
    }

    /// Corrects what is known of one host.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn correct(&self, conn: &impl ConnectionTrait, id: &HostId) -> Result<()> {
        let row = rows::one(host::Entity::find_by_id(id.0.as_str()), conn).await?;
        let mut picture = self.picture();
        let at = picture.fleet.at(id);
        let known = at.and_then(|at| picture.fleet.hosts().get(at as usize)).copied();
        match (row, known) {
            (Some(row), Some(known)) => {
                let mut info = info(row, &self.0.settings, &mut Told::default());
                let profile = picture.fleet.profiles().get(known.profile as usize);
                info.profile.aggregates = profile.map(|p| p.aggregates.clone()).unwrap_or_default();
                info.state.io_ops = known.io_ops;
                picture.fleet.put(info);
            }
            _ => picture.fleet.forget(id),
        }
        Ok(())
    }

    /// Works with the fleet as it is known.
    pub fn with<T>(&self, work: impl FnOnce(&mut Fleet) -> T) -> T {
        work(&mut self.picture().fleet)
    }

    /// Chooses a host of the fleet: only `home`, where there is one.
    ///
    /// # Errors
    /// The [`Refusal`] that says what stood in the way.
    pub fn choose(&self, fleet: &Fleet, request: &Request, home: Option<&HostId>) -> Result<u32, Refusal> {
        let Some(home) = home else {
            let below = |n: usize| self.0.rng.with(|rng| rng.random_range(0..n));
            return pick(fleet, request, &self.0.settings, below);
        };
        let at = fleet.at(home).ok_or_else(Refusal::default)?;
        fitting(fleet, request, &self.0.settings, Some(at)).map(|_| at)
    }

    /// How many instances such as this fit, at most `wanted`; or why none does.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn could_fit(
        &self,
        conn: &impl ConnectionTrait,
        now: Timestamp,
        wanted: u64,
        request: impl Fn(&Fleet) -> Request,
    ) -> Result<Result<u64, Refusal>> {
        let count = || {
            self.with(|fleet| {
                let request = request(fleet).at(now);
                fitting(fleet, &request, &self.0.settings, None)
                    .map(|hosts| room(fleet, &request, &hosts, wanted))
            })
        };
        self.look(conn, now).await?;
        match count() {
            Ok(fitting) if fitting >= wanted => Ok(Ok(fitting)),
            _ => {
                self.read(conn, now).await?;
                let counted = count();
                if let Err(refusal) = &counted {
                    tracing::info!(filters = refusal.filters(), "no host could take an instance");
                }
                Ok(counted)
            }
        }
    }
}

async fn read(conn: &impl ConnectionTrait, settings: &Settings, placing: &[&str]) -> Result<Fleet> {
    let rows = rows::sound::<_, host::Model>(host::Entity::find(), conn)
        .await?
        .rows;
    let (mut aggregates, arrivals) = (aggregates(conn).await?, arrivals(conn, placing).await?);
    let mut told = Told::default();
    let hosts = rows.into_iter().map(|row| {
        let mut host = info(row, settings, &mut told);
        host.profile.aggregates = aggregates.remove(&host.id).unwrap_or_default();
        host.state.io_ops = arrivals.get(&host.id).copied().unwrap_or(0);
        host
    });
    let mut fleet = Fleet::new(hosts.collect());
    fleet.set_types(types(conn).await?);
    Ok(fleet)
}

/// What hosts tell of themselves. Many tell the same, so each text is read once.
#[derive(Default)]
struct Told(HashMap<String, Arc<Pairs>>);

impl Told {
    fn pairs(&mut self, json: Option<String>) -> Arc<Pairs> {
        let Some(json) = json else {
            return Arc::default();
        };
        if let Some(known) = self.0.get(&json) {
            return known.clone();
        }
        let pairs = Arc::new(settings::pairs(Some(&json)));
        self.0.insert(json, pairs.clone());
        pairs
    }
}

fn info(row: host::Model, settings: &Settings, told_before: &mut Told) -> HostInfo {
    let told: BTreeMap<String, i64> = if settings.metrics_weight_setting.is_empty() {
        BTreeMap::new()
    } else {
        let json = row.metrics.as_deref();
        json.and_then(|json| serde_json::from_str(json).ok())
            .unwrap_or_default()
    };
    HostInfo {
        state: HostState {
            enabled: row.enabled.0,
            // Filled in with the reason.
            not_ready: false,
            reaches_pool: row.rbd.is_some(),
            profile: 0,
            last_seen: row.last_seen,
            free_vcpus: row.vcpus_max.to_db() - row.vcpus_used,
            free_memory_mib: row.memory_mib_max.to_db() - row.memory_mib_used,
            free_disk_gib: row.disk_gib_max.to_db() - row.disk_gib_used,
            io_ops: 0,
            metrics: settings.metrics(&told),
        },
        profile: Profile {
            availability_zone: row.availability_zone,
            architecture: row.architecture,
            hypervisor: row.hypervisor,
            capabilities: told_before.pairs(row.capabilities),
            aggregates: Vec::new(),
        },
        not_ready: row.not_ready_reason,
        id: row.id,
    }
}

/// An aggregate that a host is in, with its metadata.
type Member = (Key<Aggregate>, Arc<Pairs>);

/// The metadata of the aggregates that each host is in, in the order of their ids.
async fn aggregates(conn: &impl ConnectionTrait) -> Result<HashMap<String, Vec<Arc<Pairs>>>> {
    let members = rows::all(aggregate_host::Entity::find(), conn).await?;
    if members.is_empty() {
        return Ok(HashMap::new());
    }
    let mut metadata: BTreeMap<Key<Aggregate>, Pairs> = BTreeMap::new();
    let rows = rows::all(aggregate_metadata::Entity::find(), conn).await?;
    for row in rows {
        metadata
            .entry(row.aggregate)
            .or_default()
            .insert(row.key, row.value);
    }
    let metadata: BTreeMap<Key<Aggregate>, Arc<Pairs>> = metadata
        .into_iter()
        .map(|(id, pairs)| (id, pairs.into()))
        .collect();
    let mut of: HashMap<String, Vec<Member>> = HashMap::new();
    for row in members {
        if let Some(pairs) = metadata.get(&row.aggregate) {
            of.entry(row.host)
                .or_default()
                .push((row.aggregate, pairs.clone()));
        }
    }
    let sorted = |mut all: Vec<Member>| {
        all.sort_by_key(|(id, _)| *id);
        all.into_iter().map(|(_, pairs)| pairs).collect()
    };
    Ok(of.into_iter().map(|(host, all)| (host, sorted(all))).collect())
}

#[derive(FromQueryResult)]
struct Arrivals {
    host: Option<String>,
    count: i64,
}

/// How many instances are on their way to each host: derived from the journal, not counted twice.
async fn arrivals(conn: &impl ConnectionTrait, placing: &[&str]) -> Result<HashMap<String, i64>> {
    if placing.is_empty() {
        return Ok(HashMap::new());
    }
    let under_way = operation::Entity::find()
        .select_only()
        .column(operation::Column::Instance)
        .filter(operation::Column::ActiveInstance.is_not_null())
        .filter(operation::Column::Kind.is_in(placing.iter().copied()))
        .into_query();
    let rows = instance::Entity::find()
        .select_only()
        .column(instance::Column::Host)
        .column_as(instance::Column::Id.count(), "count")
        .filter(instance::Column::Id.in_subquery(under_way))
        .filter(instance::Column::Host.is_not_null())
        .group_by(instance::Column::Host);
    let rows = rows.into_model::<Arrivals>().all(conn).await.map_err(failed)?;
    Ok(rows
        .into_iter()
        .filter_map(|row| Some((row.host?, row.count)))
        .collect())
}

async fn types(conn: &impl ConnectionTrait) -> Result<HashMap<String, Arc<Pairs>>> {
    let mut types: HashMap<String, Pairs> = HashMap::new();
    let rows = rows::all(instance_type_spec::Entity::find(), conn).await?;
    for row in rows {
        types
            .entry(row.instance_type)
            .or_default()
            .insert(row.key, row.value);
    }
    Ok(types
        .into_iter()
        .map(|(name, pairs)| (name, pairs.into()))
        .collect())
}
