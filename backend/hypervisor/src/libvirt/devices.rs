//! Devices of a libvirt guest: found in its XML, plugged and unplugged in its process while it runs, and in the
//! definition that it is started from. The guest's own system has to let go of what is unplugged, and may take its
//! time: libvirt tells when it has.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use cumulet_domain::{id::InstanceId, message::Power, network::Mac, spec::Throttle};
use tokio::time::Instant;
use virt::{
    domain::Domain,
    error::{Error as LibvirtError, ErrorNumber},
    sys,
};

use super::{
    For, Libvirt, Signal,
    disk_io::{DiskIo, has_thread},
    disk_xml::{self, Setting},
    driver::status_of,
    ffi, is, owns,
    secrets::{Access, Lent},
    slots::Slots,
    tree, xml,
};
use crate::{
    ACTION, Device, DeviceKey, Devices, Error, PluggedDisk, PluggedNic, QUESTION, RbdImage, Result, Unplugged,
};

/// How often a guest is asked to let go of a device: one that still boots does not hear the first time.
const ASK: Duration = Duration::from_secs(5);

/// Where a guest has devices: how its XML is read there, and how it is changed there.
pub(super) type Place = (sys::virDomainXMLFlags, sys::virDomainModificationImpact);

pub(super) const PROCESS: Place = (0, sys::VIR_DOMAIN_AFFECT_LIVE);
const DEFINITION: Place = (sys::VIR_DOMAIN_XML_INACTIVE, sys::VIR_DOMAIN_AFFECT_CONFIG);

/// The places of a guest: the last one is what it goes by now.
fn places(status: Power) -> &'static [Place] {
    match status {
        Power::On => &[DEFINITION, PROCESS],
        Power::Off | Power::Absent => &[DEFINITION],
    }
}

/// The devices in a domain's XML; what is not as we make it is not looked at.
fn read(text: &str) -> Devices {
    let mut found = Devices::default();
    let root = tree::parse(text).unwrap_or_default();
    let all = root.at(&["devices"]).map_or(&[][..], |devices| &devices.children);
    for device in all {
        let attribute = |element: &str, name: &str| Some(device.at(&[element])?.attribute(name)?.to_owned());
        let target = attribute("target", "dev");
        match (device.name.as_str(), target) {
            ("disk", Some(target)) => found
                .disks
                .extend(disk_xml::place(device).map(|path| PluggedDisk {
                    path,
                    target,
                    bytes: None,
                    throttle: throttle_of(device),
                })),
            ("interface", Some(tap)) => {
                let mac: Option<Mac> = attribute("mac", "address").and_then(|mac| mac.parse().ok());
                found.nics.extend(mac.map(|mac| PluggedNic { mac, tap }));
            }
            _ => {}
        }
    }
    found
}

/// What a disk may do in a second.
fn throttle_of(disk: &tree::Element) -> Throttle {
    let limit = |name: &str| {
        let most: u64 = disk.at(&["iotune", name])?.text.parse().ok()?;
        (most != 0).then_some(most)
    };
    Throttle {
        bytes: limit(disk_xml::TOTAL_BYTES),
        operations: limit(disk_xml::TOTAL_OPERATIONS),
    }
}

pub(super) fn there(domain: &Domain, place: Place) -> Result<Devices, LibvirtError> {
    Ok(read(&domain.xml_desc(place.0)?))
}

/// As libvirt says it of a guest that was started by a program of before and has no port left. The next one that is
/// started has a slot for each device.
const NO_PORT: &str = "No more available PCI slots";

/// The slot of a device that is plugged into a guest, out of its XML in each place; `None` for a guest of before.
fn slot_for<'a>(key: &DeviceKey, places: impl Iterator<Item = &'a str>) -> Result<Option<u8>> {
    let all = places.map(Slots::read).collect::<Option<Vec<Slots>>>();
    // The process is the last: what it has, the guest sees.
    let Some(mut slots) = all.and_then(|all| all.into_iter().rev().reduce(Slots::with)) else {
        return Ok(None);
    };
    let slot = slots.give(key);
    slot.map(Some).ok_or_else(|| Error::Refused(FULL.into()))
}

