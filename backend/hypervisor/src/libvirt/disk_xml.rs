//! The element of a disk in a domain's XML: its file and those below, or its image, how it is opened, and what it may do
//! in a second.

use std::{
    io,
    path::{Path, PathBuf},
};

use cumulet_domain::spec::Throttle;
use quick_xml::Writer;

use super::{
    disk_io::DiskIo,
    guests::Bounds,
    secrets::{Access, encryption},
    tree::Element,
    xml::{Out, VIRTIO, empty, in_slot, path, text},
};
use crate::{Backing, DomainDisk, RbdImage};

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
    /// How its process gets to images in the pool; `None`: it doesn't.
    pub(super) access: Option<Access<'a>>,
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
pub(super) fn disk_named(place: &Path, target: &str) -> io::Result<String> {
    let mut out = Writer::new(Vec::new());
    let image = RbdImage::of(place);
    out.create_element("disk")
        .with_attributes([("type", kind(image.as_ref())), ("device", "disk")])
        .write_inner_content(|out| {
            match &image {
                Some(image) => empty(
                    out,
                    "source",
                    &[("protocol", PROTOCOL), ("name", &image.to_string())],
                )?,
                None => empty(out, "source", &[("file", &path(place)?)])?,
            }
            empty(out, "target", &[("dev", target), ("bus", "virtio")])
        })?;
    String::from_utf8(out.into_inner()).map_err(io::Error::other)
}

/// What libvirt calls the protocol of images.
const PROTOCOL: &str = "rbd";

/// The kind of a disk's source.
const fn kind(image: Option<&RbdImage>) -> &'static str {
    match image {
        Some(_) => "network",
        None => "file",
    }
}

/// The place of a disk, out of its element; `None` for one that is not as we make them.
pub(super) fn place(disk: &Element) -> Option<PathBuf> {
    let source = disk.at(&["source"])?;
    if let Some(file) = source.attribute("file") {
        return Some(file.into());
    }
    source.attribute("protocol").filter(|of| *of == PROTOCOL)?;
    Some(RbdImage::named(source.attribute("name")?)?.place())
}

