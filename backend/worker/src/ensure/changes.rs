//! The difference between the devices that a guest has and those that it is to have. Pure.

use std::path::PathBuf;

use cumulet_domain::spec::Throttle;
use cumulet_hypervisor::{Device, DeviceKey, Devices, DomainSpec};

/// What is to be done to a guest that runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Devices that it is to have and has not.
    pub plug: Vec<Device>,
    /// Disks that are too small, and how large they are to be.
    pub resize: Vec<(PathBuf, u64)>,
    /// Disks that may do more or less in a second than they are to, and what they are to.
    pub throttle: Vec<(PathBuf, Throttle)>,
    /// Devices that it has and is not to have.
    pub unplug: Vec<DeviceKey>,
}

/// What turns what a guest has into what it is to have. A disk is never made smaller, and one whose size is not known
/// is left as it is. `bounded` is what the host makes of a disk's own bounds.
pub(super) fn changes(has: &Devices, wanted: &DomainSpec, bounded: impl Fn(Throttle) -> Throttle) -> Changes {
    let disks = wanted.disks.iter().cloned().map(Device::Disk);
    let devices = disks.chain(wanted.nics.iter().cloned().map(Device::Nic));
    let (mut plug, mut kept) = (Vec::new(), Vec::new());
    let (mut resize, mut throttle) = (Vec::new(), Vec::new());
    for device in devices {
        let key = device.key();
        if !has.has(&key) {
            plug.push(device);
        } else if let Device::Disk(disk) = &device {
            for found in has.disks.iter().filter(|found| found.path == disk.path) {
                if found.bytes.is_some_and(|bytes| bytes < disk.bytes) {
                    resize.push((disk.path.clone(), disk.bytes));
                }
                if found.throttle != bounded(disk.throttle) {
                    throttle.push((disk.path.clone(), disk.throttle));
                }
            }
        }
        kept.push(key);
    }
    let disks = has.disks.iter().map(|disk| DeviceKey::Disk(disk.path.clone()));
    let all = disks.chain(has.nics.iter().map(|nic| DeviceKey::Nic(nic.mac)));
    Changes {
        plug,
        resize,
        throttle,
        unplug: all.filter(|key| !kept.contains(key)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use cumulet_domain::{id::VolumeId, network::Mac};
    use cumulet_hypervisor::{DomainDisk, DomainNic};
    use proptest::prelude::*;

    use super::{changes as changes_of, *};
    use crate::{ensure::disks::domain_disks, testing};

    fn disk(n: u8, gib: u64) -> DomainDisk {
        let spec = testing::data(n, gib);
        let spec = cumulet_domain::spec::InstanceSpec {
            disks: vec![spec],
            ..testing::spec(1, 1)
        };
        let path = |volume: VolumeId| PathBuf::from(format!("/volumes/{volume}"));
        domain_disks(&spec, |disk| path(disk.volume), |_| PathBuf::new()).remove(0)
    }

    fn nic(n: u8) -> DomainNic {
        DomainNic {
            mac: Mac([2, 0x16, 0, 0, 0, n]),
            tap: format!("cu{n}"),
        }
    }

    fn wanted(disks: &[(u8, u64)], nics: &[u8]) -> DomainSpec {
        DomainSpec {
            instance: testing::instance(1),
            generation: 1,
            instance_type: String::new(),
            vcpus: 1,
            memory_mib: 1,
            nvram: None,
            disks: disks.iter().map(|(n, gib)| disk(*n, *gib)).collect(),
            nics: nics.iter().map(|n| nic(*n)).collect(),
            console_log: PathBuf::new(),
            uid: None,
        }
    }

    fn changes(has: &Devices, wanted: &DomainSpec) -> Changes {
        changes_of(has, wanted, |own| own)
    }

    /// What a guest has that all of this is done to.
    fn done(mut has: Devices, changes: &Changes) -> Devices {
        changes.unplug.iter().for_each(|key| has.take(key));
        for (path, bytes) in &changes.resize {
            assert!(has.grow(path, *bytes));
        }
        for (path, most) in &changes.throttle {
            assert!(has.throttle(path, *most));
        }
        for device in &changes.plug {
            assert!(!has.has(&device.key()));
            has.put(device);
        }
        has
    }

    #[test]
    fn only_the_difference_is_made() {
        let has = done(
            Devices::default(),
            &changes(&Devices::default(), &wanted(&[(1, 8), (2, 3)], &[1])),
        );
        assert_eq!(
            changes(&has, &wanted(&[(1, 8), (2, 3)], &[1])),
            Changes::default()
        );
        assert_eq!(
            changes(&has, &wanted(&[(1, 7), (2, 3)], &[1])),
            Changes::default(),
            "never smaller"
        );
        let more = changes(&has, &wanted(&[(1, 8), (2, 4), (3, 1)], &[1, 2]));
        assert_eq!(more.plug, [Device::Disk(disk(3, 1)), Device::Nic(nic(2))]);
        assert_eq!(
            (more.resize, more.unplug),
            (vec![(disk(2, 4).path, 4 << 30)], vec![])
        );
        let less = changes(&has, &wanted(&[(1, 8)], &[]));
        assert_eq!(
            less.unplug,
            [Device::Disk(disk(2, 3)).key(), Device::Nic(nic(1)).key()]
        );
        assert_eq!((less.plug, less.resize), (vec![], vec![]));
        let mut slow = wanted(&[(1, 8), (2, 3)], &[1]);
        let most = |bytes| Throttle {
            bytes: Some(bytes),
            operations: None,
        };
        slow.disks[1].throttle = most(9);
        let slower = changes(&has, &slow);
        assert_eq!(slower.throttle, [(disk(2, 3).path, most(9))]);
        assert_eq!(
            (slower.plug, slower.resize, slower.unplug),
            (vec![], vec![], vec![])
        );
        let slower = done(has.clone(), &changes(&has, &slow));
        assert_eq!(changes(&slower, &slow), Changes::default());
        // What the host allows anyway is no difference.
        let hosts = changes_of(&slower, &slow, |_| most(7));
        assert_eq!(hosts.throttle.len(), 2);
        let mut unknown = has;
        unknown.disks[0].bytes = None;
        assert_eq!(
            changes(&unknown, &wanted(&[(1, 9), (2, 3)], &[1])),
            Changes::default()
        );
    }

    proptest! {
        /// Whatever it had, it has what it is to have, and a second look finds nothing to do.
        #[test]
        fn it_ends_where_it_should(
            before in prop::collection::btree_map(1_u8..9, 1_u64..5, 0..6),
            after in prop::collection::btree_map(1_u8..9, 1_u64..5, 0..6),
            nics in (prop::collection::btree_set(1_u8..5, 0..4), prop::collection::btree_set(1_u8..5, 0..4)),
        ) {
            let list = |set: &std::collections::BTreeMap<u8, u64>| set.clone().into_iter().collect::<Vec<_>>();
            let old = wanted(&list(&before), &nics.0.iter().copied().collect::<Vec<_>>());
            let new = wanted(&list(&after), &nics.1.iter().copied().collect::<Vec<_>>());
            let has = done(Devices::default(), &changes(&Devices::default(), &old));
            let now = done(has.clone(), &changes(&has, &new));
            prop_assert_eq!(changes(&now, &new), Changes::default());
            prop_assert_eq!((now.disks.len(), now.nics.len()), (new.disks.len(), new.nics.len()));
        }
    }
}
