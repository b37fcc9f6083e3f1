//! The contract of a host's files, which those on disks and those in memory keep; and what is particular to each.

use std::{fs, io, os::unix::fs::MetadataExt as _, path::Path, sync::Arc};

use cumulet_domain::{
    id::{HostId, ImageId},
    image::{DiskFormat, ImageRef},
};

use super::*;
use crate::{
    disks::{DiskFile, Disks as _, May},
    image_cache::ImageSource as _,
    layout::Layout,
    testing::instance,
};

/// What a small file says: spaces may follow.
fn text(files: &dyn HostFiles, path: &Path) -> String {
    let bytes = files.read(path).unwrap();
    String::from_utf8(bytes).unwrap().trim_end().to_owned()
}

fn is_missing<T>(result: io::Result<T>) -> bool {
    result.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

fn sorted(files: &dyn HostFiles, dir: &Path) -> Vec<String> {
    let mut names = files.names(dir).unwrap();
    names.sort();
    names
}

fn replacing(files: &dyn HostFiles, dir: &Path) {
    let path = dir.join("file");
    assert!(is_missing(files.read(&path)));
    assert!(is_missing(files.append(&path, b"1")));
    type Write = fn(&dyn HostFiles, &Path, &[u8]) -> io::Result<()>;
    let ways: [Write; 4] = [
        |files, path, bytes| files.write(path, bytes),
        |files, path, bytes| files.write_fresh(path, bytes),
        |files, path, bytes| files.write_small(path, bytes),
        |files, path, bytes| files.write_large(path, bytes),
    ];
    for write in ways {
        for content in ["longer than the next", "short", "a third"] {
            write(files, &path, content.as_bytes()).unwrap();
            assert_eq!(text(files, &path), content);
        }
        files.append(&path, b", and more").unwrap();
        let added = text(files, &path);
        assert!(
            added.starts_with("a third") && added.ends_with(", and more"),
            "{added}"
        );
        assert!(is_missing(write(files, &dir.join("no/file"), b"1")));
        files.remove_both(&path).unwrap();
        files.remove_both(&path).unwrap();
        assert_eq!(sorted(files, dir), [""; 0]);
    }
}

fn directories(files: &dyn HostFiles, dir: &Path) {
    let (one, like) = (dir.join("one"), dir.join("one-more"));
    assert_eq!(files.names(&one).unwrap(), [""; 0]);
    for made in [&one, &one, &like, &one.join("below")] {
        files.make_dir(made, None).unwrap();
    }
    files.write(&one.join("b"), b"1").unwrap();
    files.write(&one.join("below/c"), b"1").unwrap();
    files.write(&like.join("d"), b"1").unwrap();
    assert_eq!(sorted(files, &one), ["b", "below"]);
    assert_eq!(sorted(files, dir), ["one", "one-more"]);
    assert!(files.write_fresh(&one, b"1").is_err(), "a directory is no file");
    assert!(files.make_dir(&one.join("b/x"), None).is_err());
    files.remove_dir(&one).unwrap();
    files.remove_dir(&one).unwrap();
    assert_eq!(sorted(files, dir), ["one-more"]);
    assert_eq!(sorted(files, &like), ["d"]);
    files.remove_dir(&like).unwrap();
}

fn names_and_sizes(files: &dyn HostFiles, dir: &Path) {
    let (one, other) = (dir.join("one"), dir.join("other"));
    assert!(!files.exists(&one).unwrap());
    assert!(is_missing(files.remove(&one)) && is_missing(files.rename(&one, &other)));
    assert!(is_missing(files.lend(&one, None)) && files.close(&one).is_ok());
    assert!(files.take_back(&one, None).is_ok());
    assert!(is_missing(files.own_bytes(&one)) && is_missing(files.digest(&one)));
    files.write(&one, b"content").unwrap();
    files.write(&other, b"another").unwrap();
    files.rename(&one, &other).unwrap();
    assert!(!files.exists(&one).unwrap() && files.exists(&other).unwrap());
    assert_eq!(text(files, &other), "content");
    let hash = "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73";
    assert_eq!(files.digest(&other).unwrap(), (7, hash.to_owned()));
    assert!(files.own_bytes(&other).unwrap() >= 7);
    files.lend(&other, None).unwrap();
    files.take_back(&other, None).unwrap();
    files.close(&other).unwrap();
    assert!(!files.cut(&other, 7) && !files.cut(&one, 0));
    assert!(files.cut(&other, 6));
    assert_eq!(text(files, &other), "");
    files.remove(&other).unwrap();
    assert_eq!(sorted(files, dir), [""; 0]);
}

fn logs(files: &dyn HostFiles, dir: &Path) {
    let (path, fresh) = (dir.join("log"), dir.join("log.new"));
    let mut log = files.open_log(&path).unwrap();
    log.add(b"1").unwrap();
    let mut again = files.open_log(&path).unwrap();
    again.add(b"2").unwrap();
    assert_eq!(text(files, &path), "12");
    files.write_fresh(&fresh, b"0").unwrap();
    let mut renamed = files.open_log(&fresh).unwrap();
    files.rename(&fresh, &path).unwrap();
    renamed.add(b"3").unwrap();
    // Of the file that is no more.
    log.add(b"4").unwrap();
    assert_eq!(text(files, &path), "03");
    files.remove(&path).unwrap();
}

fn contract(files: &dyn HostFiles, dir: &Path) {
    let dir = files.canonical(dir).unwrap();
    for part in [replacing, directories, names_and_sizes, logs] {
        part(files, &dir);
    }
}

#[test]
fn files_on_disks_keep_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    contract(&DiskFiles, dir.path());
}

