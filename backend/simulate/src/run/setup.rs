//! The cloud of a run: database, accounts, roles, hosts.

use std::sync::Arc;

use cumulet_backend::{
    api::{self, CloudConfig, Parts, Quotas, SharedRng, accounts, images},
    bootstrap::{FirstPlan, FirstStart, bootstrap},
    conductor::{Conductor, Driver, Duties, Settings, Wake},
    retention::{Retention, RetentionPeriod},
    store::{Store, Template, connect_inline},
};
use cumulet_bus::Bus;
use cumulet_certs::{MasterKey, Sealer};
use cumulet_domain::{
    Result,
    account::{AccountId, Principal, Role},
    id::{HostId, ImageId},
    image::{Architecture, BootMode, DiskFormat},
    message::HostResources,
    volume::VolumeStore,
};

use crate::{
    bus::ChaosBus,
    client::{Client, Ledger},
    database::Database,
    host::{
        Host,
        pool::{self, Pool},
    },
    options::Options,
    roles::{self, Api, ConductorRole},
    world::World,
};

pub(crate) const ZONE: &str = "us-east-1a";
const REGION: &str = "us-east-1";

/// Instances of an account at the most: its default subnet has about 4,000 addresses, and the rules of a VPC
/// go to each of its hosts.
const SHARE: usize = 100;

/// A cloud.
pub(crate) struct Cloud {
    pub(crate) store: Store,
    pub(crate) bus: Arc<ChaosBus>,
    pub(crate) hosts: Vec<Arc<Host>>,
    pub(crate) api: Arc<Api>,
    pub(crate) conductors: Vec<Arc<ConductorRole>>,
    pub(crate) ledger: Arc<Ledger>,
    accounts: Vec<AccountId>,
    image: ImageId,
}

/// Sets a cloud up and starts its roles and hosts.
pub(super) async fn build(
    options: &Options,
    world: &Arc<World>,
    template: &Template,
    bus: Arc<dyn Bus>,
) -> Result<Cloud> {
    let processes = processes(world);
    build_with(options, world, template, bus, (&processes, store_of(options))).await
}

/// Where the volumes of a run are: of a quarter of the seeds in a store that hosts share. (None of them is one that once
/// went wrong with files, and what is broken on purpose is broken of files.)
fn store_of(options: &Options) -> VolumeStore {
    match options.sabotage.is_none() && matches!(options.seed % 8, 0 | 3) {
        true => VolumeStore::Rbd,
        false => VolumeStore::Local,
    }
}

/// The same, with these processes of the conductor, and volumes in this store.
pub(crate) async fn build_with(
    options: &Options,
    world: &Arc<World>,
    template: &Template,
    bus: Arc<dyn Bus>,
    (processes, volumes): (&[Duties], VolumeStore),
) -> Result<Cloud> {
    let database = Database::new(world.clone(), options.hosts);
    let store = connect_inline(template, database.clone()).await?;
    database.watch(store.read()).await?;
    let bus = ChaosBus::new(bus, world.clone());
    let rng = SharedRng::seeded(options.seed);
    let sealer = Arc::new(Sealer::new(MasterKey::from_bytes([7; 32])));
    let clock = Arc::new(world.clock.clone());
    let parts = Parts::new(store.clone(), clock, rng, sealer);
    let zones = vec![ZONE.to_owned()];
    let plan = FirstPlan {
        availability_zones: zones.clone(),
        public_pool: "198.18.0.0/15".parse()?,
    };
    let first = bootstrap(&parts, &plan).await?;
    let mut accounts = vec![first.account];
    for number in 1..account_count(options) {
        let row = accounts::create_account(&parts, &format!("account-{number}"), &zones).await?;
        accounts.push(row.id.0);
    }
    let image = images::add(&parts, image(first.account)).await?.id();
    let (api, conductors) = start_roles(world, &parts, &bus, &first, (processes, volumes));
    let shared = (!volumes.is_local()).then(Pool::default);
    let hosts = start_hosts(options, world, &bus, shared.as_ref())?;
    if shared.is_some() {
        tokio::spawn(pool::watch(world.clone(), hosts.clone()));
    }
    Ok(Cloud {
        hosts,
        store,
        bus,
        api,
        conductors,
        ledger: Arc::default(),
        accounts,
        image,
    })
}

