//! The fleet: the hosts as a choice sees them. Numbers that change with every claim are small and lie
//! together; what many hosts have in common (zone, capabilities, aggregates) is a profile, kept once and
//! looked at once, so that a decision compares no text for each host.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use cumulet_domain::id::HostId;

/// Names and values: extra specifications of a type, metadata of an aggregate.
pub type Pairs = BTreeMap<String, String>;

/// A host's numbers. What is free already counts the allocation ratios.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct HostState {
    /// The operator lets it take new instances.
    pub enabled: bool,
    /// It is there and takes no launches for now; [`Fleet::not_ready`] says why.
    pub not_ready: bool,
    /// It reaches the pool that hosts share for volumes.
    pub reaches_pool: bool,
    /// Which of the fleet's profiles it has.
    pub profile: u32,
    /// When it was heard last, in milliseconds.
    pub last_seen: i64,
    /// Virtual CPUs that can still be claimed.
    pub free_vcpus: i64,
    /// Memory that can still be claimed, in MiB.
    pub free_memory_mib: i64,
    /// Disk that can still be claimed, in GiB.
    pub free_disk_gib: i64,
    /// Instances that are being launched there.
    pub io_ops: i64,
    /// What its metrics come to, by the configured ratios.
    pub metrics: f64,
}

/// What hosts have in common.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Profile {
    /// The availability zone.
    pub availability_zone: String,
    /// `x86_64` or `arm64`; `None` where the host has not told.
    pub architecture: Option<String>,
    /// The driver's name: `qemu`, `kvm` or `fake`.
    pub hypervisor: String,
    /// What the host has told of itself.
    pub capabilities: Arc<Pairs>,
    /// The metadata of the aggregates that the host is in.
    pub aggregates: Vec<Arc<Pairs>>,
}

impl Profile {
    /// A capability; a few are there without being told.
    pub fn capability(&self, name: &str) -> Option<&str> {
        match self.capabilities.get(name) {
            Some(value) => Some(value),
            None => match name {
                "hypervisor_type" => Some(&self.hypervisor),
                "architecture" => self.architecture.as_deref(),
                "availability_zone" => Some(&self.availability_zone),
                _ => None,
            },
        }
    }
}

/// A host, whole, to be put into a fleet.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HostInfo {
    /// Its name.
    pub id: String,
    /// Its numbers; the profile's is filled in.
    pub state: HostState,
    /// The rest.
    pub profile: Profile,
    /// Why it takes no launches for now; `None`: it does.
    pub not_ready: Option<String>,
}

/// Hosts.
#[derive(Clone, Debug, Default)]
pub struct Fleet {
    ids: Vec<HostId>,
    hosts: Vec<HostState>,
    profiles: Vec<Profile>,
    known: HashMap<Profile, u32>,
    index: HashMap<HostId, u32>,
    types: HashMap<String, Arc<Pairs>>,
    not_ready: HashMap<u32, String>,
}

impl Fleet {
    /// A fleet of these hosts, in the order of their ids.
    pub fn new(mut hosts: Vec<HostInfo>) -> Self {
        hosts.sort_by(|a, b| a.id.cmp(&b.id));
        let mut fleet = Fleet::default();
        hosts.into_iter().for_each(|host| fleet.put(host));
        fleet
    }

    /// Adds a host or replaces what is known of it.
    pub fn put(&mut self, host: HostInfo) {
        let HostInfo {
            id,
            mut state,
            profile,
            not_ready,
        } = host;
        state.profile = self.profile_of(profile);
        state.not_ready = not_ready.is_some();
        let id = HostId(id);
        let known = self.at(&id);
        // A fleet has far fewer hosts than that.
        let at = known.unwrap_or_else(|| u32::try_from(self.hosts.len()).unwrap_or(u32::MAX));
        match not_ready {
            Some(reason) => self.not_ready.insert(at, reason),
            None => self.not_ready.remove(&at),
        };
        if known.is_some() {
            self.hosts[at as usize] = state;
            return;
        }
        self.index.insert(id.clone(), at);
        self.ids.push(id);
        self.hosts.push(state);
    }

    /// Why the host at a place takes no launches for now, if it does not.
    pub fn not_ready(&self, at: u32) -> Option<&str> {
        self.not_ready.get(&at).map(String::as_str)
    }

    fn profile_of(&mut self, profile: Profile) -> u32 {
        if let Some(known) = self.known.get(&profile) {
            return *known;
        }
        let number = u32::try_from(self.profiles.len()).unwrap_or(u32::MAX);
        self.profiles.push(profile.clone());
        self.known.insert(profile, number);
        number
    }

    /// Sets the extra specifications of the instance types.
    pub fn set_types(&mut self, types: HashMap<String, Arc<Pairs>>) {
        self.types = types;
    }

    /// The extra specifications of an instance type.
    pub fn type_specs(&self, name: &str) -> Arc<Pairs> {
        self.types.get(name).cloned().unwrap_or_default()
    }

    /// The hosts.
    pub fn hosts(&self) -> &[HostState] {
        &self.hosts
    }

    /// The profiles that hosts have.
    pub fn profiles(&self) -> &[Profile] {
        &self.profiles
    }

    /// Where a host is in the fleet.
    pub fn at(&self, id: &HostId) -> Option<u32> {
        self.index.get(id).copied()
    }

    /// The host at a place.
    pub fn id(&self, at: u32) -> Option<&HostId> {
        self.ids.get(at as usize)
    }

    /// Counts a claim that was made on a host, or, with negative numbers, one that was given back.
    pub fn charge(&mut self, at: u32, vcpus: i64, memory_mib: i64, disk_gib: i64) {
        if let Some(host) = self.hosts.get_mut(at as usize) {
            host.free_vcpus -= vcpus;
            host.free_memory_mib -= memory_mib;
            host.free_disk_gib -= disk_gib;
            host.io_ops += 1;
        }
    }

    /// Takes a host out of every choice until it is known anew.
    pub fn forget(&mut self, id: &HostId) {
        if let Some(host) = self.at(id).and_then(|at| self.hosts.get_mut(at as usize)) {
            host.enabled = false;
        }
    }
}
