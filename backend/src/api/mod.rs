//! The API under every door: validate, authorise, one transaction, wake the conductor. It has no protocol of
//! any door; errors are the domain's.

pub mod accounts;
pub mod audit_log;
pub mod consoles;
pub mod hosts;
pub mod images;
pub mod instance_types;
pub mod instances;
pub mod key_pairs;
pub mod network_interfaces;
pub mod placement_groups;
mod presence;
pub mod quotas;
pub mod regions;
pub mod security_groups;
pub mod services;
pub mod tags;
mod token;
pub mod volumes;
pub mod vpcs;

use std::{fmt, sync::Arc};

use cumulet_bus::Bus;
use cumulet_certs::Sealer;
use cumulet_domain::{
    Result,
    account::Principal,
    network::Cidr,
    time::{Clock, Timestamp},
};

use crate::{
    authority::{Authoriser, Grant, Permission, Roles},
    conductor::Wake,
    retention::Retention,
    scheduler::Scheduler,
    store::{Store, networks},
};

pub use cumulet_domain::rng::SharedRng;
pub use key_pairs::KeyForge;
pub use presence::Presence;
pub use token::ClientToken;

pub use crate::store::{
    Spent,
    page::{Page, PageRequest},
};

/// The parts that need neither a bus nor a conductor: enough for the first start and for the operator's
/// commands. Cheap to clone.
#[derive(Clone)]
pub struct Parts {
    /// The database.
    pub store: Store,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub rng: SharedRng,
    /// Seals secrets at rest.
    pub sealer: Arc<Sealer>,
    /// Credentials that were looked up lately.
    pub credentials: accounts::CredentialCache,
}

impl Parts {
    /// Parts with an empty cache.
    pub fn new(store: Store, clock: Arc<dyn Clock>, rng: SharedRng, sealer: Arc<Sealer>) -> Self {
        Parts {
            store,
            clock,
            rng,
            sealer,
            credentials: accounts::CredentialCache::default(),
        }
    }
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").finish_non_exhaustive()
    }
}

/// What is configured, or was fixed by the first start.
#[derive(Clone, Debug)]
pub struct CloudConfig {
    /// For instance `us-east-1`.
    pub region: String,
    /// For instance `us-east-1a`; at least one.
    pub availability_zones: Vec<String>,
    /// Where public addresses come from.
    pub public_pool: Cidr,
    /// Names this cloud on hosts that several clouds share.
    pub cloud_id: String,
    /// Where clients find the API, as a host and a port: what DescribeRegions answers.
    pub endpoint: String,
    /// The hypervisor's driver: `fake`, `qemu` or `kvm`.
    pub hypervisor: String,
    /// How long what has ended is kept.
    pub retention: Retention,
    /// Public addresses that one account's instances have at the most; 0: half of the pool.
    pub public_addresses: u64,
}

impl CloudConfig {
    /// Public addresses that one account's instances have at the most.
    pub fn public_address_quota(&self) -> u64 {
        match self.public_addresses {
            0 => networks::usable_public(self.public_pool).div_ceil(2),
            most => most,
        }
    }
}

/// Everything that an API function needs. Cheap to clone.
#[derive(Clone)]
pub struct Cloud {
    /// The database.
    pub store: Store,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub rng: SharedRng,
    /// Wakes the conductor after a commit.
    pub wake: Wake,
    /// For reads that only a host can answer.
    pub bus: Arc<dyn Bus>,
    /// Seals secrets at rest.
    pub sealer: Arc<Sealer>,
    /// What is configured.
    pub config: Arc<CloudConfig>,
    /// Credentials that were looked up lately.
    pub credentials: accounts::CredentialCache,
    /// Instances that were looked up lately.
    pub instances: instances::InstanceCache,
    /// Says whether a launch could be placed.
    pub scheduler: Scheduler,
    /// Says what principals may do.
    authoriser: Arc<dyn Authoriser>,
    /// What this process keeps between calls.
    kept: Arc<Kept>,
    /// Whether whom this handle is for still waits.
    presence: Presence,
    /// The audit log's entry of the call that this handle is for.
    note: Option<Arc<audit_log::Note>>,
}

/// What a process keeps between calls, all clones of a cloud together.
#[derive(Debug, Default)]
struct Kept {
    /// Makes key pairs.
    keys: KeyForge,
    /// Refused calls that are counted.
    refusals: audit_log::Refusals,
    /// How many tags accounts have.
    tag_room: tags::TagRoom,
}

impl Cloud {
    /// A cloud over these parts.
    pub fn new(parts: Parts, wake: Wake, bus: Arc<dyn Bus>, config: CloudConfig) -> Self {
        Cloud {
            store: parts.store,
            clock: parts.clock,
            rng: parts.rng,
            wake,
            bus,
            sealer: parts.sealer,
            config: Arc::new(config),
            credentials: parts.credentials,
            instances: instances::InstanceCache::default(),
            scheduler: Scheduler::default(),
            authoriser: Arc::new(Roles),
            kept: Arc::default(),
            presence: Presence::default(),
            note: None,
        }
    }

    /// The same with a configured scheduler.
    #[must_use]
    pub fn with_scheduler(self, scheduler: Scheduler) -> Self {
        Cloud { scheduler, ..self }
    }

    /// The same under another authoriser.
    #[must_use]
    pub fn with_authoriser(self, authoriser: Arc<dyn Authoriser>) -> Self {
        Cloud { authoriser, ..self }
    }

    /// A handle for one call, whose changes take the call's entry in the audit log along.
    pub fn noting(&self, note: Arc<audit_log::Note>) -> Self {
        Cloud {
            store: self.store.with(note.clone()),
            note: Some(note),
            ..self.clone()
        }
    }

    /// A handle for a client who may go: what takes long is then not begun.
    #[must_use]
    pub fn for_client(self, presence: Presence) -> Self {
        Cloud { presence, ..self }
    }

    /// A handle that counts the time which its changes take.
    #[must_use]
    pub fn counting(self, spent: Spent) -> Self {
        let store = self.store.counting(spent);
        Cloud { store, ..self }
    }

    /// Whether whom this handle is for still waits.
    pub fn presence(&self) -> &Presence {
        &self.presence
    }

    /// For the audit log: an id that the call makes or changes without having named it.
    fn made(&self, id: &dyn ToString) {
        if let Some(note) = &self.note {
            note.made(id);
        }
    }

    /// The parts that the operator's functions take.
    pub fn parts(&self) -> Parts {
        Parts {
            store: self.store.clone(),
            clock: self.clock.clone(),
            rng: self.rng.clone(),
            sealer: self.sealer.clone(),
            credentials: self.credentials.clone(),
        }
    }

    /// The same cloud where every change is checked and carried out and then undone, and nobody is woken:
    /// what DryRun calls.
    pub fn rehearsal(&self) -> Self {
        Cloud {
            store: self.store.rehearsal(),
            wake: Wake::new(),
            ..self.clone()
        }
    }

    /// The time now.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The principal's permission for one call, with what it sees now. Every load takes it.
    ///
    /// # Errors
    /// `Unauthorized`, naming the permission.
    pub fn authorise(&self, who: &Principal, permission: Permission) -> Result<Grant> {
        let ended_after = self.config.retention.terminated_instances.horizon(self.now());
        Grant::ask(self.authoriser.as_ref(), who, permission, ended_after)
    }
}

impl fmt::Debug for Cloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cloud")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
