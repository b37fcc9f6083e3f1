//! The element of a disk in a domain's XML: its file and those below, how it is opened, and what it may do in a second.

use std::io;

use cumulet_domain::spec::Throttle;
use quick_xml::Writer;

use super::{
    disk_io::DiskIo,
    guests::Bounds,
    secrets::encryption,
    xml::{Out, VIRTIO, empty, in_slot, path, text},
};
use crate::{Backing, DomainDisk};

/// The thread of a guest's disks, by its number among the guest's.
const THREAD: &str = "1";

/// How a disk is in its guest: what its specification does not say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setting<'a> {
    /// Its name on the bus.
    pub(super) target: &'a str,
    /// What it may use of the host.
    pub(super) bounds: Bounds,
    /// Its slot; without one libvirt finds a place for it.
    pub(super) slot: Option<u8>,
    /// How its files are read and written.
    pub(super) io: DiskIo,
    /// The guest has a thread for its disks.
    pub(super) has_thread: bool,
}

/// A disk by itself, to be plugged in.
pub(super) fn disk_alone(each: &DomainDisk, setting: Setting<'_>) -> io::Result<String> {
    let mut out = Writer::new(Vec::new());
    // What is plugged in is not booted from: the order is decided when a guest starts.
    let each = DomainDisk {
        boot: None,
        ..each.clone()
    };
    disk(&mut out, &each, setting)?;
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

/// A disk of a guest.
pub(super) fn disk(out: &mut Out, disk: &DomainDisk, setting: Setting<'_>) -> io::Result<()> {
    out.create_element("disk")
        .with_attributes([("type", "file"), ("device", "disk"), ("model", VIRTIO)])
        .write_inner_content(|out| {
            driver(out, disk, setting)?;
            let uuid = disk.secret.as_ref().map(|secret| secret.uuid.as_str());
            source(out, &disk.path, uuid)?;
            match &disk.backing {
                Some(below) => backing(out, below, uuid.filter(|_| below.encrypted))?,
                None => empty(out, "backingStore", &[])?,
            }
            empty(out, "target", &[("dev", setting.target), ("bus", "virtio")])?;
            throttle(out, setting.bounds, disk.throttle)?;
            text(out, "serial", &disk.serial)?;
            if let Some(order) = disk.boot {
                empty(out, "boot", &[("order", &order.to_string())])?;
            }
            in_slot(out, setting.slot)
        })
        .map(drop)
}

/// How a disk's files are read and written, and what becomes of what fails there. What the guest discards is the
/// host's again.
fn driver(out: &mut Out, disk: &DomainDisk, setting: Setting<'_>) -> io::Result<()> {
    let (cache, interface) = setting.io.words();
    let attributes = [
        ("name", "qemu"),
        ("type", disk.format.name()),
        ("cache", cache),
        ("error_policy", "report"),
        ("io", interface),
        ("discard", "unmap"),
    ];
    let thread = setting.has_thread.then_some(("iothread", THREAD));
    out.create_element("driver")
        .with_attributes(attributes.into_iter().chain(thread))
        .write_empty()
        .map(drop)
}

/// The file of a disk, and what it is opened with.
fn source(out: &mut Out, file: &std::path::Path, secret: Option<&str>) -> io::Result<()> {
    let file = path(file)?;
    let Some(uuid) = secret else {
        return empty(out, "source", &[("file", &file)]);
    };
    out.create_element("source")
        .with_attribute(("file", file.as_str()))
        .write_inner_content(|out| encryption(out, uuid))
        .map(drop)
}

/// What of the host's disks a guest may use for one of its own, read and written together: the host's bound or the
/// disk's, whichever is less.
fn throttle(out: &mut Out, bounds: Bounds, own: Throttle) -> io::Result<()> {
    let most = bounded(bounds, own);
    if most == Throttle::default() {
        return Ok(());
    }
    let limits = [(TOTAL_BYTES, most.bytes), (TOTAL_OPERATIONS, most.operations)];
    out.create_element("iotune")
        .write_inner_content(|out| {
            let mut limits = limits.iter().filter_map(|(name, most)| Some((name, (*most)?)));
            limits.try_for_each(|(name, most)| text(out, name, &most.to_string()))
        })
        .map(drop)
}

/// Elements of a disk's bounds.
pub(super) const TOTAL_BYTES: &str = "total_bytes_sec";
pub(super) const TOTAL_OPERATIONS: &str = "total_iops_sec";

/// The host's bounds or a disk's own, whichever are less.
pub(super) fn bounded(bounds: Bounds, own: Throttle) -> Throttle {
    let least = |host: u64, own: Option<u64>| match own {
        Some(own) if host == 0 || own < host => Some(own),
        _ => (host != 0).then_some(host),
    };
    Throttle {
        bytes: least(bounds.disk_bytes, own.bytes),
        operations: least(bounds.disk_operations, own.operations),
    }
}

/// The chain below a disk, told to its end, so that nothing is probed. Images are the guests' group's to read and
/// shared by guests: their owner is not changed.
fn backing(out: &mut Out, below: &Backing, secret: Option<&str>) -> io::Result<()> {
    out.create_element("backingStore")
        .with_attribute(("type", "file"))
        .write_inner_content(|out| {
            empty(out, "format", &[("type", below.format.name())])?;
            out.create_element("source")
                .with_attribute(("file", path(&below.path)?.as_str()))
                .write_inner_content(|out| {
                    empty(out, "seclabel", &[("model", "dac"), ("relabel", "no")])?;
                    secret.map_or(Ok(()), |uuid| encryption(out, uuid))
                })?;
            empty(out, "backingStore", &[])
        })
        .map(drop)
}

#[cfg(test)]
mod tests {
    use cumulet_domain::image::DiskFormat;

    use super::*;

    #[test]
    fn a_disk_is_written_as_its_guest_and_its_host_can_have_it() {
        let each = DomainDisk {
            path: "/s/volumes/vol-0.raw".into(),
            format: DiskFormat::Raw,
            backing: None,
            secret: None,
            bytes: 1 << 30,
            target: "vdc".into(),
            serial: "vol00123456789abcdef".into(),
            boot: Some(1),
            throttle: Throttle::default(),
        };
        let written = |io, has_thread| {
            let setting = Setting {
                target: "vdb",
                bounds: Bounds::default(),
                slot: Some(2),
                io,
                has_thread,
            };
            disk_alone(&each, setting).unwrap()
        };
        for (io, has_thread, driver) in [
            (
                DiskIo::Uring,
                true,
                r#"cache="none" error_policy="report" io="io_uring" discard="unmap" iothread="1"/>"#,
            ),
            (
                DiskIo::Native,
                false,
                r#"cache="none" error_policy="report" io="native" discard="unmap"/>"#,
            ),
            (
                DiskIo::Buffered,
                false,
                r#"cache="writeback" error_policy="report" io="threads" discard="unmap"/>"#,
            ),
        ] {
            let made = written(io, has_thread);
            assert!(made.contains(driver), "{made}");
            assert!(made.contains(r#"dev="vdb""#) && !made.contains("boot"), "{made}");
        }
    }
}
