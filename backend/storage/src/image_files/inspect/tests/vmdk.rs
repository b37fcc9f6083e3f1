//! VMDK: hand-made files.

use cumulet_domain::image::FileFormat;

use super::{look, put, refused};

const DESCRIPTOR: &str = "# Disk DescriptorFile\nversion=1\nCID=89da7580\nparentCID=ffffffff\n\
    createType=\"monolithicSparse\"\n\n# Extent description\nRW 2048 SPARSE \"disk.vmdk\"\n\n\
    ddb.adapterType = \"ide\"\n";

/// A monolithic sparse one of 1 MiB, with two directories and their tables.
pub(super) fn good() -> Vec<u8> {
    let mut bytes = vec![0; 64 << 10];
    header(&mut bytes, 0, 3, 26);
    put(&mut bytes, 512, DESCRIPTOR.as_bytes());
    put(&mut bytes, 21 * 512, &22_u32.to_le_bytes());
    put(&mut bytes, 26 * 512, &27_u32.to_le_bytes());
    bytes
}

fn header(bytes: &mut [u8], at: usize, flags: u32, directory: u64) {
    put(bytes, at, b"KDMV\x01\0\0\0");
    put(bytes, at + 8, &flags.to_le_bytes());
    for (place, value) in [
        (12, 2048_u64),
        (20, 128),
        (28, 1),
        (36, 20),
        (48, 21),
        (56, directory),
        (64, 128),
    ] {
        put(bytes, at + place, &value.to_le_bytes());
    }
    put(bytes, at + 44, &512_u32.to_le_bytes());
    put(bytes, at + 73, b"\n \r\n");
    put(bytes, at + 77, &u16::from(flags & 1 << 16 != 0).to_le_bytes());
}

/// One that is sent: its directory is told by a header at its end.
fn sent() -> Vec<u8> {
    let (mut bytes, flags) = (good(), 1 | 1 << 16 | 1 << 17);
    header(&mut bytes, 0, flags, u64::MAX);
    put(
        &mut bytes,
        512,
        DESCRIPTOR
            .replace("monolithicSparse", "streamOptimized")
            .as_bytes(),
    );
    let end = bytes.len() - 1536;
    put(&mut bytes, end + 12, &[3]);
    header(&mut bytes, end + 512, flags, 26);
    bytes
}

fn with(at: usize, value: &[u8]) -> Vec<u8> {
    let mut bytes = good();
    put(&mut bytes, at, value);
    bytes
}

fn saying(old: &str, new: &str) -> Vec<u8> {
    let text = DESCRIPTOR.replace(old, new);
    assert!(text != DESCRIPTOR, "{old}");
    let mut bytes = good();
    bytes[512..512 + 20 * 512].fill(0);
    put(&mut bytes, 512, text.as_bytes());
    bytes
}

#[test]
fn a_vmdk_of_one_file_passes() {
    let sizes = [
        good(),
        sent(),
        saying("disk.vmdk", "of another day.vmdk"),
        saying("ffffffff", "FFFFFFFF"),
    ];
    for file in sizes {
        assert_eq!(
            look(file, FileFormat::Vmdk).map(|found| found.virtual_bytes),
            Ok(1 << 20)
        );
    }
}

