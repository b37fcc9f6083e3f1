//! The domain specification that a driver is given: a guest's devices and paths on this host.

use std::path::PathBuf;

use cumulet_domain::{id::InstanceId, image::DiskFormat, network::Mac, spec::smbios_uuid};

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
    /// Its disks; the first one boots.
    pub disks: Vec<DiskSpec>,
    /// Its network interfaces, by device index.
    pub nics: Vec<NicSpec>,
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
pub struct DiskSpec {
    /// The file, absolute.
    pub path: PathBuf,
    /// The file's format.
    pub format: DiskFormat,
    /// The file below it and its format; that one has none below.
    pub backing: Option<(PathBuf, DiskFormat)>,
}

/// A network interface of a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NicSpec {
    /// Its Ethernet address.
    pub mac: Mac,
    /// The tap device, which exists.
    pub tap: String,
}
