//! The domain XML of a guest, with the element that says which cloud the guest belongs to. Built by a
//! serialiser, from ids, numbers and paths of the host; no text of a user gets here.

use std::{io, path::PathBuf};

use cumulet_domain::{image::DiskFormat, network::Mac, spec::Throttle};
use quick_xml::{
    Reader, Writer,
    events::{BytesText, Event},
};

use super::guests::{Bounds, GuestUser};
use crate::{DomainDisk, DomainNic, DomainSpec};

/// The namespace of our element in a domain's metadata.
pub(super) const NAMESPACE: &str = "urn:cumulet:domain:1";

/// What the guest's SMBIOS tables name as its maker. Never "Amazon EC2": guests would take that for true.
const MAKER: &str = "Cumulet";

/// What guests are.
pub(super) const ARCHITECTURE: &str = "x86_64";
pub(super) const MACHINE: &str = "q35";

/// Devices of every guest, beside its disks and interfaces, that take a port: the random numbers.
const OTHERS: usize = 1;

/// Ports for devices that are plugged into a guest while it runs. The machine has no other place for them, and none
/// that can be added later; each costs the boot of an emulated guest some hundredths of a second.
const SPARE: usize = 4;

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
}

type Out = Writer<Vec<u8>>;

/// The XML that defines a guest.
pub(super) fn domain(spec: &DomainSpec, host: &HostFacts<'_>) -> io::Result<String> {
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
            firmware(out, spec)?;
            processor(out, host)?;
            empty(out, "clock", &[("offset", "utc")])?;
            text(out, "on_poweroff", "destroy")?;
            text(out, "on_reboot", "restart")?;
            text(out, "on_crash", "destroy")?;
            out.create_element("devices")
                .write_inner_content(|out| devices(out, spec, host))?;
            if let Some(GuestUser { uid, gid }) = host.user {
                out.create_element("seclabel")
                    .with_attributes([("type", "static"), ("model", "dac"), ("relabel", "yes")])
                    .write_inner_content(|out| text(out, "label", &format!("+{uid}:+{gid}")))?;
            }
            Ok(())
        })?;
    String::from_utf8(out.into_inner()).map_err(io::Error::other)
}

fn text(out: &mut Out, name: &str, content: &str) -> io::Result<()> {
    out.create_element(name)
        .write_text_content(BytesText::new(content))
        .map(drop)
}

