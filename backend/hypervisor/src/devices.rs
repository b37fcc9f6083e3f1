//! Devices of a guest: what of them a driver is told to plug or unplug, and what it finds. A disk is told from others
//! by its file or its image, an interface by its address.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use cumulet_domain::{network::Mac, spec::Throttle};
use serde::{Deserialize, Serialize};

use crate::{DomainDisk, DomainNic, DomainSpec};

/// A device that a guest is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Device {
    Disk(DomainDisk),
    Nic(DomainNic),
}

impl Device {
    /// What it is told from others by.
    pub fn key(&self) -> DeviceKey {
        match self {
            Device::Disk(disk) => DeviceKey::Disk(disk.path.clone()),
            Device::Nic(nic) => DeviceKey::Nic(nic.mac),
        }
    }
}

/// What a device is told from others by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeviceKey {
    /// The disk of this file, or of this image.
    Disk(PathBuf),
    /// The interface of this address.
    Nic(Mac),
}

/// A disk that a guest has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluggedDisk {
    /// Its file, or its image.
    pub path: PathBuf,
    /// Its name on the bus.
    pub target: String,
    /// How large the guest sees it; `None` where it is not known, as for a guest that is off. An image's is its pool's to
    /// tell: no guest's process is asked for that.
    pub bytes: Option<u64>,
    /// What it may do in a second.
    #[serde(default)]
    pub throttle: Throttle,
}

/// An interface that a guest has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluggedNic {
    /// Its address.
    pub mac: Mac,
    /// Its tap.
    pub tap: String,
}

impl PluggedDisk {
    fn of(disk: &DomainDisk) -> PluggedDisk {
        PluggedDisk {
            path: disk.path.clone(),
            target: disk.target.clone(),
            bytes: Some(disk.bytes),
            throttle: disk.throttle,
        }
    }
}

impl PluggedNic {
    fn of(nic: &DomainNic) -> PluggedNic {
        PluggedNic {
            mac: nic.mac,
            tap: nic.tap.clone(),
        }
    }
}

/// The devices of a guest that come and go. A simulated guest's are changed by [`Devices::put`], [`Devices::take`],
/// [`Devices::grow`] and [`Devices::throttle`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Devices {
    /// Its disks.
    pub disks: Vec<PluggedDisk>,
    /// Its interfaces.
    pub nics: Vec<PluggedNic>,
}

impl Devices {
    /// Whether a device is among them.
    pub fn has(&self, key: &DeviceKey) -> bool {
        match key {
            DeviceKey::Disk(path) => self.disks.iter().any(|disk| disk.path == *path),
            DeviceKey::Nic(mac) => self.nics.iter().any(|nic| nic.mac == *mac),
        }
    }

    /// What a guest has that is started from this.
    pub fn of(spec: &DomainSpec) -> Devices {
        let disks = spec.disks.iter().map(PluggedDisk::of);
        let nics = spec.nics.iter().map(PluggedNic::of);
        Devices {
            disks: disks.collect(),
            nics: nics.collect(),
        }
    }

    /// A device is plugged in; one that is there already is left alone.
    pub fn put(&mut self, device: &Device) {
        match device {
            _ if self.has(&device.key()) => {}
            Device::Nic(nic) => self.nics.push(PluggedNic::of(nic)),
            Device::Disk(disk) => self.disks.push(PluggedDisk {
                target: self.target(&disk.target),
                ..PluggedDisk::of(disk)
            }),
        }
    }

    /// A device is gone.
    pub fn take(&mut self, key: &DeviceKey) {
        match key {
            DeviceKey::Disk(path) => self.disks.retain(|disk| disk.path != *path),
            DeviceKey::Nic(mac) => self.nics.retain(|nic| nic.mac != *mac),
        }
    }

    /// A disk is so large, or larger; whether there is such a disk.
    pub fn grow(&mut self, path: &Path, bytes: u64) -> bool {
        let found = self.disks.iter_mut().find(|disk| disk.path == path);
        found
            .map(|disk| disk.bytes = disk.bytes.max(Some(bytes)))
            .is_some()
    }

    /// A disk may do so much in a second; whether there is such a disk.
    pub fn throttle(&mut self, path: &Path, most: Throttle) -> bool {
        let found = self.disks.iter_mut().find(|disk| disk.path == path);
        found.map(|disk| disk.throttle = most).is_some()
    }

    /// A disk's name on the bus: the wished one, or the first that is free where another disk has that.
    pub(crate) fn target(&self, wish: &str) -> String {
        let taken: BTreeSet<&str> = self.disks.iter().map(|disk| disk.target.as_str()).collect();
        match taken.contains(wish) {
            true => free_target(|name| taken.contains(name)),
            false => wish.to_owned(),
        }
    }
}

/// What became of a device that a guest was asked to let go of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unplugged {
    /// The guest has it no more.
    Gone,
    /// The guest has been asked, and still has it. It may let go of it yet.
    Busy,
}

/// The first name on the disks' bus that is nobody's: `vda` to `vdz`, then `vdaa` and so on.
pub fn free_target(is_taken: impl Fn(&str) -> bool) -> String {
    let one = ('a'..='z').map(|letter| format!("vd{letter}"));
    let two = ('a'..='z').flat_map(|first| ('a'..='z').map(move |second| format!("vd{first}{second}")));
    // No guest has more disks than that.
    let free = one.chain(two).find(|name| !is_taken(name));
    free.unwrap_or_else(|| "vdzz".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_gets_the_name_that_it_wishes_for_or_a_free_one() {
        let disks = ["vda", "vdb", "vdd"].map(|target| PluggedDisk {
            path: target.into(),
            target: target.into(),
            bytes: None,
            throttle: Throttle::default(),
        });
        let devices = Devices {
            disks: disks.into(),
            nics: vec![],
        };
        let named = ["vdc", "vdb", "vdf"].map(|wish| devices.target(wish));
        assert_eq!(named, ["vdc", "vdc", "vdf"]);
        assert!(devices.has(&DeviceKey::Disk("vdd".into())) && !devices.has(&DeviceKey::Disk("vdc".into())));
        assert!(!devices.has(&DeviceKey::Nic(Mac([0; 6]))));
    }
}
