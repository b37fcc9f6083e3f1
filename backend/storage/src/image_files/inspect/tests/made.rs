//! Files that `qemu-img` makes. Without it these tests say so and pass.

use std::{fs::File, path::Path, process::Command};

use cumulet_domain::image::FileFormat;

use crate::image_files::inspect::inspect;

/// Every kind that can be imported: our name, QEMU's, and its options.
const KINDS: [(FileFormat, &str, &str); 8] = [
    (FileFormat::Qcow2, "qcow2", "compat=1.1"),
    (FileFormat::Qcow2, "qcow2", "compat=0.10"),
    (FileFormat::Vmdk, "vmdk", "subformat=monolithicSparse"),
    (FileFormat::Vmdk, "vmdk", "subformat=streamOptimized"),
    (FileFormat::Vhd, "vpc", "subformat=fixed,force_size=on"),
    (FileFormat::Vhd, "vpc", "subformat=dynamic"),
    (FileFormat::Vhdx, "vhdx", "subformat=dynamic"),
    (FileFormat::Vhdx, "vhdx", "subformat=fixed"),
];

fn made(folder: &Path, kind: &str, options: &str, size: &str) -> Option<File> {
    let path = folder.join("disk");
    let mut command = Command::new("qemu-img");
    command
        .args(["create", "-q", "-f", kind, "-o", options])
        .arg(&path)
        .arg(size);
    let Ok(done) = command.status() else {
        eprintln!("skipped: there is no qemu-img");
        return None;
    };
    assert!(done.success(), "{kind}, {options}");
    Some(File::open(path).unwrap())
}

#[test]
fn what_qemu_img_makes_passes() {
    let dir = tempfile::tempdir().unwrap();
    for (format, kind, options) in KINDS {
        let Some(mut file) = made(dir.path(), kind, options, "64M") else {
            return;
        };
        let found = inspect(&mut file, format).unwrap_or_else(|error| panic!("{kind}, {options}: {error}"));
        // A VHD's size is rounded to its geometry, unless that is forced not to be.
        let size = 64 << 20;
        assert!(
            (size..size + (1 << 20)).contains(&found.virtual_bytes),
            "{kind}: {found:?}"
        );
    }
}

#[test]
fn a_disk_of_a_tebibyte_passes() {
    let dir = tempfile::tempdir().unwrap();
    for (format, kind, options) in KINDS
        .into_iter()
        .filter(|kind| !kind.2.contains("fixed") || kind.1 == "vpc")
    {
        let Some(mut file) = made(dir.path(), kind, options, "1T") else {
            return;
        };
        let found = inspect(&mut file, format).unwrap_or_else(|error| panic!("{kind}, {options}: {error}"));
        assert_eq!(found.virtual_bytes, 1 << 40, "{kind}, {options}");
    }
}

#[test]
fn other_kinds_of_a_vmdk_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for subformat in ["monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat"] {
        let Some(mut file) = made(dir.path(), "vmdk", &format!("subformat={subformat}"), "64M") else {
            return;
        };
        let told = inspect(&mut file, FileFormat::Vmdk).unwrap_err().to_string();
        assert!(told.contains("a VMDK descriptor"), "{subformat}: {told}");
    }
}
