//! The slots of a guest's disks and interfaces: the PCI addresses that it knows them by. A device has the same slot in
//! the process and in the definition, from when it is plugged in until it is unplugged, over stops and starts on one
//! host. `xml` writes them, the driver and `devices` give them out.
//!
//! All of them are on one bridge of conventional PCI behind a root port: 31 slots, and what is plugged there is
//! announced by ACPI as it is at a root port. As many root ports would do the same and cost an emulated guest's boot
//! 0.03 s of processor time each (2.4 s to the first line of userspace with 31 of them, 1.6 s with 7 and with the
//! bridge; QEMU 7.2); a switch has a port for each device too.
//!
//! Disks get the first free slot of theirs, as Linux gives out its names (`vdb`), and so keep those over a restart,
//! where they are found in the order of slots. A guest that comes to another host has its disks in the order of their
//! devices' names.

use std::{collections::BTreeMap, ops::RangeInclusive};

use cumulet_domain::volume::MAX_ATTACHED;

use super::{
    disk_xml,
    tree::{self, Element},
};
use crate::{DeviceKey, DomainSpec};

/// The indexes of the controllers that the slots are behind.
pub(super) const PORT: u8 = 1;
pub(super) const BRIDGE: u8 = 2;

/// The bridge's model in libvirt's words.
pub(super) const MODEL: &str = "pcie-to-pci-bridge";

/// The slots of disks: as many as an instance may have.
const DISKS: RangeInclusive<u8> = 1..=28;
const _: () = assert!(MAX_ATTACHED == 28, "a slot for each");

/// The slots of interfaces.
const NICS: RangeInclusive<u8> = 29..=31;

/// The slots that a guest's devices have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Slots(BTreeMap<DeviceKey, u8>);

impl Slots {
    /// Those in a domain's XML; `None` for a guest that was started by a program of before, without the bridge.
    pub(super) fn read(text: &str) -> Option<Slots> {
        let root = tree::parse(text).ok()?;
        let all = &root.at(&["devices"])?.children;
        all.iter().find(|device| is_bridge(device))?;
        let slots = all
            .iter()
            .filter_map(|device| Some((key(device)?, slot(device.at(&["address"])?)?)));
        Some(Slots(
            slots.filter(|(key, slot)| range(key).contains(slot)).collect(),
        ))
    }

    /// Those of a guest that is started: each device's as it was, or the first that is free. `None` if it has more
    /// devices than slots.
    pub(super) fn of(spec: &DomainSpec, before: &Slots) -> Option<Slots> {
        let disks = spec.disks.iter().map(|disk| DeviceKey::Disk(disk.path.clone()));
        let nics = spec.nics.iter().map(|nic| DeviceKey::Nic(nic.mac));
        let keys: Vec<DeviceKey> = disks.chain(nics).collect();
        let kept = keys
            .iter()
            .filter_map(|key| Some((key.clone(), before.get(key)?)));
        let mut slots = Slots(kept.collect());
        for key in &keys {
            slots.give(key)?;
        }
        Some(slots)
    }

    /// Both, where a device of both has the slot that it has in `self`.
    pub(super) fn with(mut self, other: Slots) -> Slots {
        for (key, slot) in other.0 {
            self.0.entry(key).or_insert(slot);
        }
        self
    }

    /// A device's slot, if it has one.
    pub(super) fn get(&self, key: &DeviceKey) -> Option<u8> {
        self.0.get(key).copied()
    }

    /// A device's slot: the one that it has, or the first that is free; `None` if there is none.
    pub(super) fn give(&mut self, key: &DeviceKey) -> Option<u8> {
        if let Some(slot) = self.get(key) {
            return Some(slot);
        }
        let mut free = range(key).filter(|slot| !self.0.values().any(|taken| taken == slot));
        let slot = free.next()?;
        self.0.insert(key.clone(), slot);
        Some(slot)
    }
}

const fn range(key: &DeviceKey) -> RangeInclusive<u8> {
    match key {
        DeviceKey::Disk(_) => DISKS,
        DeviceKey::Nic(_) => NICS,
    }
}

fn is_bridge(device: &Element) -> bool {
    let index = device.attribute("index").and_then(|index| index.parse().ok());
    device.name == "controller" && device.attribute("model") == Some(MODEL) && index == Some(BRIDGE)
}

