//! The domain XML of a guest, with the element that says which cloud the guest belongs to. Built by a
//! serialiser, from ids, numbers and paths of the host; no text of a user gets here.

use std::{io, path::PathBuf};

use cumulet_domain::network::Mac;
use quick_xml::{
    Reader, Writer,
    events::{BytesText, Event},
};

use super::{
    disk_io::{DiskIo, HostIo},
    disk_xml::{Setting, disk},
    guests::{Bounds, GuestUser},
    secrets::Access,
    slots::{self, Slots},
};
use crate::{DeviceKey, DomainNic, DomainSpec};

/// The namespace of our element in a domain's metadata.
pub(super) const NAMESPACE: &str = "urn:cumulet:domain:1";

/// The namespace of what a process has in its metadata while its guest's file systems may be frozen.
pub(super) const FROZEN: &str = "urn:cumulet:frozen:1";

/// The channel of a guest's agent.
pub(super) const AGENT: &str = "org.qemu.guest_agent.0";

/// What the guest's SMBIOS tables name as its maker. Never "Amazon EC2": guests would take that for true.
const MAKER: &str = "Cumulet";

/// What guests are.
pub(super) const ARCHITECTURE: &str = "x86_64";
pub(super) const MACHINE: &str = "q35";

/// Devices that every guest has, and that stay: their slots on the machine itself, where they need no port.
const ROOT_PORT: u8 = 2;
const SERIAL: u8 = 3;
const BALLOON: u8 = 4;
const RANDOM: u8 = 5;

/// What virtio devices are, wherever they are plugged: of the standard alone, as they are at a port of PCI Express.
pub(super) const VIRTIO: &str = "virtio-non-transitional";

/// How often the guest is asked how much of its memory it uses, in seconds.
const MEMORY_STATISTICS: &str = "10";

/// The processor of guests that are emulated.
pub(super) const EMULATED: &str = "qemu64";

/// What of the XML is the host's, not the guest's.
#[derive(Clone, Copy, Debug)]
pub(super) struct HostFacts<'a> {
    /// Whose guests these are.
    pub(super) cloud: &'a str,
    /// Hardware virtualisation works.
    pub(super) kvm: bool,
    /// As whom the guest's process runs; `None`: libvirt's own user for that.
    pub(super) user: Option<GuestUser>,
    /// What it may use of the host.
    pub(super) bounds: Bounds,
    /// How the host can read and write disks.
    pub(super) io: HostIo,
    /// How the guest's process gets to images in the pool.
    pub(super) access: Option<Access<'a>>,
}

pub(super) type Out = Writer<Vec<u8>>;

/// The XML that defines a guest.
pub(super) fn domain(spec: &DomainSpec, slots: &Slots, host: &HostFacts<'_>) -> io::Result<String> {
    let mut out = Writer::new_with_indent(Vec::new(), b' ', 2);
    let kind = if host.kvm { "kvm" } else { "qemu" };
    out.create_element("domain")
        .with_attribute(("type", kind))
        .write_inner_content(|out| {
            text(out, "name", &spec.instance.to_string())?;
            text(out, "uuid", &spec.uuid())?;
            ownership(out, spec, host)?;
            out.create_element("memory")
                .with_attribute(("unit", "MiB"))
                .write_text_content(BytesText::new(&spec.memory_mib.to_string()))?;
            if host.bounds.memory {
                out.create_element("memtune").write_inner_content(|out| {
                    out.create_element("hard_limit")
                        .with_attribute(("unit", "MiB"))
                        .write_text_content(BytesText::new(&most_memory(spec.memory_mib).to_string()))
                        .map(drop)
                })?;
            }
            text(out, "vcpu", &spec.vcpus.to_string())?;
            text(out, "iothreads", "1")?;
            firmware(out, spec)?;
            processor(out, host)?;
            empty(out, "clock", &[("offset", "utc")])?;
            text(out, "on_poweroff", "destroy")?;
            text(out, "on_reboot", "restart")?;
            text(out, "on_crash", "destroy")?;
            out.create_element("devices")
                .write_inner_content(|out| devices(out, spec, slots, host))?;
            if let Some(GuestUser { uid, gid }) = host.user {
                out.create_element("seclabel")
                    .with_attributes([("type", "static"), ("model", "dac"), ("relabel", "yes")])
                    .write_inner_content(|out| text(out, "label", &format!("+{uid}:+{gid}")))?;
            }
            Ok(())
        })?;
    String::from_utf8(out.into_inner()).map_err(io::Error::other)
}