fn account_count(options: &Options) -> usize {
    options.instances.div_ceil(SHARE).max(2)
}

fn start_roles(
    world: &Arc<World>,
    parts: &Parts,
    bus: &Arc<ChaosBus>,
    first: &FirstStart,
    (processes, volumes): (&[Duties], VolumeStore),
) -> (Arc<Api>, Vec<Arc<ConductorRole>>) {
    let wake = Wake::new();
    let config = CloudConfig {
        region: REGION.into(),
        availability_zones: vec![ZONE.into()],
        public_pool: first.public_pool,
        cloud_id: first.cloud_id.clone(),
        endpoint: "simulated:8773".into(),
        hypervisor: "fake".into(),
        retention: retention(),
        public_addresses: 0,
        quotas: Quotas::default(),
        modification_cooldown: std::time::Duration::ZERO,
        volume_store: volumes,
    };
    let settings = Settings {
        region: REGION.into(),
        owner: "conductor".into(),
        cpu_allocation_ratio: 1.0,
        ram_allocation_ratio: 1.0,
        disk_allocation_ratio: 1.0,
        retention: retention(),
        hosts_are_here: false,
    };
    let api = {
        let (parts, wake, bus) = (parts.clone(), wake.clone(), bus.clone());
        Api::new(world.clone(), move || {
            // Nothing that it had looked up is left of an earlier life.
            let (store, clock) = (parts.store.clone(), parts.clock.clone());
            let parts = Parts::new(store, clock, parts.rng.clone(), parts.sealer.clone());
            api::Cloud::new(parts, wake.clone(), bus.clone(), config.clone())
        })
    };
    let mut conductors = Vec::new();
    for (number, duties) in processes.iter().enumerate() {
        let (parts, bus, wake) = (parts.clone(), bus.clone(), wake.clone());
        let settings = Settings {
            owner: format!("conductor-{number}"),
            ..settings.clone()
        };
        let conductor = ConductorRole::new(world.clone(), *duties, move || {
            let (store, sealer, clock) = (parts.store.clone(), parts.sealer.clone(), parts.clock.clone());
            let driver = Driver::new(store, sealer, bus.clone(), clock, wake.clone(), settings.clone());
            Conductor::new(driver.with_rng(parts.rng.clone()))
        });
        tokio::spawn(conductor.clone().run());
        conductors.push(conductor);
    }
    roles::kill_at_points(world, &api, &conductors);
    (api, conductors)
}

/// The conductor's processes: one, or several of the same or with different duties.
fn processes(world: &World) -> Vec<Duties> {
    let part = |place| Duties { place, drive: !place };
    if world.quiet() {
        return vec![Duties::ALL];
    }
    match world.dice.number(0..4) {
        0 => vec![Duties::ALL, Duties::ALL],
        1 => vec![part(true), part(false)],
        2 => vec![part(true), part(true), part(false), part(false)],
        _ => vec![Duties::ALL],
    }
}

/// Rows of what has ended are looked at when the run is over.
fn retention() -> Retention {
    let day = RetentionPeriod::seconds(24 * 3600);
    Retention {
        terminated_instances: day,
        client_tokens: day,
        operations: day,
        audit_log: day,
        audit_log_bytes: 0,
    }
}

