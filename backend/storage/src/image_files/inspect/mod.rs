//! The inspection of image files: what a file is, decided from its bytes, and whether it is safe to give to
//! QEMU. Written here, in safe Rust, because `qemu-img` follows what a file names: a backing file, a data
//! file, a parent, an extent. What was declared and what is found must agree, and only disks that are one file pass.
//! Each format has a file of its own; what they read is bounded (`bytes.rs`).

mod bytes;
mod magic;
mod qcow2;
#[cfg(test)]
mod tests;
mod vhd;
mod vhdx;
mod vhdx_metadata;
mod vmdk;

use std::io::{self, Read, Seek};

use cumulet_domain::image::FileFormat;

use bytes::Bytes;
use magic::{QCOW2, VHD, VHDX, VMDK, marks};

/// The largest disk that an image may describe: 16 TiB, EBS's limit for a volume.
const MAX_VIRTUAL: u64 = 16 << 40;

/// A file that passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inspected {
    /// What it is.
    pub format: FileFormat,
    /// The size of the disk that it describes, in bytes.
    pub virtual_bytes: u64,
}

/// Why a file may not be imported.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Rejected {
    #[error("the file could not be read or copied: {0}")]
    Io(#[from] io::Error),
    #[error("the file is empty")]
    Empty,
    #[error("the file is {found}, not {declared}; {right}")]
    NotAsDeclared {
        found: &'static str,
        declared: &'static str,
        right: String,
    },
    #[error(
        "the file is {0}; only raw, qcow2, VMDK, VHD and VHDX can be imported (convert it with qemu-img convert -O qcow2)"
    )]
    Unsupported(&'static str),
    #[error("the file is {0} and {1} at a time")]
    Both(&'static str, &'static str),
    #[error("this {format} {why}")]
    Unsafe { format: &'static str, why: String },
    #[error("it could not be converted: {0}")]
    Conversion(String),
}

/// What marks each format that can be imported; raw has none.
const MARKED: [(FileFormat, &str); 4] = [
    (FileFormat::Qcow2, QCOW2),
    (FileFormat::Vmdk, VMDK),
    (FileFormat::Vhd, VHD),
    (FileFormat::Vhdx, VHDX),
];

/// Looks at a file that was declared to be `declared`.
///
/// # Errors
/// [`Rejected`], with the reason in words.
pub fn inspect(file: &mut (impl Read + Seek), declared: FileFormat) -> Result<Inspected, Rejected> {
    let mut file = Bytes::new(file, called(declared))?;
    if file.length == 0 {
        return Err(Rejected::Empty);
    }
    agree(&marks(&mut file)?, declared)?;
    let virtual_bytes = match declared {
        FileFormat::Raw => file.length.next_multiple_of(512),
        FileFormat::Qcow2 => qcow2::inspect(&mut file)?,
        FileFormat::Vmdk => vmdk::inspect(&mut file)?,
        FileFormat::Vhd => vhd::inspect(&mut file)?,
        FileFormat::Vhdx => vhdx::inspect(&mut file)?,
    };
    Ok(Inspected {
        format: declared,
        virtual_bytes,
    })
}

/// How an error calls a format.
const fn called(format: FileFormat) -> &'static str {
    match format {
        FileFormat::Raw => "raw disk",
        FileFormat::Qcow2 => "qcow2",
        FileFormat::Vmdk => "VMDK",
        FileFormat::Vhd => "VHD",
        FileFormat::Vhdx => "VHDX",
    }
}

/// The file has the mark of what it was declared to be, and no other.
fn agree(found: &[&'static str], declared: FileFormat) -> Result<(), Rejected> {
    let own = MARKED.iter().find(|(format, _)| *format == declared);
    let own = own.map(|(_, name)| *name);
    let format_of = |mark| MARKED.iter().find(|(_, name)| *name == mark);
    let not_declared = |found, right| Rejected::NotAsDeclared {
        found,
        declared: declared.name(),
        right,
    };
    match (own, found) {
        (None, []) => Ok(()),
        (Some(own), [found]) if own == *found => Ok(()),
        (_, [one, other, ..]) => Err(Rejected::Both(one, other)),
        (_, [found]) => Err(match format_of(*found) {
            Some((format, name)) => not_declared(name, format!("say --format {format}")),
            None => Rejected::Unsupported(found),
        }),
        (Some(_), []) => Err(not_declared(
            "of no known format by its first bytes",
            "if it is the plain bytes of a disk, say --format raw".to_owned(),
        )),
    }
}
