//! Machine images.

use serde::{Deserialize, Serialize};

use crate::{id::ImageId, named};

named! {
    /// How an image's or a disk's bytes are laid out. Always known from the database, never probed. The name is
    /// QEMU's.
    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    DiskFormat {
        /// The bytes of the disk.
        Raw = "raw",
        /// QEMU's copy-on-write format, version 2 or 3, self-contained.
        Qcow2 = "qcow2",
    }
}

named! {
    /// What a file is that an image is imported from, as whoever imports it says. Not what is kept: that is a
    /// [`DiskFormat`].
    FileFormat {
        /// The bytes of the disk.
        Raw = "raw",
        /// QEMU's copy-on-write format, version 2 or 3, self-contained.
        Qcow2 = "qcow2",
        /// VMware's, of one file: monolithic sparse or stream-optimised.
        Vmdk = "vmdk",
        /// Virtual PC's and older Hyper-V's, fixed or dynamic.
        Vhd = "vhd",
        /// Hyper-V's, without a parent.
        Vhdx = "vhdx",
    }
}

impl FileFormat {
    /// What is kept of such a file: it as it is, or what it is converted to.
    pub const fn kept(self) -> DiskFormat {
        match self {
            FileFormat::Raw => DiskFormat::Raw,
            FileFormat::Qcow2 | FileFormat::Vmdk | FileFormat::Vhd | FileFormat::Vhdx => DiskFormat::Qcow2,
        }
    }

    /// Whether the file is kept as it is.
    pub const fn is_kept_as_it_is(self) -> bool {
        matches!(self, FileFormat::Raw | FileFormat::Qcow2)
    }
}

named! {
    /// What machines an image is for, in EC2's terms. (What a host is, is its own word: [`crate::host::HostProfile`].)
    Architecture {
        X86_64 = "x86_64",
        Arm64 = "arm64",
    }
}

named! {
    /// Where an image is in its life, in EC2's terms.
    ImageState {
        Available = "available",
        /// The snapshots that it is made of are being taken.
        Pending = "pending",
        /// They could not be.
        Failed = "failed",
        /// Its owner keeps it from launches.
        Disabled = "disabled",
    }
}

named! {
    /// Whether an image may be deregistered, in EC2's terms. (That it may is nothing that is kept.)
    DeregistrationProtection {
        EnabledWithoutCooldown = "enabled-without-cooldown",
        /// For a day after it was switched off it may still not.
        EnabledWithCooldown = "enabled-with-cooldown",
    }
}

named! {
    /// How an image wants to be started, in EC2's terms.
    BootMode {
        LegacyBios = "legacy-bios",
        Uefi = "uefi",
        /// By UEFI where the instance's type has it. All types have.
        UefiPreferred = "uefi-preferred",
    }
}

named! {
    /// What a guest is started by. The name is that of EC2's boot mode.
    #[derive(Default, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    Firmware {
        #[default]
        LegacyBios = "legacy-bios",
        Uefi = "uefi",
    }
}

impl BootMode {
    /// What a guest of such an image is started by.
    pub const fn firmware(self) -> Firmware {
        match self {
            BootMode::LegacyBios => Firmware::LegacyBios,
            BootMode::Uefi | BootMode::UefiPreferred => Firmware::Uefi,
        }
    }
}

/// An image as a host needs it: content, not name, decides what is cached. One with a manifest is made of that, from the
/// store of snapshots, as a raw file; the others are files in the store of images.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ImageRef {
    /// Which image.
    pub id: ImageId,
    /// SHA-256 of the stored file, or of its manifest where it has one, in 64 lower-case hexadecimal digits.
    pub sha256: String,
    /// Whether `sha256` is a manifest's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub from_snapshot: bool,
    /// Whether what the manifest has is encrypted, with the key of the volume that starts as the image.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub encrypted: bool,
    /// The stored file's format.
    pub format: DiskFormat,
    /// The stored file's size in bytes.
    pub size_bytes: u64,
    /// The size of the disk that it describes, in bytes.
    pub virtual_bytes: u64,
}

impl ImageRef {
    /// The format that a host keeps it in. One that is encrypted is never raw: where a raw file has nothing, its key would
    /// make noise of that.
    pub const fn kept_as(&self) -> DiskFormat {
        match self.encrypted {
            true => DiskFormat::Qcow2,
            false => self.format,
        }
    }
}
