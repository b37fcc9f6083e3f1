//! Keys of encrypted disks: a host that has not been given one does nothing with its disk, and a process that comes back
//! has none.

use cumulet_certs::{DiskKey, HostPublicKey};
use cumulet_domain::{id::VolumeId, message::SealedKey};

use cumulet_hypervisor::fake::FaultPlan;

use super::*;
use crate::testing::data;

/// An instance with an encrypted volume.
fn encrypted(generation: u64) -> Action {
    let mut spec = spec(1, generation);
    let mut disk = data(1, 3);
    disk.encrypted = true;
    spec.disks.push(disk);
    Action::Run {
        spec: Box::new(spec),
        policy: Arc::new(policy(generation, &[1])),
    }
}

impl Host {
    /// The volume's key, sealed for the process that runs now.
    fn sealed(&self, volume: VolumeId) -> SealedKey {
        let rng = SharedRng::seeded(9);
        let key = rng.with(DiskKey::generate);
        let public: HostPublicKey = self.worker.keys.public().parse().unwrap();
        let sealed = rng.with(|rng| public.seal(rng, &volume.to_string(), &key));
        SealedKey {
            of: volume.into(),
            sealed: sealed.unwrap(),
        }
    }

    async fn order_with(&mut self, operation: u64, action: Action, keys: Vec<SealedKey>) -> OperationId {
        let operation = OperationId::new(operation << 20);
        let command = Command {
            operation: Some(operation),
            deadline: self.clock.now().after(Duration::from_secs(300)),
            action,
            keys,
            storage: None,
        };
        self.bus.send(&name(), command).await.unwrap();
        operation
    }
}

#[tokio::test]
async fn an_encrypted_disk_is_nothing_to_a_host_that_has_not_its_key() {
    let mut host = Host::start().await;
    let volume = data(1, 3).volume;
    let lacks = format!("the host has not been given the key of {volume}");
    let done = host.order(encrypted(1)).await;
    assert_eq!((done.failure, done.permanent), (Some(lacks.clone()), false));
    assert_eq!(host.power(1).await, Power::Absent);

    let before = host.sealed(volume);
    let given = host.order_with(1, encrypted(2), vec![before.clone()]).await;
    assert_eq!(host.outcome(given).await.failure, None);
    // It has it until it has nothing to do with the disk any more.
    host.order(stop(1, 3)).await;
    assert_eq!(host.order(encrypted(4)).await.failure, None);
    host.order(stop(1, 5)).await;

    // Another process: what was sealed for the one before is of no use to it.
    host.die_and_come_back().await;
    let late = host.order_with(2, encrypted(6), vec![before]).await;
    assert_eq!(host.outcome(late).await.failure, Some(lacks.clone()));
    let again = host.sealed(volume);
    let given = host.order_with(3, encrypted(7), vec![again]).await;
    assert_eq!(host.outcome(given).await.failure, None);
    host.order(destroy(1, 8)).await;
    assert!(host.worker.keys.get(volume).is_err());
}

/// A command that was begun by a process that has died is not gone on with, and has not failed: it comes again, with
/// keys for the one that is there now.
#[tokio::test]
async fn a_command_that_was_begun_waits_for_its_keys_to_be_given_again() {
    let mut host = Host::start().await;
    let volume = data(1, 3).volume;
    host.hypervisor.set_plan(FaultPlan {
        latency_min: Duration::from_secs(3600),
        latency_max: Duration::from_secs(3600),
        ..FaultPlan::default()
    });
    let keys = vec![host.sealed(volume)];
    let begun = host.order_with(1, encrypted(1), keys).await;
    while host.worker.kept().unwrap().instances.is_empty() {
        tokio::task::yield_now().await;
    }
    host.hypervisor.set_plan(FaultPlan::default());
    host.die_and_come_back().await;
    let keys = vec![host.sealed(volume)];
    let again = host.order_with(1, encrypted(1), keys).await;
    assert_eq!(again, begun);
    assert_eq!(
        host.outcome(begun).await.failure,
        None,
        "the first that is heard of it"
    );
    assert_eq!(host.power(1).await, Power::On);
}
