//! What a file is by its first bytes, and a VHD by its last: every known format whose mark a file has. One with marks
//! of two is a file that two programs take for two things, and passes as neither.

use std::io::{Read, Seek};

use super::{Rejected, bytes::Bytes};

/// Formats by their first bytes (offset, mark, name).
pub(super) const MARKS: &[(u64, &[u8], &str)] = &[
    (0, b"QFI\xfb", QCOW2),
    (0, b"KDMV", VMDK),
    (0, b"COWD", "a VMDK of an ESX server"),
    (0, b"# Disk DescriptorFile", "a VMDK descriptor"),
    (0, b"vhdxfile", VHDX),
    (0, b"conectix", VHD),
    (0, b"QED\0", "a QED image"),
    (0, b"LUKS\xba\xbe", "a LUKS volume"),
    (0, b"WithoutFreeSpace", "a Parallels image"),
    (0, b"WithouFreSpacExt", "a Parallels image"),
    (0, b"Bochs Virtual HD Image", "a Bochs image"),
    (0, b"#!/bin/sh\n#V2.0 Format", "a cloop image"),
    (0, b"json:", "a QEMU file reference"),
    (0, b"OOOM", "a QEMU image"),
    (0x40, b"\x7f\x10\xda\xbe", "a VDI"),
    (257, b"ustar", "a tar archive"),
    (0, b"\x1f\x8b", "gzip data"),
    (0, b"\xfd7zXZ\0", "xz data"),
    (0, b"\x28\xb5\x2f\xfd", "zstd data"),
    (0, b"BZh", "bzip2 data"),
    (0, b"PK\x03\x04", "a ZIP archive"),
];

pub(super) const QCOW2: &str = "qcow2";
pub(super) const VMDK: &str = "a VMDK";
pub(super) const VHD: &str = "a VHD";
pub(super) const VHDX: &str = "a VHDX";

/// The names of all formats whose marks a file has.
pub(super) fn marks(file: &mut Bytes<'_, impl Read + Seek>) -> Result<Vec<&'static str>, Rejected> {
    let mut found = Vec::new();
    for (offset, mark, name) in MARKS {
        if file.read_if(*offset, mark.len())?.as_deref() == Some(*mark) {
            found.push(*name);
        }
    }
    // A fixed VHD is a raw disk with a footer, and QEMU would know it by that.
    if let Some(footer) = file.length.checked_sub(512).filter(|offset| *offset > 0)
        && file.read_if(footer, 8)?.as_deref() == Some(b"conectix")
        && !found.contains(&VHD)
    {
        found.push(VHD);
    }
    Ok(found)
}
