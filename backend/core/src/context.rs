//! The request context (Nova's term): what a call is carried out with. Every function of a domain takes it; a domain
//! that keeps something between calls has a type of its own around it.

use std::{fmt, sync::Arc, time::Duration};

use cumulet_bus::Bus;
use cumulet_certs::Sealer;
use cumulet_domain::{
    Result,
    account::Principal,
    network::Cidr,
    rng::SharedRng,
    time::{Clock, Timestamp},
    volume::VolumeStore,
};
use cumulet_store::{
    Store,
    authority::{Authoriser, Grant, Permission, Roles},
    networks,
};

use crate::{
    Presence, Spent, Wake, audit_log::Note, quota::Quotas, refusals::Refusals, retention::Retention,
    tag_room::TagRoom,
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
}

impl Parts {
    /// These parts.
    pub fn new(store: Store, clock: Arc<dyn Clock>, rng: SharedRng, sealer: Arc<Sealer>) -> Self {
        Parts {
            store,
            clock,
            rng,
            sealer,
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
    /// What else an account may have.
    pub quotas: Quotas,
    /// How long a volume that was modified is not modified again.
    pub modification_cooldown: Duration,
    /// Where new volumes are.
    pub volume_store: VolumeStore,
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

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct RequestContext {
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
    /// Says what principals may do.
    authoriser: Arc<dyn Authoriser>,
    /// What this process counts, all its calls together.
    counted: Arc<Counted>,
    /// Whether whom this call is for still waits.
    presence: Presence,
    /// The call's entry in the audit log.
    note: Option<Arc<Note>>,
}

/// What a process counts, all its calls together.
#[derive(Debug, Default)]
struct Counted {
    /// Refused calls.
    refusals: Refusals,
    /// How many tags accounts have.
    tag_room: TagRoom,
}

impl RequestContext {
    /// A context over these parts.
    pub fn new(parts: Parts, wake: Wake, bus: Arc<dyn Bus>, config: CloudConfig) -> Self {
        RequestContext {
            store: parts.store,
            clock: parts.clock,
            rng: parts.rng,
            wake,
            bus,
            sealer: parts.sealer,
            config: Arc::new(config),
            authoriser: Arc::new(Roles),
            counted: Arc::default(),
            presence: Presence::default(),
            note: None,
        }
    }

    /// The same under another authoriser.
    #[must_use]
    pub fn with_authoriser(self, authoriser: Arc<dyn Authoriser>) -> Self {
        RequestContext { authoriser, ..self }
    }

    /// That of one call, whose changes take the call's entry in the audit log along.
    #[must_use]
    pub fn noting(self, note: Arc<Note>) -> Self {
        RequestContext {
            store: self.store.with(note.clone()),
            note: Some(note),
            ..self
        }
    }

    /// That of a client who may go: what takes long is then not begun.
    #[must_use]
    pub fn for_client(self, presence: Presence) -> Self {
        RequestContext { presence, ..self }
    }

    /// The same, counting the time which its changes take.
    #[must_use]
    pub fn counting(self, spent: Spent) -> Self {
        let store = self.store.counting(spent);
        RequestContext { store, ..self }
    }

    /// The same where every change is checked and carried out and then undone, and nobody is woken: what DryRun calls.
    #[must_use]
    pub fn rehearsal(self) -> Self {
        RequestContext {
            store: self.store.rehearsal(),
            wake: Wake::new(),
            ..self
        }
    }

    /// Whether whom this call is for still waits.
    pub fn presence(&self) -> &Presence {
        &self.presence
    }

    /// For the audit log: an id that the call makes or changes without having named it.
    pub fn made(&self, id: &dyn ToString) {
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
        }
    }

    /// The time now.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Refused calls that are counted.
    pub(super) fn refusals(&self) -> &Refusals {
        &self.counted.refusals
    }

    /// How many tags accounts have.
    pub(super) fn tag_room(&self) -> &TagRoom {
        &self.counted.tag_room
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

impl fmt::Debug for RequestContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestContext")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