/// What is said of a guest that has a device in each of its slots.
pub(super) const FULL: &str = "the guest has no slot left for a device of this kind";

/// The element that names a device of those to libvirt; `None` if it is not among them.
fn naming(key: &DeviceKey, among: &Devices) -> Option<String> {
    match key {
        DeviceKey::Disk(path) => {
            let disk = among.disks.iter().find(|disk| disk.path == *path)?;
            disk_xml::disk_named(path, &disk.target).ok()
        }
        DeviceKey::Nic(mac) => {
            let nic = among.nics.iter().find(|nic| nic.mac == *mac)?;
            Some(xml::nic_named(nic.mac))
        }
    }
}

/// How a guest stands that was asked to let go of a device.
enum Asked {
    Gone,
    /// It still has it; with what libvirt said, if it did not like to ask.
    Waits(Option<String>),
}

/// Takes a device out of the definition, and asks the guest for it.
fn ask(domain: &Domain, instance: InstanceId, key: &DeviceKey) -> Result<Asked, LibvirtError> {
    let mut refused = None;
    for place in places(status_of(domain, instance)?.power) {
        let Some(named) = naming(key, &there(domain, *place)?) else {
            continue;
        };
        match domain.detach_device_flags(&named, place.1) {
            Err(error) if is(&error, ErrorNumber::DeviceMissing) => {}
            // Most likely it was asked before: it is looked at.
            Err(error) if place.1 == PROCESS.1 => refused = Some(error.message().to_owned()),
            done => done?,
        }
    }
    // The guest may have gone off meanwhile.
    let now = places(status_of(domain, instance)?.power);
    let last = now.last().copied().unwrap_or(DEFINITION);
    let is_gone = !there(domain, last)?.has(key);
    Ok(if is_gone {
        Asked::Gone
    } else {
        Asked::Waits(refused)
    })
}

impl Libvirt {
    pub(super) async fn devices_of(&self, instance: InstanceId) -> Result<Devices> {
        let look = move |domain: Option<Domain>| {
            let Some(domain) = domain else {
                return Ok(Err(Error::NotFound(instance)));
            };
            if status_of(&domain, instance)?.power != Power::On {
                return there(&domain, DEFINITION).map(Ok);
            }
            let mut found = there(&domain, PROCESS)?;
            for disk in &mut found.disks {
                // QEMU would wait for an image's pool in its main loop, and the guest with it.
                if RbdImage::of(&disk.path).is_none() {
                    disk.bytes = Some(ffi::capacity(&domain, &disk.target)?);
                }
            }
            Ok(Ok(found))
        };
        self.call(For::Process(instance), QUESTION, look).await?
    }