#[test]
fn files_in_memory_keep_the_contract() {
    let files = MemoryFiles::new();
    files.make_dir(Path::new("/host"), None).unwrap();
    contract(&files, Path::new("/host"));
}

#[tokio::test]
async fn images_and_disks_in_memory_are_their_sizes() {
    let files = MemoryFiles::new();
    let disks = MemoryDisks::new(files.clone(), 7);
    files.make_dir(Path::new("/host"), None).unwrap();
    let (image, disk) = (Path::new("/host/image"), Path::new("/host/disk"));
    let file = |bytes| DiskFile {
        path: disk,
        format: DiskFormat::Qcow2,
        bytes,
        image: Some((image, DiskFormat::Raw)),
        lock: None,
    };
    let may = |make, grow| May { make, grow };
    assert!(is_missing(disks.ensure(&file(1), may(true, true)).await));
    let of = ImageRef {
        id: ImageId::new(1),
        from_snapshot: false,
        encrypted: false,
        sha256: "ab".repeat(32),
        format: DiskFormat::Raw,
        size_bytes: 9,
        virtual_bytes: 9,
    };
    disks.fetch(&of, image).await.unwrap();
    assert_eq!(files.digest(image).unwrap(), (9, of.sha256));
    assert!(!disks.ensure(&file(1), may(false, true)).await.unwrap());
    for (bytes, grow, expected) in [(2, true, 2), (3, false, 2), (3, true, 3), (1, true, 3)] {
        assert!(disks.ensure(&file(bytes), may(true, grow)).await.unwrap());
        assert_eq!(files.own_bytes(disk).unwrap(), expected);
    }
    assert!(files.read(disk).is_err(), "a disk's content is nobody's");
    assert_eq!(disks.capacity_gib(&[disk.to_owned()]).await.unwrap(), 7);
    let copy = Path::new("/host/copy");
    disks.copy(&file(3), copy).await.unwrap();
    assert_eq!(files.own_bytes(copy).unwrap(), 3);
    assert!(is_missing(
        disks
            .copy(
                &DiskFile {
                    path: image,
                    ..file(3)
                },
                copy
            )
            .await
    ));
}

#[test]
fn small_files_are_replaced_in_place_and_large_ones_as_a_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("record.json");
    let inode = || fs::metadata(&path).unwrap().ino();
    let value = || serde_json::from_slice::<Vec<u32>>(&fs::read(&path).unwrap()).unwrap();
    DiskFiles.write_small(&path, b"[1,2,3]").unwrap();
    let first = inode();
    for (text, expected) in [(&b"[4]"[..], vec![4]), (b"[5,6,7,8]", vec![5, 6, 7, 8])] {
        DiskFiles.write_small(&path, text).unwrap();
        assert_eq!((value(), inode()), (expected, first));
    }
    let long = serde_json::to_vec(&vec![7_u32; 4096]).unwrap();
    DiskFiles.write_small(&path, &long).unwrap();
    assert_ne!(inode(), first, "more than a page is not written at once");
    for text in [&b"[1]"[..], b"[2]", b"[3]"] {
        DiskFiles.write_large(&path, text).unwrap();
        assert_eq!(fs::read(&path).unwrap(), text);
    }
    DiskFiles.remove_both(&path).unwrap();
    DiskFiles.remove_both(&path).unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

/// A change of metadata once shut the guest's own user out.
#[test]
fn a_guest_passes_through_its_directory_also_after_its_specification_was_kept_again() {
    let dir = tempfile::tempdir().unwrap();
    if fs::metadata(dir.path()).unwrap().uid() != 0 {
        return; // only root gives directories to groups
    }
    let files = Arc::new(DiskFiles);
    let layout = Layout::make(files, dir.path(), &HostId("one".into()), Some(4711)).unwrap();
    layout.make_instance(instance(1)).unwrap();
    for text in [&b"{}"[..], b"[]"] {
        layout.keep_spec(instance(1), text).unwrap();
        let found = fs::metadata(layout.instance(instance(1))).unwrap();
        assert_eq!((found.mode() & 0o7777, found.gid()), (0o710, 4711));
    }
    assert_eq!(fs::read(layout.spec(instance(1))).unwrap(), b"[]");
}