pub(super) fn text(out: &mut Out, name: &str, content: &str) -> io::Result<()> {
    out.create_element(name)
        .write_text_content(BytesText::new(content))
        .map(drop)
}

pub(super) fn empty(out: &mut Out, name: &str, attributes: &[(&str, &str)]) -> io::Result<()> {
    out.create_element(name)
        .with_attributes(attributes.iter().copied())
        .write_empty()
        .map(drop)
}

/// Whose guest it is, and where its console goes.
fn ownership(out: &mut Out, spec: &DomainSpec, host: &HostFacts<'_>) -> io::Result<()> {
    out.create_element("metadata")
        .write_inner_content(|out| {
            empty(
                out,
                "cumulet:instance",
                &[
                    ("xmlns:cumulet", NAMESPACE),
                    ("cloud", host.cloud),
                    ("generation", &spec.generation.to_string()),
                    ("console", &path(&spec.console_log)?),
                ],
            )
        })
        .map(drop)
}

/// Paths are made by us and are UTF-8; one that is not can't be written.
pub(super) fn path(path: &std::path::Path) -> io::Result<String> {
    let text = path
        .to_str()
        .ok_or_else(|| io::Error::other("a path is not UTF-8"))?;
    Ok(text.to_owned())
}

/// Machine and SMBIOS strings: stock cloud-init takes the guest for one of EC2 when uuid and serial begin
/// with `ec2` and are equal.
fn firmware(out: &mut Out, spec: &DomainSpec) -> io::Result<()> {
    let efi = [("firmware", "efi")];
    out.create_element("os")
        .with_attributes(efi.into_iter().filter(|_| spec.nvram.is_some()))
        .write_inner_content(|out| {
            out.create_element("type")
                .with_attributes([("arch", ARCHITECTURE), ("machine", MACHINE)])
                .write_text_content(BytesText::new("hvm"))?;
            if let Some(file) = &spec.nvram {
                uefi(out, file)?;
            }
            empty(out, "smbios", &[("mode", "sysinfo")])
        })?;
    let entry = |out: &mut Out, name: &str, value: &str| {
        out.create_element("entry")
            .with_attribute(("name", name))
            .write_text_content(BytesText::new(value))
            .map(drop)
    };
    let (uuid, instance) = (spec.uuid(), spec.instance.to_string());
    out.create_element("sysinfo")
        .with_attribute(("type", "smbios"))
        .write_inner_content(|out| {
            out.create_element("bios")
                .write_inner_content(|out| entry(out, "vendor", MAKER))?;
            out.create_element("system").write_inner_content(|out| {
                entry(out, "manufacturer", MAKER)?;
                entry(out, "product", &spec.instance_type)?;
                entry(out, "serial", &uuid)?;
                entry(out, "uuid", &uuid)
            })?;
            out.create_element("baseBoard").write_inner_content(|out| {
                entry(out, "manufacturer", MAKER)?;
                entry(out, "asset", &instance)
            })?;
            out.create_element("chassis")
                .write_inner_content(|out| entry(out, "asset", MAKER))?;
            Ok(())
        })
        .map(drop)
}

/// UEFI, whose file libvirt finds by what it has to do: start anything, since no key is enrolled. Its variables are the
/// instance's.
fn uefi(out: &mut Out, variables: &std::path::Path) -> io::Result<()> {
    out.create_element("firmware").write_inner_content(|out| {
        empty(out, "feature", &[("enabled", "no"), ("name", "enrolled-keys")])?;
        empty(out, "feature", &[("enabled", "no"), ("name", "secure-boot")])
    })?;
    text(out, "nvram", &path(variables)?)
}

/// Emulated, the oldest model is the one that boots fastest, and the same on every host.
fn processor(out: &mut Out, host: &HostFacts<'_>) -> io::Result<()> {
    out.create_element("features").write_inner_content(|out| {
        empty(out, "acpi", &[])?;
        empty(out, "apic", &[])
    })?;
    if host.kvm {
        return empty(out, "cpu", &[("mode", "host-model"), ("check", "partial")]);
    }
    out.create_element("cpu")
        .with_attributes([("mode", "custom"), ("match", "exact"), ("check", "none")])
        .write_inner_content(|out| text(out, "model", EMULATED))
        .map(drop)
}