/// Where things go wrong, one of several may not reach the pool.
fn start_hosts(
    options: &Options,
    world: &Arc<World>,
    bus: &Arc<ChaosBus>,
    pool: Option<&Pool>,
) -> Result<Vec<Arc<Host>>> {
    let share = options.instances.div_ceil(options.hosts.max(1)) as u64;
    let hosts = (0..options.hosts)
        .map(|number| {
            // A quarter more than is needed, or, where things go wrong, about as much.
            let fits = if world.quiet() {
                share + share.div_ceil(4)
            } else {
                (share + world.dice.number(0..share + 2)).saturating_sub(share / 4)
            };
            let resources = HostResources {
                vcpus: u32::try_from(fits * 2).unwrap_or(u32::MAX),
                memory_mib: fits * 512,
                // Those that are stopped keep theirs.
                disk_gib: fits * 3,
            };
            let id = HostId(format!("host-{number:05}"));
            let is_odd_one = number > 1 && number + 1 == options.hosts && options.seed.is_multiple_of(2);
            let pool = pool.filter(|_| world.quiet() || !is_odd_one).cloned();
            Host::new(world, bus.clone(), id, ZONE.into(), resources, pool)
        })
        .collect::<Result<Vec<_>>>()?;
    for host in &hosts {
        spells(world, host);
        tokio::spawn(host.clone().run());
    }
    Ok(hosts)
}

fn principal(account: AccountId) -> Principal {
    Principal {
        account,
        user_id: "AIDASIMULATED".into(),
        user_name: "admin".into(),
        access_key_id: "AKIASIMULATED".into(),
        role: Role::Administrator,
    }
}

/// How long a hypervisor is quick between two slow spells, and how long it is slow, in milliseconds: with the calls that
/// were begun in a spell, less than any operation may take.
const QUICK: std::ops::Range<u64> = 30_000..120_000;
const SLOW: std::ops::Range<u64> = 5_000..120_000;

/// Makes a host's hypervisor slow for a while, again and again, if it is one of those that are: perhaps from the start.
fn spells(world: &Arc<World>, host: &Arc<Host>) {
    let planned = world.planned();
    if !world.dice.chance(planned.slow_hosts) {
        return;
    }
    let at_start = world.dice.chance(planned.slow_at_start);
    host.slow(at_start);
    let (world, host) = (world.clone(), host.clone());
    tokio::spawn(async move {
        let mut slow = at_start;
        loop {
            world.pause(if slow { SLOW } else { QUICK }).await;
            slow = !slow && world.rages();
            host.slow(slow);
        }
    });
}

fn image(account: AccountId) -> images::NewImage {
    images::NewImage {
        account,
        name: "simulated".into(),
        description: String::new(),
        public: true,
        architecture: Architecture::X86_64,
        format: DiskFormat::Qcow2,
        sha256: "ab".repeat(32),
        size_bytes: 1 << 20,
        virtual_bytes: 1 << 30,
        root_device: "/dev/xvda".into(),
        boot_mode: BootMode::LegacyBios,
    }
}

impl Cloud {
    /// The administrator of the first account.
    pub(crate) fn principal(&self) -> Principal {
        principal(self.accounts.first().copied().unwrap_or(AccountId::from_db(0)))
    }

    /// What instances are launched from.
    pub(crate) fn image(&self) -> ImageId {
        self.image
    }

    /// One of each account.
    pub(super) fn clients(&self, options: &Options, world: &Arc<World>) -> Vec<Client> {
        let each = self.accounts.iter().enumerate().map(|(number, account)| {
            let who = principal(*account);
            let parts = (world.clone(), self.api.clone(), self.ledger.clone());
            let public = options.instances <= 1000 && number % 2 == 0;
            Client::new(parts.0, parts.1, parts.2, (who, self.image), number, public)
        });
        each.collect()
    }

    /// Everything that was taken away is there again.
    pub(crate) fn heal(&self) {
        for host in &self.hosts {
            self.bus.cut(&host.id, false);
            host.freeze(false);
            host.power(true);
            host.slow(false);
        }
        self.replan();
    }

    /// Hosts do from now on what goes wrong now.
    pub(crate) fn replan(&self) {
        self.hosts.iter().for_each(|host| host.replan());
    }
}
