//! The registry of instances by VPC and address.
//!
//! Readers lock one of sixteen small maps for the time of a look-up. Writers go one at a time.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

use cumulet_domain::{id::InstanceId, metadata::InstanceMetadata};

use crate::{
    config::{Config, TokenSecret},
    counters::Counters,
    instance::{GuestAddress, Instance, Snapshot},
};

const SHARDS: usize = 16;

type Shard = RwLock<HashMap<GuestAddress, Arc<Instance>>>;

/// All instances of this host.
#[derive(Debug)]
pub(crate) struct Registry {
    shards: [Shard; SHARDS],
    instances: Mutex<Instances>,
}

#[derive(Debug, Default)]
struct Instances {
    by_id: HashMap<InstanceId, Arc<Instance>>,
    /// What the removed ones had counted.
    removed: Counters,
}

impl Registry {
    pub(crate) fn new() -> Self {
        Registry {
            shards: std::array::from_fn(|_| Shard::default()),
            instances: Mutex::default(),
        }
    }

    /// The instance at an address.
    pub(crate) fn find(&self, address: &GuestAddress) -> Option<Arc<Instance>> {
        let shard = self.shard(address).read();
        shard
            .unwrap_or_else(PoisonError::into_inner)
            .get(address)
            .cloned()
    }

    /// Installs or renews an instance; `false` if what is there is newer or the same.
    ///
    /// An address taken from another instance stays with the newcomer: an update of the one that had it
    /// doesn't take it back.
    pub(crate) fn put(&self, metadata: &InstanceMetadata, config: &Config, secret: &TokenSecret) -> bool {
        let mut instances = self.lock();
        let snapshot = match instances.by_id.get(&metadata.instance) {
            Some(known) if known.snapshot.load().revision >= metadata.revision => return false,
            _ => Snapshot::new(metadata, config),
        };
        let addresses = snapshot.addresses.clone();
        let (instance, before) = match instances.by_id.get(&metadata.instance) {
            Some(known) => (
                known.clone(),
                known.snapshot.swap(Arc::new(snapshot)).addresses.clone(),
            ),
            None => (Instance::new(metadata.instance, snapshot, secret), Vec::new()),
        };
        instances.by_id.insert(metadata.instance, instance.clone());
        let before: HashSet<GuestAddress> = before.into_iter().collect();
        for address in before.iter().filter(|address| !addresses.contains(address)) {
            self.vacate(address, &instance);
        }
        for address in addresses.into_iter().filter(|address| !before.contains(address)) {
            self.write(&address).insert(address, instance.clone());
        }
        true
    }

    /// Forgets an instance; `false` if it isn't known.
    pub(crate) fn remove(&self, id: InstanceId) -> bool {
        let mut instances = self.lock();
        let Some(instance) = instances.by_id.remove(&id) else {
            return false;
        };
        for address in &instance.snapshot.load().addresses {
            self.vacate(address, &instance);
        }
        instances.removed += instance.counters.read();
        true
    }

    pub(crate) fn ids(&self) -> Vec<InstanceId> {
        let mut ids: Vec<_> = self.lock().by_id.keys().copied().collect();
        ids.sort_unstable_by_key(|id| id.number());
        ids
    }

    pub(crate) fn get(&self, id: InstanceId) -> Option<Arc<Instance>> {
        self.lock().by_id.get(&id).cloned()
    }

    /// Of all instances, past and present.
    pub(crate) fn counters(&self) -> Counters {
        let instances = self.lock();
        let mut sum = instances.removed;
        for instance in instances.by_id.values() {
            sum += instance.counters.read();
        }
        sum
    }

    /// Removes an address if it still belongs to this instance.
    fn vacate(&self, address: &GuestAddress, instance: &Arc<Instance>) {
        let mut shard = self.write(address);
        if shard
            .get(address)
            .is_some_and(|owner| Arc::ptr_eq(owner, instance))
        {
            shard.remove(address);
        }
    }

    fn write(
        &self,
        address: &GuestAddress,
    ) -> impl std::ops::DerefMut<Target = HashMap<GuestAddress, Arc<Instance>>> {
        self.shard(address)
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn shard(&self, (vpc, address): &GuestAddress) -> &Shard {
        let [.., low] = address.octets();
        let spread = vpc.number() ^ u64::from(low);
        &self.shards[usize::try_from(spread % SHARDS as u64).unwrap_or(0)]
    }

    fn lock(&self) -> MutexGuard<'_, Instances> {
        self.instances.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use cumulet_certs::MasterKey;
    use cumulet_domain::id::VpcId;

    use super::*;
    use crate::fixture;

    struct Fixture(Registry, Config, TokenSecret);

    impl Fixture {
        fn new() -> Self {
            let master = MasterKey::from_bytes([7; 32]);
            Fixture(
                Registry::new(),
                Config::default(),
                TokenSecret { master, epoch: 0 },
            )
        }

        fn put(&self, number: u64, revision: u64, last: &[u8]) -> bool {
            let mut metadata = fixture::instance(number, [10, 0, 0, 1].into());
            metadata.revision = revision;
            let addresses = last.iter().map(|last| [10, 0, 0, *last].into());
            metadata.interfaces = addresses.map(|a| fixture::interface(0, a)).collect();
            self.0.put(&metadata, &self.1, &self.2)
        }

        fn at(&self, last: u8) -> Option<u64> {
            let found = self.0.find(&(fixture::VPC, [10, 0, 0, last].into()));
            found.map(|instance| instance.id.number())
        }
    }

    #[test]
    fn the_newest_revision_wins() {
        let f = Fixture::new();
        assert!(f.put(1, 5, &[5]));
        assert!(!f.put(1, 5, &[6]));
        assert!(!f.put(1, 4, &[6]));
        assert_eq!((f.at(5), f.at(6)), (Some(1), None));
        assert!(f.put(1, 6, &[6, 7]));
        assert_eq!((f.at(5), f.at(6), f.at(7)), (None, Some(1), Some(1)));
        assert!(f.0.remove(InstanceId::new(1)));
        assert_eq!((f.at(6), f.at(7)), (None, None));
        assert!(!f.0.remove(InstanceId::new(1)));
    }

    #[test]
    fn a_previous_owner_never_comes_back() {
        let f = Fixture::new();
        f.put(1, 1, &[5]);
        f.put(2, 1, &[5]);
        assert_eq!(f.at(5), Some(2));
        assert!(f.put(1, 2, &[5]), "a late update of the old owner");
        assert_eq!(f.at(5), Some(2));
        assert!(f.0.remove(InstanceId::new(1)));
        assert_eq!(f.at(5), Some(2));
        assert_eq!(f.0.ids(), [InstanceId::new(2)]);
    }

    #[test]
    fn vpcs_stay_apart() {
        let f = Fixture::new();
        f.put(1, 1, &[5]);
        let elsewhere = (VpcId::new(0x9_0000_0009), [10, 0, 0, 5].into());
        assert!(f.0.find(&elsewhere).is_none());
    }
}