/// A disk of a guest.
pub(super) fn disk(out: &mut Out, disk: &DomainDisk, setting: Setting<'_>) -> io::Result<()> {
    let image = RbdImage::of(&disk.path);
    let kind = kind(image.as_ref());
    out.create_element("disk")
        .with_attributes([("type", kind), ("device", "disk"), ("model", VIRTIO)])
        .write_inner_content(|out| {
            driver(out, disk, setting)?;
            let uuid = disk.secret.as_ref().map(|secret| secret.uuid.as_str());
            match &image {
                Some(image) => in_pool(out, image, setting.access, uuid)?,
                None => source(out, &disk.path, uuid)?,
            }
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
/// host's, or the pool's, again.
fn driver(out: &mut Out, disk: &DomainDisk, setting: Setting<'_>) -> io::Result<()> {
    let (cache, interface) = setting.io.words();
    let attributes = [
        ("name", "qemu"),
        ("type", disk.format.name()),
        ("cache", cache),
        ("error_policy", "report"),
    ];
    let interface = interface.map(|interface| ("io", interface));
    let thread = setting.has_thread.then_some(("iothread", THREAD));
    let attributes = attributes.into_iter().chain(interface);
    out.create_element("driver")
        .with_attributes(attributes.chain([("discard", "unmap")]).chain(thread))
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

/// The image of a disk: who opens it, by which configuration, and what it is opened with.
fn in_pool(
    out: &mut Out,
    image: &RbdImage,
    access: Option<Access<'_>>,
    secret: Option<&str>,
) -> io::Result<()> {
    let none = || io::Error::other("a disk is an image in a pool, and the host is told of none");
    let access = access.ok_or_else(none)?;
    access.written(out)?;
    let (name, config) = (image.to_string(), path(&access.client.config)?);
    out.create_element("source")
        .with_attributes([("protocol", PROTOCOL), ("name", name.as_str())])
        .write_inner_content(|out| {
            empty(out, "config", &[("file", &config)])?;
            secret.map_or(Ok(()), |uuid| encryption(out, uuid))
        })
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
    use cumulet_certs::{DiskKey, SecretBytes};
    use cumulet_domain::{id::InstanceId, image::DiskFormat};
    use rand::SeedableRng as _;

    use super::*;
    use crate::{CephClient, DiskSecret, libvirt::tree};

    /// An image is told with its user's secret and the configuration, in all that libvirt takes; the key is nowhere.
    #[test]
    fn an_image_is_opened_by_its_pools_user() {
        let client = CephClient {
            user: "cloud".into(),
            config: "/s/hosts/one/ceph & guests.conf".into(),
            key: SecretBytes::new(b"canary".to_vec()),
        };
        let access = Access {
            client: &client,
            instance: InstanceId::new(0x0123_4567_89ab_cdef),
        };
        let setting = Setting {
            target: "vdb",
            bounds: Bounds::default(),
            slot: Some(2),
            io: DiskIo::Network,
            has_thread: true,
            access: Some(access),
        };
        let mut each = DomainDisk {
            path: "rbd:pool/vol-0.raw".into(),
            format: DiskFormat::Raw,
            backing: None,
            secret: None,
            bytes: 1 << 30,
            target: "vdb".into(),
            serial: "vol0".into(),
            boot: None,
            throttle: Throttle::default(),
        };
        let made = disk_alone(&each, setting).unwrap();
        let begins = r#"<disk type="network" device="disk" model="virtio-non-transitional"><driver name="qemu" type="raw" cache="none" error_policy="report" discard="unmap" iothread="1"/><auth username="cloud"><secret type="ceph" uuid="ec201234-5678-89ab-acde-f00000000000"/></auth><source protocol="rbd" name="pool/vol-0.raw"><config file="/s/hosts/one/ceph &amp; guests.conf"/></source><backingStore/>"#;
        assert!(made.starts_with(begins), "{made}");
        assert!(!made.contains("canary"));
        assert_eq!(place(&tree::parse(&made).unwrap()), Some(each.path.clone()));
        let named = disk_named(&each.path, "vdb").unwrap();
        let source = r#"<disk type="network" device="disk"><source protocol="rbd" name="pool/vol-0.raw"/>"#;
        assert!(named.starts_with(source), "{named}");
        assert_eq!(place(&tree::parse(&named).unwrap()), Some(each.path.clone()));
        let nobody = Setting {
            access: None,
            ..setting
        };
        assert!(disk_alone(&each, nobody).is_err());

        (each.path, each.format) = ("rbd:pool/vol-0.qcow2".into(), DiskFormat::Qcow2);
        each.secret = Some(DiskSecret {
            uuid: "d15".into(),
            key: DiskKey::generate(&mut rand::rngs::StdRng::seed_from_u64(1)),
        });
        let made = disk_alone(&each, setting).unwrap();
        let opened = r#"guests.conf"/><encryption format="luks"><secret type="passphrase" uuid="d15"/></encryption></source>"#;
        assert!(made.contains(opened), "{made}");
    }

    /// What is not as we make it is no disk of ours.
    #[test]
    fn a_place_is_read_where_there_is_one() {
        let read = |source: &str| place(&tree::parse(&format!("<disk>{source}</disk>")).unwrap());
        assert_eq!(read("<source file='/v/1'/>"), Some("/v/1".into()));
        for none in [
            "",
            "<source/>",
            "<source dev='/dev/sda'/>",
            "<source protocol='nbd' name='pool/a'/>",
            "<source protocol='rbd'/>",
            "<source protocol='rbd' name='a'/>",
        ] {
            assert_eq!(read(none), None, "{none}");
        }
    }

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
                access: None,
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