fn empty(out: &mut Out, name: &str, attributes: &[(&str, &str)]) -> io::Result<()> {
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
fn path(path: &std::path::Path) -> io::Result<String> {
    let text = path
        .to_str()
        .ok_or_else(|| io::Error::other("a path is not UTF-8"))?;
    Ok(text.to_owned())
}

/// Machine and SMBIOS strings: stock cloud-init takes the guest for one of EC2 when uuid and serial begin
/// with `ec2` and are equal.
fn firmware(out: &mut Out, spec: &DomainSpec) -> io::Result<()> {
    out.create_element("os").write_inner_content(|out| {
        out.create_element("type")
            .with_attributes([("arch", ARCHITECTURE), ("machine", MACHINE)])
            .write_text_content(BytesText::new("hvm"))?;
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

fn devices(out: &mut Out, spec: &DomainSpec, host: &HostFacts<'_>) -> io::Result<()> {
    for each in &spec.disks {
        disk(out, each, &each.target, host.bounds)?;
    }
    for each in &spec.nics {
        nic(out, each)?;
    }
    empty(out, "controller", &[("type", "usb"), ("model", "none")])?;
    // Each device of the guest's takes a port, the last ones wait for what is plugged in while it runs.
    empty(
        out,
        "controller",
        &[("type", "pci"), ("index", "0"), ("model", "pcie-root")],
    )?;
    for _ in 0..spec.disks.len() + spec.nics.len() + OTHERS + SPARE {
        empty(out, "controller", &[("type", "pci"), ("model", "pcie-root-port")])?;
    }
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
    // Without a path libvirt puts the socket where only it and the guest's process get.
    out.create_element("graphics")
        .with_attribute(("type", "vnc"))
        .write_inner_content(|out| empty(out, "listen", &[("type", "socket")]))?;
    out.create_element("video")
        .write_inner_content(|out| empty(out, "model", &[("type", "vga"), ("vram", "16384")]))?;
    out.create_element("rng")
        .with_attribute(("model", "virtio"))
        .write_inner_content(|out| {
            out.create_element("backend")
                .with_attribute(("model", "random"))
                .write_text_content(BytesText::new("/dev/urandom"))
                .map(drop)
        })?;
    empty(out, "memballoon", &[("model", "none")])
}

/// A disk by itself, to be plugged in under this name on the bus.
pub(super) fn disk_alone(each: &DomainDisk, target: &str, bounds: Bounds) -> io::Result<String> {
    let mut out = Writer::new(Vec::new());
    // What is plugged in is not booted from: the order is decided when a guest starts.
    let each = DomainDisk {
        boot: None,
        ..each.clone()
    };
    disk(&mut out, &each, target, bounds)?;
    String::from_utf8(out.into_inner()).map_err(io::Error::other)
}

/// An interface by itself.
pub(super) fn nic_alone(each: &DomainNic) -> io::Result<String> {
    let mut out = Writer::new(Vec::new());
    nic(&mut out, each)?;
    String::from_utf8(out.into_inner()).map_err(io::Error::other)
}

/// As much of a disk as libvirt needs to find it.
pub(super) fn disk_named(file: &std::path::Path, target: &str) -> io::Result<String> {
    let mut out = Writer::new(Vec::new());
    out.create_element("disk")
        .with_attributes([("type", "file"), ("device", "disk")])
        .write_inner_content(|out| {
            empty(out, "source", &[("file", &path(file)?)])?;
            empty(out, "target", &[("dev", target), ("bus", "virtio")])
        })?;
    String::from_utf8(out.into_inner()).map_err(io::Error::other)
}

/// As much of an interface as libvirt needs to find it.
pub(super) fn nic_named(mac: Mac) -> String {
    format!(r#"<interface type="ethernet"><mac address="{mac}"/></interface>"#)
}

fn disk(out: &mut Out, disk: &DomainDisk, target: &str, bounds: Bounds) -> io::Result<()> {
    out.create_element("disk")
        .with_attributes([("type", "file"), ("device", "disk")])
        .write_inner_content(|out| {
            empty(
                out,
                "driver",
                &[
                    ("name", "qemu"),
                    ("type", disk.format.name()),
                    ("cache", "writeback"),
                    ("error_policy", "report"),
                    ("discard", "unmap"),
                ],
            )?;
            empty(out, "source", &[("file", &path(&disk.path)?)])?;
            match &disk.backing {
                Some((file, format)) => backing(out, file, *format)?,
                None => empty(out, "backingStore", &[])?,
            }
            empty(out, "target", &[("dev", target), ("bus", "virtio")])?;
            throttle(out, bounds, disk.throttle)?;
            text(out, "serial", &disk.serial)?;
            match disk.boot {
                Some(order) => empty(out, "boot", &[("order", &order.to_string())]),
                None => Ok(()),
            }
        })
        .map(drop)
}

/// What of the host's disks a guest may use for one of its own, read and written together: the host's bound or the
/// disk's, whichever is less.
fn throttle(out: &mut Out, bounds: Bounds, own: Throttle) -> io::Result<()> {
    let least = |host: u64, own: Option<u64>| match own {
        Some(own) if host == 0 || own < host => own,
        _ => host,
    };
    let limits = [
        ("total_bytes_sec", least(bounds.disk_bytes, own.bytes)),
        ("total_iops_sec", least(bounds.disk_operations, own.operations)),
    ];
    if limits.iter().all(|(_, most)| *most == 0) {
        return Ok(());
    }
    out.create_element("iotune")
        .write_inner_content(|out| {
            let mut limits = limits.iter().filter(|(_, most)| *most != 0);
            limits.try_for_each(|(name, most)| text(out, name, &most.to_string()))
        })
        .map(drop)
}

/// The chain below a disk, told to its end, so that nothing is probed. Images are the guests' group's to read and
/// shared by guests: their owner is not changed.
fn backing(out: &mut Out, file: &std::path::Path, format: DiskFormat) -> io::Result<()> {
    out.create_element("backingStore")
        .with_attribute(("type", "file"))
        .write_inner_content(|out| {
            empty(out, "format", &[("type", format.name())])?;
            out.create_element("source")
                .with_attribute(("file", path(file)?.as_str()))
                .write_inner_content(|out| empty(out, "seclabel", &[("model", "dac"), ("relabel", "no")]))?;
            empty(out, "backingStore", &[])
        })
        .map(drop)
}

fn nic(out: &mut Out, nic: &DomainNic) -> io::Result<()> {
    out.create_element("interface")
        .with_attribute(("type", "ethernet"))
        .write_inner_content(|out| {
            empty(out, "mac", &[("address", &nic.mac.to_string())])?;
            empty(out, "target", &[("dev", &nic.tap), ("managed", "no")])?;
            empty(out, "model", &[("type", "virtio")])
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
    use cumulet_domain::{id::InstanceId, network::Mac};

    use super::*;

    fn spec() -> DomainSpec {
        DomainSpec {
            instance: InstanceId::new(0x0123_4567_89ab_cdef),
            generation: 3,
            instance_type: "t3.micro".into(),
            vcpus: 2,
            memory_mib: 1024,
            disks: vec![DomainDisk {
                path: "/s/instances/i-0/disk.qcow2".into(),
                format: DiskFormat::Qcow2,
                backing: Some(("/s/cache/ab".into(), DiskFormat::Raw)),
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
    };

    #[test]
    fn the_domain_is_as_kept() {
        let made = domain(&spec(), &HOST).unwrap();
        assert_eq!(made.trim(), include_str!("domain.golden.xml").trim());
    }

    #[test]
    fn what_is_not_bounded_is_not_in_the_domain() {
        let host = HostFacts {
            bounds: Bounds::default(),
            user: None,
            ..HOST
        };
        let made = domain(&spec(), &host).unwrap();
        for element in ["memtune", "iotune", "+1900000007"] {
            assert!(!made.contains(element), "{element}");
        }
        let bounds = Bounds {
            disk_operations: 100,
            ..Bounds::default()
        };
        let made = domain(&spec(), &HostFacts { bounds, ..HOST }).unwrap();
        assert!(made.contains("<total_iops_sec>100<") && !made.contains("total_bytes_sec"));
        let mut slow = spec();
        slow.disks[0].throttle = Throttle {
            bytes: Some(7),
            operations: Some(200),
        };
        let made = domain(&slow, &HostFacts { bounds, ..HOST }).unwrap();
        assert!(
            made.contains("<total_bytes_sec>7<"),
            "its own where the host has none"
        );
        assert!(
            made.contains("<total_iops_sec>100<"),
            "the host's where it is less"
        );
    }

    #[test]
    fn the_terminal_is_found() {
        let live = "<domain><devices><disk><serial>vol0</serial></disk><serial type='pty'>\
            <source path='/dev/pts/3'/><log file='/x' append='on'/></serial>\
            <console type='pty'><source path='/dev/pts/4'/></console></devices></domain>";
        assert_eq!(serial_terminal(live), Some("/dev/pts/3".into()));
        let of_before = live.replace("<serial type='pty'>", "<serial type='file'>");
        for none in [of_before.as_str(), "", "<", &domain(&spec(), &HOST).unwrap()] {
            assert_eq!(serial_terminal(none), None, "{none}");
        }
    }

    #[test]
    fn ownership_reads_back() {
        let made = domain(&spec(), &HOST).unwrap();
        let element = made.lines().find(|l| l.contains("cumulet:instance")).unwrap();
        let read = read_ownership(element).unwrap();
        assert_eq!(read.cloud, "cloud1");
        assert_eq!(read.console, spec().console_log);
        for other in ["", "<instance/>", "<a cloud='x'/>", "<", "text"] {
            assert_eq!(read_ownership(other), None, "{other}");
        }
    }
}
