//! The domain specification that a driver is given: a guest's devices and paths on this host.

use std::path::PathBuf;

use cumulet_certs::DiskKey;
use cumulet_domain::{
    id::InstanceId,
    image::DiskFormat,
    network::Mac,
    spec::{Throttle, smbios_uuid},
};

/// A guest, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainSpec {
    /// Whose guest.
    pub instance: InstanceId,
    /// The generation that it is started at.
    pub generation: u64,
    /// Shown in the SMBIOS tables as the product.
    pub instance_type: String,
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// The file of its UEFI's variables; `None`: it is started by BIOS.
    pub nvram: Option<PathBuf>,
    /// Its disks.
    pub disks: Vec<DomainDisk>,
    /// Its network interfaces, by device index.
    pub nics: Vec<DomainNic>,
    /// Where its serial console is written.
    pub console_log: PathBuf,
    /// The user number of its process, nobody else's on this host; `None`: the hypervisor's own user.
    pub uid: Option<u32>,
}

impl DomainSpec {
    /// The UUID and serial number that the guest sees.
    pub fn uuid(&self) -> String {
        smbios_uuid(self.instance)
    }
}

/// A disk of a guest. Formats are always told, never probed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainDisk {
    /// The file, absolute, or the image ([`crate::RbdImage`]): what tells one disk of a guest from another.
    pub path: PathBuf,
    /// The file's format.
    pub format: DiskFormat,
    /// The file below it.
    pub backing: Option<Backing>,
    /// What it is encrypted with; `None`: it is plain.
    pub secret: Option<DiskSecret>,
    /// Its size; what it really is, its file says.
    pub bytes: u64,
    /// Its name on the bus, such as `vda`; no other disk's of the guest.
    pub target: String,
    /// The serial number that the guest sees.
    pub serial: String,
    /// Its place among those that are booted from, from 1.
    pub boot: Option<u32>,
    /// What it may do in a second, if that is less than what the host lets every disk do.
    pub throttle: Throttle,
}

/// The file below a disk's, which has none below.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backing {
    /// The file, absolute.
    pub path: PathBuf,
    /// Its format.
    pub format: DiskFormat,
    /// It is encrypted as the disk is that lies over it.
    pub encrypted: bool,
}

/// What an encrypted disk is opened with: the disk's key, and the number that it is known to libvirt by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskSecret {
    /// A UUID, the same one every time for a volume.
    pub uuid: String,
    /// The key.
    pub key: DiskKey,
}

/// A network interface of a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainNic {
    /// Its Ethernet address.
    pub mac: Mac,
    /// The tap device, which exists.
    pub tap: String,
}