/// All that the guest's process may take, in MiB: beside the guest's memory, what the emulator needs for itself, its
/// devices and, where it translates code, for that (1 GiB). Beyond it the kernel ends this process and no other.
const fn most_memory(guest: u64) -> u64 {
    guest + guest / 8 + 2048
}

fn devices(out: &mut Out, spec: &DomainSpec, slots: &Slots, host: &HostFacts<'_>) -> io::Result<()> {
    for each in &spec.disks {
        let setting = Setting {
            target: &each.target,
            bounds: host.bounds,
            slot: slots.get(&DeviceKey::Disk(each.path.clone())),
            io: DiskIo::of(each, host.io),
            has_thread: true,
            access: host.access,
        };
        disk(out, each, setting)?;
    }
    for each in &spec.nics {
        nic(out, each, slots.get(&DeviceKey::Nic(each.mac)))?;
    }
    controllers(out)?;
    // A terminal for the client that opens the console, and a file of all that is shown, whether it is open or not.
    out.create_element("serial")
        .with_attribute(("type", "pty"))
        .write_inner_content(|out| {
            empty(
                out,
                "log",
                &[("file", &path(&spec.console_log)?), ("append", "on")],
            )?;
            empty(out, "target", &[("port", "0")])
        })?;
    // Without a path libvirt puts a socket where only it and the guest's process get.
    out.create_element("channel")
        .with_attribute(("type", "unix"))
        .write_inner_content(|out| empty(out, "target", &[("type", "virtio"), ("name", AGENT)]))?;
    out.create_element("graphics")
        .with_attribute(("type", "vnc"))
        .write_inner_content(|out| empty(out, "listen", &[("type", "socket")]))?;
    out.create_element("video")
        .write_inner_content(|out| empty(out, "model", &[("type", "vga"), ("vram", "16384")]))?;
    out.create_element("rng")
        .with_attribute(("model", VIRTIO))
        .write_inner_content(|out| {
            out.create_element("backend")
                .with_attribute(("model", "random"))
                .write_text_content(BytesText::new("/dev/urandom"))?;
            address(out, 0, RANDOM)
        })?;
    out.create_element("memballoon")
        .with_attribute(("model", VIRTIO))
        .write_inner_content(|out| {
            empty(out, "stats", &[("period", MEMORY_STATISTICS)])?;
            address(out, 0, BALLOON)
        })
        .map(drop)
}

/// What devices are plugged into.
fn controllers(out: &mut Out) -> io::Result<()> {
    empty(out, "controller", &[("type", "usb"), ("model", "none")])?;
    let root = [("type", "pci"), ("index", "0"), ("model", "pcie-root")];
    empty(out, "controller", &root)?;
    let mut pci = |index: u8, model: &str, bus: u8, slot: u8| {
        out.create_element("controller")
            .with_attributes([("type", "pci"), ("index", &index.to_string()), ("model", model)])
            .write_inner_content(|out| address(out, bus, slot))
            .map(drop)
    };
    pci(slots::PORT, "pcie-root-port", 0, ROOT_PORT)?;
    pci(slots::BRIDGE, slots::MODEL, slots::PORT, 0)?;
    out.create_element("controller")
        .with_attributes([("type", "virtio-serial"), ("index", "0"), ("model", VIRTIO)])
        .write_inner_content(|out| address(out, 0, SERIAL))
        .map(drop)
}

/// Where a device is on the guest's PCI buses.
fn address(out: &mut Out, bus: u8, slot: u8) -> io::Result<()> {
    let (bus, slot) = (format!("0x{bus:02x}"), format!("0x{slot:02x}"));
    let attributes = [
        ("type", "pci"),
        ("domain", "0x0000"),
        ("bus", &bus),
        ("slot", &slot),
        ("function", "0x0"),
    ];
    empty(out, "address", &attributes)
}

/// Where a device is behind the bridge; without a slot libvirt finds a place for it.
pub(super) fn in_slot(out: &mut Out, slot: Option<u8>) -> io::Result<()> {
    slot.map_or(Ok(()), |slot| address(out, slots::BRIDGE, slot))
}

