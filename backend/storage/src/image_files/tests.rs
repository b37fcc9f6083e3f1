//! Imports that are converted: with `qemu-img`, as root. Elsewhere these tests say so and pass.

use std::{
    fs,
    os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::Command,
};

use cumulet_domain::image::FileFormat;

use super::{Converter, Imported, Rejected, Stage, import};

const CONVERTER: Converter = Converter::new(1_900_065_536);

/// Our name of what is converted, QEMU's, and its options.
const KINDS: [(FileFormat, &str, &str); 6] = [
    (FileFormat::Vmdk, "vmdk", "subformat=monolithicSparse"),
    (FileFormat::Vmdk, "vmdk", "subformat=streamOptimized"),
    (FileFormat::Vhd, "vpc", "subformat=fixed,force_size=on"),
    (FileFormat::Vhd, "vpc", "subformat=dynamic,force_size=on"),
    (FileFormat::Vhdx, "vhdx", "subformat=dynamic"),
    (FileFormat::Vhdx, "vhdx", "subformat=fixed"),
];

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    /// A place for imports, where they can be converted.
    fn new() -> Option<Place> {
        if let Err(error) = CONVERTER.check() {
            eprintln!("skipped: {error}");
            return None;
        }
        Some(Place {
            dir: tempfile::tempdir().unwrap(),
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn qemu_img(&self, words: &[&str]) {
        let done = Command::new("qemu-img")
            .args(words)
            .current_dir(self.dir.path())
            .output()
            .unwrap();
        assert!(
            done.status.success(),
            "{words:?}: {}",
            String::from_utf8_lossy(&done.stderr)
        );
    }

    /// A raw disk of 4 MiB with something in it, and one of each kind with the same in it.
    fn disks(&self) {
        let mut disk = vec![0_u8; 4 << 20];
        for (i, byte) in disk.iter_mut().enumerate().skip(1 << 20).take(70_000) {
            *byte = u8::try_from(i % 251).unwrap();
        }
        disk[..4].copy_from_slice(b"boot");
        fs::write(self.path("raw"), disk).unwrap();
        for (i, (_, kind, options)) in KINDS.into_iter().enumerate() {
            self.qemu_img(&[
                "convert",
                "-f",
                "raw",
                "-O",
                kind,
                "-o",
                options,
                "raw",
                &i.to_string(),
            ]);
        }
    }

    fn import(&self, name: &str, format: FileFormat) -> Result<Imported, Rejected> {
        import(&self.path(name), format, &self.path("store"), CONVERTER, |_| ())
    }

    /// What is in the store.
    fn kept(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path("store")).unwrap();
        let mut names: Vec<String> = entries
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

#[test]
fn each_format_becomes_a_qcow2_with_the_same_content() {
    let Some(place) = Place::new() else { return };
    place.disks();
    // A file that only its owner may read is read by nobody else all the same: what is converted is a copy.
    fs::set_permissions(place.path("0"), fs::Permissions::from_mode(0o600)).unwrap();
    for (i, (format, kind, options)) in KINDS.into_iter().enumerate() {
        let mut stages = Vec::new();
        let (source, store) = (place.path(&i.to_string()), place.path("store"));
        let imported = import(&source, format, &store, CONVERTER, |stage| stages.push(stage));
        let imported = imported.unwrap_or_else(|error| panic!("{kind}, {options}: {error}"));
        assert_eq!(imported.inspected.format, FileFormat::Qcow2, "{kind}");
        assert_eq!(imported.inspected.virtual_bytes, 4 << 20, "{kind}");
        let file = store.join(&imported.sha256);
        let found = fs::metadata(&file).unwrap();
        assert_eq!(
            (found.uid(), found.gid(), found.mode() & 0o777),
            (0, 0, 0o600),
            "{kind}"
        );
        assert_eq!(found.len(), imported.size_bytes);
        let file = file.display().to_string();
        place.qemu_img(&["compare", "-f", "qcow2", "-F", "raw", &file, "raw"]);
        let total = 4 << 20;
        assert!(
            stages.contains(&Stage::Converting { done: total, total }),
            "{kind}: {stages:?}"
        );
        assert_eq!(stages.last(), Some(&Stage::Verifying));
        // Again: the same file.
        assert_eq!(place.import(&i.to_string(), format).unwrap(), imported, "{kind}");
        let owner = fs::metadata(place.path("0")).unwrap();
        assert_eq!(owner.uid(), 0, "the file that was imported stays whose it is");
    }
    let kept = place.kept();
    assert!(kept.iter().all(|name| !name.starts_with('.')), "{kept:?}");
}

#[test]
fn nothing_is_left_where_there_is_no_room_or_the_file_is_bad() {
    let Some(place) = Place::new() else { return };
    place.disks();
    let small = Converter {
        most: 100_000,
        ..CONVERTER
    };
    for (i, (format, kind, _)) in KINDS.into_iter().enumerate() {
        let name = i.to_string();
        let told = import(&place.path(&name), format, &place.path("store"), small, |_| ()).unwrap_err();
        assert!(
            told.to_string().contains("could not be converted: qemu-img"),
            "{kind}: {told}"
        );
        assert_eq!(place.kept(), [""; 0], "{kind}");
    }
    // What the inspection can't know: data of a stream that are no deflated ones.
    let mut stream = fs::read(place.path("1")).unwrap();
    let grains = stream.len() - 100_000.min(stream.len() / 2);
    stream[grains..].fill(0xff);
    fs::write(place.path("damaged"), stream).unwrap();
    let told = place.import("damaged", FileFormat::Vmdk);
    assert!(told.is_err() || place.kept().len() == 1, "{told:?}");
}

#[test]
fn a_file_that_is_changed_meanwhile_is_judged_as_it_was_copied() {
    let Some(place) = Place::new() else { return };
    place.disks();
    // A fixed VHD, whose footer is in the last of several stretches of data.
    let path = place.path("2");
    let length = fs::metadata(&path).unwrap().len();
    let source = fs::File::options().write(true).open(&path).unwrap();
    let change = |stage| {
        if matches!(stage, Stage::Copying { done, .. } if done < length / 2) {
            source.write_all_at(&[4], length - 512 + 63).unwrap(); // a differencing one
        }
    };
    let told = import(&path, FileFormat::Vhd, &place.path("store"), CONVERTER, change).unwrap_err();
    assert!(told.to_string().contains("checksum"), "{told}");
    assert_eq!(place.kept(), [""; 0]);
}

#[test]
fn a_name_is_only_a_name() {
    let Some(place) = Place::new() else { return };
    place.disks();
    for name in [
        "nbd:localhost:1",
        "json:{\"driver\":\"null-co\"}",
        "a,b=c $(id) ; \n\"'",
        "--help",
    ] {
        fs::copy(place.path("1"), place.path(name)).unwrap();
        place
            .import(name, FileFormat::Vmdk)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    assert_eq!(place.kept().len(), 1);
}

#[test]
fn a_full_disk_leaves_nothing() {
    use nix::mount::{MsFlags, mount};
    let Some(place) = Place::new() else { return };
    place.disks();
    let store = place.path("store");
    fs::create_dir(&store).unwrap();
    // The mount is this thread's alone, and goes with it.
    let done = std::thread::scope(|scope| {
        let confined = || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
            let nothing = None::<&str>;
            mount(
                nothing,
                "/",
                nothing,
                MsFlags::MS_REC | MsFlags::MS_PRIVATE,
                nothing,
            )
            .unwrap();
            mount(
                Some("small"),
                &store,
                Some("tmpfs"),
                MsFlags::empty(),
                Some("size=300k"),
            )
            .unwrap();
            let told = place
                .import("1", FileFormat::Vmdk)
                .map_err(|told| told.to_string());
            (told, place.kept())
        };
        scope.spawn(confined).join().unwrap()
    });
    assert!(done.0.is_err(), "{done:?}");
    assert_eq!(done.1, [""; 0]);
}

#[test]
fn a_sparse_disk_of_a_tebibyte_goes_in() {
    let Some(place) = Place::new() else { return };
    for (format, kind, options) in KINDS {
        // QEMU reads a VHDX to its end, holes and all, which takes half a minute a TiB.
        let size = match kind {
            "vhdx" if options.contains("fixed") => continue,
            "vhdx" => "64G",
            _ => "1T",
        };
        place.qemu_img(&["create", "-q", "-f", kind, "-o", options, "large", size]);
        let imported = place
            .import("large", format)
            .unwrap_or_else(|error| panic!("{kind}: {error}"));
        assert!(
            imported.inspected.virtual_bytes >= 64 << 30 && imported.size_bytes < 8 << 20,
            "{imported:?}"
        );
        fs::remove_file(place.path("large")).unwrap();
    }
}

#[test]
fn who_can_not_be_jailed_is_told_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let root = Converter::new(0);
    let told = root.check().unwrap_err().to_string();
    assert!(
        told.contains("takes root") && told.contains("qemu-img convert"),
        "{told}"
    );
    assert!(import(Path::new("/nowhere"), FileFormat::Vhd, dir.path(), root, |_| ()).is_err());
}