#[test]
fn a_vmdk_that_names_anything_else_is_refused() {
    let extent = "RW 2048 SPARSE \"disk.vmdk\"";
    let mut cases = vec![
        ("a parent", saying("ffffffff", "89da7580")),
        (
            "a parent",
            saying(
                "parentCID=ffffffff\n",
                "parentCID=ffffffff\nparentFileNameHint=\"/etc/shadow\"\n",
            ),
        ),
        ("does not say", saying("parentCID=ffffffff\n", "")),
        (
            "two of parentCID",
            saying("version=1\n", "version=1\nparentCID=ffffffff\n"),
        ),
        (
            "two of createType",
            saying("version=1\n", "version=1\ncreateType=\"streamOptimized\"\n"),
        ),
        (
            "changeTrackPath",
            saying("version=1\n", "version=1\nchangeTrackPath=\"/etc/shadow\"\n"),
        ),
        (
            "2 extents",
            saying(extent, &format!("{extent}\nRW 1 FLAT \"/etc/shadow\" 0")),
        ),
        ("0 extents", saying(extent, "")),
    ];
    let kinds = [
        "monolithicFlat",
        "twoGbMaxExtentSparse",
        "twoGbMaxExtentFlat",
        "vmfs",
        "vmfsSparse",
        "vmfsRDM",
        "vmfsRawDeviceMap",
        "vmfsPassthroughRawDeviceMap",
        "fullDevice",
        "partitionedDevice",
        "custom",
        "",
    ];
    cases.extend(kinds.map(|kind| ("of the kind", saying("monolithicSparse", kind))));
    let extents = [
        "RW 2048 FLAT \"disk.vmdk\" 0",
        "RW 2048 ZERO",
        "RW 2048 VMFS \"disk.vmdk\"",
        "RW 2048 VMFSRDM \"disk.vmdk\"",
        "RW 2048 SPARSE \"/etc/shadow\"",
        "RW 2048 SPARSE \"../disk.vmdk\"",
        "RW 2048 SPARSE \"nbd:localhost:10809\"",
        "RW 2048 SPARSE \"..\"",
        "RW 2048 SPARSE \"\"",
        "RW 2048 SPARSE disk.vmdk",
        "RW 2048 SPARSE \"disk.vmdk\" 4096",
        "RW 4096 SPARSE \"disk.vmdk\"",
        "NOACCESS 2048 SPARSE \"disk.vmdk\"",
        "RW 2048 SPARSE \"a.vmdk\" \"b.vmdk\"",
    ];
    cases.extend(extents.map(|other| ("not the file itself", saying(extent, other))));
    refused(FileFormat::Vmdk, cases);
    // QEMU looks for a parent in twenty sectors, whatever the header says of the descriptor's size.
    let mut hidden = with(36, &1_u64.to_le_bytes());
    put(&mut hidden, 512 + 19 * 512, b"parentFileNameHint=\"/etc/shadow\"");
    refused(FileFormat::Vmdk, vec![("names a parent", hidden)]);
}

#[test]
fn a_vmdk_whose_header_lies_is_refused() {
    let long = |value: u64| value.to_le_bytes();
    let mut text = good();
    put(&mut text, 73, b"\n \n\n");
    let mut footer = sent();
    let end = footer.len() - 1024;
    put(&mut footer, end + 12, &long(4096));
    let mut open = sent();
    put(&mut open, end + 56, &long(u64::MAX));
    let mut lost = sent();
    put(&mut lost, end - 500, &[9]);
    refused(
        FileFormat::Vmdk,
        vec![
            ("version 4", with(4, &[4])),
            ("flags", with(8, &[3, 1])),
            ("a disk of 0", with(12, &long(0))),
            ("a disk of", with(12, &long(1 << 60))),
            ("grains", with(20, &long(0))),
            ("grains", with(20, &long(127))),
            ("grains", with(20, &long(1 << 40))),
            ("descriptor of", with(28, &long(0))),
            ("descriptor of", with(28, &long(1 << 60))),
            ("descriptor of", with(36, &long(u64::MAX))),
            ("entries", with(44, &[0, 4])),
            ("not closed", with(72, &[1])),
            ("compressed", with(77, &[1])),
            ("compressed", with(10, &[1])),
            ("transfer as text", text),
            ("directory that is not", with(56, &long(5))),
            ("directory that is not", with(56, &long(u64::MAX - 1))),
            ("inside its grain directory", with(56, &long(1 << 40))),
            ("inside its grain directory", with(48, &long(1 << 40))),
            ("no footer", with(56, &long(u64::MAX))),
            ("does not fit its header", footer),
            ("does not fit its header", open),
            ("no footer", lost),
            ("grain table at sector", with(26 * 512, &[255; 4])),
            ("grain table at sector", with(21 * 512, &[3, 0])),
        ],
    );
    // A directory of 16 TiB in small grains is larger than what is read of any file.
    let mut large = with(12, &long(1 << 35));
    put(&mut large, 20, &long(8));
    put(
        &mut large,
        512,
        DESCRIPTOR.replace("2048", "34359738368").as_bytes(),
    );
    refused(FileFormat::Vmdk, vec![("at most", large)]);
}