/// An interface by itself.
pub(super) fn nic_alone(each: &DomainNic, slot: Option<u8>) -> io::Result<String> {
    let mut out = Writer::new(Vec::new());
    nic(&mut out, each, slot)?;
    String::from_utf8(out.into_inner()).map_err(io::Error::other)
}

/// As much of an interface as libvirt needs to find it.
pub(super) fn nic_named(mac: Mac) -> String {
    format!(r#"<interface type="ethernet"><mac address="{mac}"/></interface>"#)
}

fn nic(out: &mut Out, nic: &DomainNic, slot: Option<u8>) -> io::Result<()> {
    out.create_element("interface")
        .with_attribute(("type", "ethernet"))
        .write_inner_content(|out| {
            empty(out, "mac", &[("address", &nic.mac.to_string())])?;
            empty(out, "target", &[("dev", &nic.tap), ("managed", "no")])?;
            empty(out, "model", &[("type", VIRTIO)])?;
            in_slot(out, slot)
        })
        .map(drop)
}

/// What our element in a domain's metadata says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ownership {
    pub(super) cloud: String,
    pub(super) console: PathBuf,
}

/// Reads our element; `None` if it is none of ours.
pub(super) fn read_ownership(xml: &str) -> Option<Ownership> {
    let mut reader = Reader::from_str(xml);
    loop {
        let element = match reader.read_event() {
            Ok(Event::Start(element) | Event::Empty(element)) => element,
            Ok(Event::Eof) | Err(_) => return None,
            Ok(_) => continue,
        };
        let attribute = |name: &str| {
            let found = element.try_get_attribute(name).ok().flatten()?;
            let value = quick_xml::escape::unescape(&found.value).ok()?;
            Some(value.into_owned())
        };
        return Some(Ownership {
            cloud: attribute("cloud")?,
            console: attribute("console")?.into(),
        });
    }
}

