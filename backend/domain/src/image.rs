//! Machine images.

use serde::{Deserialize, Serialize};

use crate::id::ImageId;

/// How an image's or a disk's bytes are laid out. Always known from the database, never probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskFormat {
    /// The bytes of the disk.
    Raw,
    /// QEMU's copy-on-write format, version 2 or 3, self-contained.
    Qcow2,
}

impl DiskFormat {
    /// The name that QEMU and the database use.
    pub const fn name(self) -> &'static str {
        match self {
            DiskFormat::Raw => "raw",
            DiskFormat::Qcow2 => "qcow2",
        }
    }
}

impl std::str::FromStr for DiskFormat {
    type Err = crate::Error;

    fn from_str(text: &str) -> crate::Result<Self> {
        match text {
            "raw" => Ok(DiskFormat::Raw),
            "qcow2" => Ok(DiskFormat::Qcow2),
            other => Err(crate::Error::invalid("Format", other, "expecting raw or qcow2")),
        }
    }
}

/// An image as a host needs it: content, not name, decides what is cached.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ImageRef {
    /// Which image.
    pub id: ImageId,
    /// SHA-256 of the stored file, 64 lower-case hexadecimal digits.
    pub sha256: String,
    /// The stored file's format.
    pub format: DiskFormat,
    /// The stored file's size in bytes.
    pub size_bytes: u64,
    /// The size of the disk that it describes, in bytes.
    pub virtual_bytes: u64,
}
