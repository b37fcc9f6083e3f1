//! Pruning of the image cache: images that no instance of the host uses any more are kept for a while, in
//! case the next instance wants them, and then removed. What is used is read from the instances' own files,
//! so that it is never more than what is there; when one can't be read nothing is removed.

use std::{
    collections::{BTreeMap, HashSet},
    io,
    time::Duration,
};

use cumulet_domain::{
    id::InstanceId,
    snapshot::is_digest,
    spec::{DiskSpec, InstanceSpec},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::layout::Layout;

/// Since when which images have not been used, in the cache's directory.
const NOTES: &str = "unused.json";

/// How long, and how many bytes of, images that nobody uses are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnusedImages {
    /// Each goes when it has not been used for so long.
    pub keep: Duration,
    /// When they are more than this together, those go first that have not been used for the longest time.
    pub bytes: u64,
}

impl Default for UnusedImages {
    fn default() -> Self {
        UnusedImages {
            keep: Duration::from_secs(7 * 24 * 3600),
            bytes: 50 << 30,
        }
    }
}

#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Notes(BTreeMap<String, Timestamp>);

/// An image that nobody uses.
#[derive(Debug)]
struct Unused {
    hash: String,
    bytes: u64,
    since: Timestamp,
}

/// What goes.
fn victims(mut unused: Vec<Unused>, limits: UnusedImages, now: Timestamp) -> Vec<Unused> {
    unused.sort_by_key(|image| std::cmp::Reverse(image.since));
    let mut kept = 0_u64;
    unused.retain(|image| {
        let bytes = kept.saturating_add(image.bytes);
        let goes = now.since(image.since) >= limits.keep || bytes > limits.bytes;
        if !goes {
            kept = bytes;
        }
        goes
    });
    unused
}

/// Looks through a host's cache, which nobody may be fetching into or making disks over; the hashes of the
/// images that were removed.
pub(crate) fn prune(layout: &Layout, limits: UnusedImages, now: Timestamp) -> io::Result<Vec<String>> {
    let (cache, files) = (layout.cache(), &layout.files);
    let used = used(layout)?;
    let path = cache.join(NOTES);
    let before: Notes = match files.read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Notes::default(),
        // What can't be understood is found out anew.
        text => serde_json::from_slice(&text?).unwrap_or_default(),
    };
    let mut unused = Vec::new();
    for name in files.names(&cache)? {
        if name.ends_with(".part") {
            // Of a fetch that was cut off.
            files.remove(&cache.join(&name))?;
        } else if is_digest(&name) && !used.contains(&name) {
            let since = before.0.get(&name).copied().unwrap_or(now).min(now);
            let bytes = files.own_bytes(&cache.join(&name))?;
            unused.push(Unused {
                hash: name,
                bytes,
                since,
            });
        }
    }
    let mut notes = Notes(unused.iter().map(|u| (u.hash.clone(), u.since)).collect());
    let mut removed = Vec::new();
    for image in victims(unused, limits, now) {
        files.remove(&cache.join(&image.hash))?;
        notes.0.remove(&image.hash);
        removed.push(image.hash);
    }
    if notes != before {
        files.write(&path, &serde_json::to_vec(&notes)?)?;
    }
    Ok(removed)
}