    /// Out of the guests' XML, in one call: no guest's process is asked, so that one that hangs keeps nobody waiting.
    pub(super) async fn disks_in_hand(&self) -> Result<Vec<(InstanceId, PathBuf)>> {
        let (cloud, known) = (self.config.cloud.clone(), self.known.clone());
        let look = move |connection: &virt::connect::Connect| {
            let mut open = Vec::new();
            for domain in connection.list_all_domains(sys::VIR_CONNECT_LIST_DOMAINS_ACTIVE)? {
                let Ok(instance) = domain.name()?.parse::<InstanceId>() else {
                    continue;
                };
                let has = || -> Result<Devices, LibvirtError> {
                    let runs = owns(&domain, instance, &cloud, &known)? && domain.is_active()?;
                    if runs {
                        there(&domain, PROCESS)
                    } else {
                        Ok(Devices::default())
                    }
                };
                match has() {
                    Ok(has) => open.extend(has.disks.into_iter().map(|disk| (instance, disk.path))),
                    Err(error) if is(&error, ErrorNumber::NoDomain) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(open)
        };
        self.pool.call(For::Host, QUESTION, look).await
    }

    pub(super) async fn plug_in(&self, instance: InstanceId, device: &Device) -> Result<()> {
        let (device, bounds, io) = (device.clone(), self.config.guests.bounds, self.io);
        let ceph = self.config.ceph.clone();
        let key = device.key();
        let plug = move |domain: Option<Domain>| {
            let Some(domain) = domain else {
                return Ok(Err(Error::NotFound(instance)));
            };
            let mut found = Vec::new();
            for place in places(status_of(&domain, instance)?.power) {
                found.push((*place, domain.xml_desc(place.0)?));
            }
            let slot = match slot_for(&key, found.iter().map(|(_, text)| text.as_str())) {
                Ok(slot) => slot,
                Err(error) => return Ok(Err(error)),
            };
            let disk = match &device {
                Device::Disk(disk) => Some(disk),
                Device::Nic(_) => None,
            };
            let access = Access::to(disk.into_iter(), ceph.as_ref(), instance);
            let (secret, connection) = (disk.and_then(|disk| disk.secret.as_ref()), domain.connect()?);
            let _lent = Lent::to(&connection, secret.into_iter())?.with_pool(&connection, access)?;
            for (place, text) in found {
                let has = read(&text);
                if has.has(&key) {
                    continue;
                }
                let text = match &device {
                    Device::Nic(nic) => xml::nic_alone(nic, slot),
                    Device::Disk(disk) => {
                        let setting = Setting {
                            target: &has.target(&disk.target),
                            bounds,
                            slot,
                            io: DiskIo::of(disk, io),
                            has_thread: has_thread(&text),
                            access,
                        };
                        disk_xml::disk_alone(disk, setting)
                    }
                };
                match text.map(|text| domain.attach_device_flags(&text, place.1)) {
                    Ok(Err(error)) if slot.is_none() && error.message().contains(NO_PORT) => {
                        return Ok(Err(Error::Refused(error.message().to_owned())));
                    }
                    Ok(done) => done?,
                    Err(error) => return Ok(Err(Error::Refused(error.to_string()))),
                }
            }
            Ok(Ok(()))
        };
        self.call(For::Process(instance), ACTION, plug).await?
    }

    pub(super) async fn unplug_from(
        &self,
        instance: InstanceId,
        key: &DeviceKey,
        patience: Duration,
    ) -> Result<Unplugged> {
        // Before the guest is asked, so that its answer is heard.
        let mut signals = self.signals.subscribe();
        let end = Instant::now() + patience;
        let answers = |signal: &Signal| match signal {
            Signal::Unplugged(id) => *id == instance,
            Signal::Status(status) => status.instance == instance && status.power != Power::On,
            Signal::Rebooted(_) | Signal::Reconnected => false,
        };
        loop {
            let key = key.clone();
            let work = move |domain: Option<Domain>| match domain {
                Some(domain) => ask(&domain, instance, &key),
                None => Ok(Asked::Gone),
            };
            let refused = match self.call(For::Process(instance), ACTION, work).await? {
                Asked::Gone => return Ok(Unplugged::Gone),
                Asked::Waits(refused) => refused,
            };
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                // As QEMU says it of what it was asked for already.
                return match refused.filter(|why| !why.contains("process of unplug")) {
                    Some(why) => Err(Error::Unavailable(why)),
                    None => Ok(Unplugged::Busy),
                };
            }
            Self::wait(&mut signals, left.min(ASK), answers).await;
        }
    }

    pub(super) async fn grow(&self, instance: InstanceId, path: &Path, bytes: u64) -> Result<()> {
        let path = path.to_owned();
        let grow = move |domain: Option<Domain>| {
            let Some(domain) = domain else {
                return Ok(Err(Error::NotFound(instance)));
            };
            if status_of(&domain, instance)?.power != Power::On {
                return Ok(Err(Error::Unavailable(format!("the guest of {instance} is off"))));
            }
            let has = there(&domain, PROCESS)?;
            let Some(disk) = has.disks.iter().find(|disk| disk.path == path) else {
                return Ok(Err(Error::Unavailable(format!("{instance} has no such disk"))));
            };
            if ffi::capacity(&domain, &disk.target)? < bytes {
                domain.block_resize(&disk.target, bytes, sys::VIR_DOMAIN_BLOCK_RESIZE_BYTES)?;
            }
            Ok(Ok(()))
        };
        self.call(For::Process(instance), ACTION, grow).await?
    }

    /// In its process, and in the definition that it is started from.
    pub(super) async fn slow_down(&self, instance: InstanceId, path: &Path, most: Throttle) -> Result<()> {
        let path = path.to_owned();
        let slow_down = move |domain: Option<Domain>| {
            let Some(domain) = domain else {
                return Ok(Err(Error::NotFound(instance)));
            };
            if status_of(&domain, instance)?.power != Power::On {
                return Ok(Err(Error::Unavailable(format!("the guest of {instance} is off"))));
            }
            for place in places(Power::On) {
                let has = there(&domain, *place)?;
                let Some(disk) = has.disks.iter().find(|disk| disk.path == path) else {
                    return Ok(Err(Error::Unavailable(format!("{instance} has no such disk"))));
                };
                let limits = (most.bytes.unwrap_or(0), most.operations.unwrap_or(0));
                if disk.throttle != most {
                    ffi::throttle(&domain, &disk.target, limits, place.1)?;
                }
            }
            Ok(Ok(()))
        };
        self.call(For::Process(instance), ACTION, slow_down).await?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_found_in_what_we_write_and_in_what_libvirt_makes_of_it() {
        let golden = read(include_str!("domain.golden.xml"));
        let disk = PluggedDisk {
            path: "/s/instances/i-0/disk.qcow2".into(),
            target: "vda".into(),
            bytes: None,
            throttle: Throttle::default(),
        };
        let nic = PluggedNic {
            mac: Mac([2, 0x16, 0, 0, 0, 1]),
            tap: "cu0000000000001".into(),
        };
        let expected = Devices {
            disks: vec![disk],
            nics: vec![nic],
        };
        let mut bounded = expected.clone();
        for disk in &mut bounded.disks {
            disk.throttle = Throttle {
                bytes: Some(1 << 30),
                operations: Some(16_000),
            };
        }
        assert_eq!(golden, bounded);
        let live = "<domain type='qemu' id='7'><devices><emulator>/x</emulator>\
            <disk type='file' device='disk'><source file='/s/instances/i-0/disk.qcow2' index='2'/>\
            <backingStore type='file' index='3'><source file='/s/cache/ab'/></backingStore>\
            <target dev='vda' bus='virtio'/></disk><disk type='file' device='cdrom'><target dev='sda'/></disk>\
            <interface type='ethernet'><mac address='02:16:00:00:00:01'/>\
            <target dev='cu0000000000001' managed='no'/></interface><interface type='user'/></devices></domain>";
        assert_eq!(read(live), expected);
        let image = live.replace(
            "<source file='/s/instances/i-0/disk.qcow2' index='2'/>",
            "<source protocol='rbd' name='pool/vol-0.raw' index='2'><config file='/c'/></source>",
        );
        assert_eq!(read(&image).disks[0].path, Path::new("rbd:pool/vol-0.raw"));
        for none in ["", "<", "<domain/>", "<domain><devices/></domain>"] {
            assert_eq!(read(none), Devices::default(), "{none}");
        }
        let slow = live.replace(
            "<target dev='vda' bus='virtio'/>",
            "<target dev='vda' bus='virtio'/><iotune><total_bytes_sec>1048576</total_bytes_sec>\
             <total_iops_sec>0</total_iops_sec><group_name>drive</group_name></iotune>",
        );
        let bytes = Throttle {
            bytes: Some(1 << 20),
            operations: None,
        };
        assert_eq!(read(&slow).disks[0].throttle, bytes);
        let name = |key| naming(&key, &expected);
        let disk = name(DeviceKey::Disk("/s/instances/i-0/disk.qcow2".into())).unwrap();
        assert!(
            disk.contains(r#"<source file="/s/instances/i-0/disk.qcow2"/><target dev="vda" bus="virtio"/>"#),
            "{disk}"
        );
        assert!(
            name(DeviceKey::Nic(Mac([2, 0x16, 0, 0, 0, 1])))
                .unwrap()
                .contains("02:16:00:00:00:01")
        );
        assert_eq!(name(DeviceKey::Disk("/s/cache/ab".into())), None);
    }
}