/// The terminal of a running guest's first serial port, as libvirt tells it; `None` for one that was started
/// without.
pub(super) fn serial_terminal(xml: &str) -> Option<PathBuf> {
    let mut reader = Reader::from_str(xml);
    let mut inside = false;
    loop {
        let element = match reader.read_event() {
            Ok(Event::Start(element) | Event::Empty(element)) => element,
            Ok(Event::End(element)) if inside && element.name().as_ref() == "serial" => return None,
            Ok(Event::Eof) | Err(_) => return None,
            Ok(_) => continue,
        };
        let attribute = |name: &str| {
            let found = element.try_get_attribute(name).ok().flatten()?;
            Some(quick_xml::escape::unescape(&found.value).ok()?.into_owned())
        };
        match element.name().as_ref() {
            "serial" if attribute("type").is_some_and(|kind| kind == "pty") => inside = true,
            // A disk's serial number is an element of this name too, without a type.
            "source" if inside => return attribute("path").map(PathBuf::from),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use cumulet_domain::{id::InstanceId, image::DiskFormat, network::Mac, spec::Throttle};

    use cumulet_certs::DiskKey;
    use rand::SeedableRng as _;

    use super::*;
    use crate::{Backing, DiskSecret, DomainDisk};

    fn spec() -> DomainSpec {
        DomainSpec {
            instance: InstanceId::new(0x0123_4567_89ab_cdef),
            generation: 3,
            instance_type: "t3.micro".into(),
            vcpus: 2,
            memory_mib: 1024,
            nvram: None,
            disks: vec![DomainDisk {
                path: "/s/instances/i-0/disk.qcow2".into(),
                format: DiskFormat::Qcow2,
                backing: Some(Backing {
                    path: "/s/cache/ab".into(),
                    format: DiskFormat::Raw,
                    encrypted: false,
                }),
                secret: None,
                bytes: 1 << 30,
                target: "vda".into(),
                serial: "vol00123456789abcdef".into(),
                boot: Some(1),
                throttle: Throttle::default(),
            }],
            nics: vec![DomainNic {
                mac: Mac([2, 0x16, 0, 0, 0, 1]),
                tap: "cu0000000000001".into(),
            }],
            console_log: "/s/instances/i-0/console & log".into(),
            uid: Some(1_900_000_007),
        }
    }

    const HOST: HostFacts<'_> = HostFacts {
        cloud: "cloud1",
        kvm: false,
        user: Some(GuestUser {
            uid: 1_900_000_007,
            gid: 64_055,
        }),
        bounds: Bounds {
            memory: true,
            disk_bytes: 1 << 30,
            disk_operations: 16_000,
        },
        io: HostIo { uring: true },
        access: None,
    };

    fn written(spec: &DomainSpec, host: &HostFacts<'_>) -> io::Result<String> {
        domain(spec, &Slots::of(spec, &Slots::default()).unwrap(), host)
    }

    #[test]
    fn the_domain_is_as_kept() {
        let made = written(&spec(), &HOST).unwrap();
        assert_eq!(made.trim(), include_str!("domain.golden.xml").trim());
    }

    #[test]
    fn what_is_not_bounded_is_not_in_the_domain() {
        let host = HostFacts {
            bounds: Bounds::default(),
            user: None,
            ..HOST
        };
        let made = written(&spec(), &host).unwrap();
        for element in ["memtune", "iotune", "+1900000007"] {
            assert!(!made.contains(element), "{element}");
        }
        let bounds = Bounds {
            disk_operations: 100,
            ..Bounds::default()
        };
        let made = written(&spec(), &HostFacts { bounds, ..HOST }).unwrap();
        assert!(made.contains("<total_iops_sec>100<") && !made.contains("total_bytes_sec"));
        let mut slow = spec();
        slow.disks[0].throttle = Throttle {
            bytes: Some(7),
            operations: Some(200),
        };
        let made = written(&slow, &HostFacts { bounds, ..HOST }).unwrap();
        assert!(
            made.contains("<total_bytes_sec>7<"),
            "its own where the host has none"
        );
        assert!(
            made.contains("<total_iops_sec>100<"),
            "the host's where it is less"
        );
    }

    /// The key itself is nowhere: libvirt has it, by its number.
    #[test]
    fn an_encrypted_disk_names_its_secret() {
        let key = DiskKey::generate(&mut rand::rngs::StdRng::seed_from_u64(1));
        let passphrase = key.passphrase();
        let mut encrypted = spec();
        let uuid = "d1500000-0000-8000-a000-000000000001".to_owned();
        encrypted.disks[0].secret = Some(DiskSecret { uuid, key });
        for (below, count) in [(false, 1), (true, 2)] {
            encrypted.disks[0].backing.as_mut().unwrap().encrypted = below;
            let made = written(&encrypted, &HOST).unwrap();
            let named = r#"<secret type="passphrase" uuid="d1500000-0000-8000-a000-000000000001"/>"#;
            assert_eq!(made.matches(named).count(), count, "{made}");
            assert!(!made.contains(passphrase.expose().as_str()));
        }
    }

    #[test]
    fn the_terminal_is_found() {
        let live = "<domain><devices><disk><serial>vol0</serial></disk><serial type='pty'>\
            <source path='/dev/pts/3'/><log file='/x' append='on'/></serial>\
            <console type='pty'><source path='/dev/pts/4'/></console></devices></domain>";
        assert_eq!(serial_terminal(live), Some("/dev/pts/3".into()));
        let of_before = live.replace("<serial type='pty'>", "<serial type='file'>");
        for none in [of_before.as_str(), "", "<", &written(&spec(), &HOST).unwrap()] {
            assert_eq!(serial_terminal(none), None, "{none}");
        }
    }

    #[test]
    fn uefi_is_where_there_is_a_file_for_it() {
        assert!(!written(&spec(), &HOST).unwrap().contains("firmware"));
        let mut by_uefi = spec();
        by_uefi.nvram = Some("/s/instances/i-0/nvram.fd".into());
        let made = written(&by_uefi, &HOST).unwrap();
        for part in [
            r#"<os firmware="efi">"#,
            r#"<feature enabled="no" name="secure-boot"/>"#,
            "<nvram>/s/instances/i-0/nvram.fd</nvram>",
        ] {
            assert!(made.contains(part), "{part}: {made}");
        }
    }

    #[test]
    fn ownership_reads_back() {
        let made = written(&spec(), &HOST).unwrap();
        let element = made.lines().find(|l| l.contains("cumulet:instance")).unwrap();
        let read = read_ownership(element).unwrap();
        assert_eq!(read.cloud, "cloud1");
        assert_eq!(read.console, spec().console_log);
        for other in ["", "<instance/>", "<a cloud='x'/>", "<", "text"] {
            assert_eq!(read_ownership(other), None, "{other}");
        }
    }
}