/// The hashes of the images that the disks of the host's instances lie over.
fn used(layout: &Layout) -> io::Result<HashSet<String>> {
    let (mut used, files) = (HashSet::new(), &layout.files);
    for name in files.names(&layout.instances())? {
        let Ok(id) = name.parse::<InstanceId>() else {
            continue;
        };
        let text = match files.read(&layout.spec(id)) {
            // One that is being made or removed; with a disk it would have this file.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !files.exists(&layout.disk(id))? => {
                continue;
            }
            text => text?,
        };
        match serde_json::from_slice::<InstanceSpec>(&text) {
            Ok(spec) => used.extend(
                spec.disks
                    .iter()
                    .filter_map(DiskSpec::image)
                    .map(|image| image.sha256.clone()),
            ),
            Err(_) if !files.exists(&layout.disk(id))? => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(used)
}

#[cfg(test)]
mod tests {
    use std::{fs, sync::Arc};

    use cumulet_domain::{id::HostId, spec::DiskSource};

    use super::*;
    use crate::files::DiskFiles;
    use crate::testing::{instance, spec};

    const HOUR: Duration = Duration::from_secs(3600);
    const DAY: UnusedImages = UnusedImages {
        keep: Duration::from_secs(24 * 3600),
        bytes: 1 << 30,
    };

    fn hash(n: u8) -> String {
        char::from(b'0' + n).to_string().repeat(64)
    }

    fn start() -> Timestamp {
        Timestamp(0).after(HOUR * 1000)
    }

    struct Host(tempfile::TempDir, Layout);

    impl Host {
        fn new(images: &[u8]) -> Host {
            let dir = tempfile::tempdir().unwrap();
            let layout = Layout::make(Arc::new(DiskFiles), dir.path(), &HostId("one".into()), None).unwrap();
            for n in images {
                fs::write(layout.cache().join(hash(*n)), vec![*n; 8192]).unwrap();
            }
            Host(dir, layout)
        }

        fn runs(&self, n: u8, image: u8) {
            let mut spec = spec(n, 1);
            if let DiskSource::Image(of) = &mut spec.disks[0].source {
                of.sha256 = hash(image);
            }
            self.1
                .files
                .make_dir(&self.1.instance(instance(n)), None)
                .unwrap();
            let text = serde_json::to_vec(&spec).unwrap();
            self.1.files.write(&self.1.spec(instance(n)), &text).unwrap();
        }

        fn ends(&self, n: u8) {
            self.1.files.remove_dir(&self.1.instance(instance(n))).unwrap();
        }

        fn prune(&self, limits: UnusedImages, after: u32) -> Vec<String> {
            let mut removed = prune(&self.1, limits, start().after(HOUR * after)).unwrap();
            removed.sort();
            removed
        }
    }

    #[test]
    fn what_nobody_uses_goes_after_a_while() {
        let host = Host::new(&[1, 2, 3]);
        host.runs(1, 1);
        host.runs(2, 2);
        assert_eq!(host.prune(DAY, 0), [""; 0]);
        host.ends(2);
        assert_eq!(host.prune(DAY, 23), [""; 0], "image 2 was used until now");
        assert_eq!(host.prune(DAY, 24), [hash(3)]);
        // Used again in between: the time begins anew, also for a worker that was started anew.
        host.runs(3, 2);
        assert_eq!(host.prune(DAY, 40), [""; 0]);
        host.ends(3);
        assert_eq!(host.prune(DAY, 50), [""; 0]);
        assert_eq!(host.prune(DAY, 73), [""; 0]);
        assert_eq!(host.prune(DAY, 74), [hash(2)]);
        assert_eq!(host.prune(DAY, 1000), [""; 0], "image 1 is used");
        assert!(host.1.cache().join(hash(1)).exists());
    }

    #[test]
    fn the_longest_unused_go_when_they_are_too_many() {
        let host = Host::new(&[1, 2, 3]);
        host.runs(1, 1);
        host.runs(2, 2);
        host.prune(DAY, 0);
        host.ends(2);
        host.prune(DAY, 1);
        host.ends(1);
        let limits = UnusedImages { bytes: 17_000, ..DAY };
        assert_eq!(host.prune(limits, 2), [hash(3)]);
        // One with a second name elsewhere costs nothing.
        fs::hard_link(host.1.cache().join(hash(1)), host.0.path().join("store")).unwrap();
        let limits = UnusedImages { bytes: 8192, ..DAY };
        assert_eq!(host.prune(limits, 3), [""; 0]);
        fs::remove_file(host.0.path().join("store")).unwrap();
        assert_eq!(host.prune(limits, 4), [hash(2)]);
        assert_eq!(host.prune(UnusedImages { bytes: 0, ..DAY }, 4), [hash(1)]);
    }

    #[test]
    fn nothing_goes_when_it_is_not_known_what_is_used() {
        let host = Host::new(&[1]);
        host.runs(1, 1);
        fs::write(host.1.spec(instance(1)), "{\"image\":").unwrap();
        fs::write(host.1.disk(instance(1)), "").unwrap();
        let all = UnusedImages {
            keep: Duration::ZERO,
            bytes: 0,
        };
        assert!(prune(&host.1, all, start()).is_err());
        fs::remove_file(host.1.spec(instance(1))).unwrap();
        assert!(prune(&host.1, all, start()).is_err());
        // Without a disk there is nothing over the image; notes that are broken are made anew.
        fs::remove_file(host.1.disk(instance(1))).unwrap();
        fs::write(host.1.cache().join(NOTES), "[").unwrap();
        fs::write(host.1.cache().join(format!("{}.part", hash(2))), "half").unwrap();
        fs::write(host.1.cache().join("README"), "not ours").unwrap();
        assert_eq!(host.prune(all, 0), [hash(1)]);
        let mut left = host.1.files.names(&host.1.cache()).unwrap();
        left.sort();
        assert_eq!(left, ["README", NOTES]);
    }
}
