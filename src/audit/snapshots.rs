//! The comparison of snapshots' rows with the store of their data: each manifest that is needed is what its name says,
//! and the segments that it names are there. (Whether every block is what it was is found when it is read.)

use std::path::Path;

use cumulet_backend::{api::snapshots::SnapshotStore, store::snapshots::Needed};

use super::compare::Difference;

/// What is missing of what is needed. A process that has no such directory has nothing to compare.
pub(super) fn compare(dir: &Path, needed: &Needed) -> Vec<Difference> {
    if !dir.exists() {
        return Vec::new();
    }
    let store = SnapshotStore::at(dir);
    let mut found = Vec::new();
    for name in &needed.manifests {
        if let Err(error) = store.check(name) {
            let words = format!("the data of the snapshots of manifest {name} is not whole: {error}");
            found.push(Difference::of_rows(words));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("snapshots");
        let (disk, other) = (dir.path().join("disk"), "b".repeat(64));
        let of = |names: &[&str]| Needed {
            manifests: names.iter().map(|name| (*name).to_owned()).collect(),
            pending_since: None,
        };
        assert_eq!(compare(&place, &of(&[&other])), [], "it is on another machine");
        std::fs::write(&disk, "content").unwrap();
        let taken = SnapshotStore::open(&place)
            .unwrap()
            .take_file(&disk, None, None)
            .unwrap();
        let name = taken.manifest.to_string();
        assert_eq!(compare(&place, &of(&[&name])), []);
        let told = compare(&place, &of(&[&name, &other]));
        assert!(told.len() == 1 && told[0].words.contains(&other), "{told:?}");
        for segment in std::fs::read_dir(place.join("segments")).unwrap() {
            std::fs::remove_file(segment.unwrap().path()).unwrap();
        }
        assert_eq!(compare(&place, &of(&[&name])).len(), 1);
    }
}