fn key(device: &Element) -> Option<DeviceKey> {
    let attribute = |element: &str, name: &str| device.at(&[element])?.attribute(name);
    match device.name.as_str() {
        "disk" => disk_xml::place(device).map(DeviceKey::Disk),
        "interface" => Some(DeviceKey::Nic(attribute("mac", "address")?.parse().ok()?)),
        _ => None,
    }
}

/// The slot that an address on the bridge names.
fn slot(address: &Element) -> Option<u8> {
    let number = |name: &str| u8::from_str_radix(address.attribute(name)?.strip_prefix("0x")?, 16).ok();
    (number("bus")? == BRIDGE).then(|| number("slot")).flatten()
}

#[cfg(test)]
mod tests {
    use cumulet_domain::network::Mac;

    use super::*;

    fn disk(name: &str) -> DeviceKey {
        DeviceKey::Disk(name.into())
    }

    fn given(slots: &mut Slots, name: &str) -> Option<u8> {
        slots.give(&disk(name))
    }

    #[test]
    fn a_device_keeps_its_slot_and_a_new_one_gets_the_first_that_is_free() {
        let mut slots = Slots::default();
        assert_eq!(
            (given(&mut slots, "root"), given(&mut slots, "a")),
            (Some(1), Some(2))
        );
        assert_eq!(
            (given(&mut slots, "b"), given(&mut slots, "a")),
            (Some(3), Some(2))
        );
        slots.0.remove(&disk("a"));
        assert_eq!(
            (given(&mut slots, "c"), given(&mut slots, "b")),
            (Some(2), Some(3))
        );
        let one = DeviceKey::Nic(Mac([2, 0, 0, 0, 0, 1]));
        assert_eq!((slots.give(&one), slots.give(&one)), (Some(29), Some(29)));
        for n in 4..=28 {
            assert_eq!(given(&mut slots, &n.to_string()), Some(n));
        }
        assert_eq!((given(&mut slots, "29"), slots.0.len()), (None, 29));
        for (last, slot) in [(2, Some(30)), (3, Some(31)), (4, None)] {
            assert_eq!(slots.give(&DeviceKey::Nic(Mac([2, 0, 0, 0, 0, last]))), slot);
        }
    }

    #[test]
    fn what_is_leaving_in_one_place_holds_its_slot_in_both() {
        let definition = Slots([(disk("a"), 1), (disk("c"), 3)].into());
        let process = Slots([(disk("a"), 1), (disk("b"), 2)].into());
        let mut both = process.with(definition);
        assert_eq!((given(&mut both, "d"), given(&mut both, "c")), (Some(4), Some(3)));
    }

    #[test]
    fn slots_are_read_from_what_libvirt_makes_of_what_we_write() {
        let live = "<domain><devices><disk type='file'><source file='/v/1' index='2'/><target dev='vdb'/>\
            <address type='pci' domain='0x0000' bus='0x02' slot='0x0a' function='0x0'/></disk>\
            <disk type='network'><auth username='u'><secret type='ceph' uuid='x'/></auth>\
            <source protocol='rbd' name='pool/vol-1.raw' index='1'><config file='/c'/></source>\
            <address type='pci' bus='0x02' slot='0x03'/></disk>\
            <disk type='file'><source file='/v/2'/><address type='pci' bus='0x03' slot='0x02'/></disk>\
            <disk type='file'><source file='/v/3'/><address type='pci' bus='0x02' slot='0x1e'/></disk>\
            <interface><mac address='02:16:00:00:00:01'/>\
            <address type='pci' domain='0x0000' bus='0x02' slot='0x1d' function='0x0'/></interface>\
            <controller type='pci' index='2' model='pcie-to-pci-bridge'/></devices></domain>";
        let nic = DeviceKey::Nic(Mac([2, 0x16, 0, 0, 0, 1]));
        let found = Slots([(disk("/v/1"), 10), (disk("rbd:pool/vol-1.raw"), 3), (nic, 29)].into());
        assert_eq!(Slots::read(live), Some(found));
        let before = live.replace("pcie-to-pci-bridge", "pcie-root-port");
        for none in [before.as_str(), "", "<", "<domain/>"] {
            assert_eq!(Slots::read(none), None, "{none}");
        }
    }
}
