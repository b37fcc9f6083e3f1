//! The protocol by which a host reaches the stores of images and of snapshots whose directory it does not have: what it
//! needs for a command, what it is granted for that, and how both speak over HTTP.
//!
//! | request | answer |
//! |---|---|
//! | `GET images/SHA256` | a piece of an image's file |
//! | `GET manifests/SHA256` | a piece of a snapshot's manifest |
//! | `GET manifests/SHA256/segments/SHA256` | a piece of a segment that the manifest names |
//! | `PUT snapshots/ID/PART/NUMBER?offset=N` | adds a piece to an upload: `segment` or `manifest`, by a number of the host's own; how many bytes it has then |
//! | `POST snapshots/ID?name=SHA256&manifest=NUMBER[&segment=NUMBER]` | the uploads are what they are said to be, and get their names |
//! | `DELETE snapshots/ID/PART/NUMBER` | an upload is given up |
//!
//! All are below [`PREFIX`], and carry the grant of the command that they are for (`Authorization: Bearer`). Pieces are
//! asked for with `Range` (RFC 9110, section 14) and have [`PIECE`] bytes at the most. An upload whose piece begins
//! beyond what is there answers 409 with how many bytes are, in [`OFFSET`]. Of each part of a snapshot there is the newest
//! upload: a piece at the beginning, by another number, is the end of the one before, which has 0 bytes from then on.

use crate::{
    id::{HostId, SnapshotId},
    image::ImageRef,
    message::{Action, Command, SnapshotSource},
    spec::{DiskSource, InstanceSpec},
    time::Timestamp,
};

/// What all paths begin with.
pub const PREFIX: &str = "/cumulet/storage/v1";

/// Bytes of a piece at the most: eight blocks of a snapshot.
pub const PIECE: u64 = 4 << 20;

/// The header that says how many bytes an upload has.
pub const OFFSET: &str = "upload-offset";

/// Bytes of a manifest at the most, for a disk of so many bytes: 44 for each block of 512 KiB, and 32 for a segment of its
/// own; and its head.
pub const fn most_of_manifest(disk: u64) -> u64 {
    disk.div_ceil(512 << 10) * (44 + 32) + (1 << 16)
}

/// Bytes of a segment at the most, for a disk of so many bytes: whole blocks.
pub const fn most_of_segment(disk: u64) -> u64 {
    disk.saturating_add(PIECE)
}

/// What a host needs of the stores for a command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StorageNeeds {
    /// The SHA-256 of images' files.
    pub images: Vec<String>,
    /// The SHA-256 of manifests.
    pub manifests: Vec<String>,
    /// The snapshots that it is to bring.
    pub snapshots: Vec<SnapshotId>,
}

impl StorageNeeds {
    /// What a command needs.
    pub fn of(command: &Command) -> Self {
        match &command.action {
            Action::Run { spec, .. } | Action::Change { spec, .. } => Self::of_spec(spec),
            Action::TakeSnapshots(sources) => Self::of_sources(sources),
            _ => StorageNeeds::default(),
        }
    }

    /// What an instance's disks are made of that may have to be made.
    pub fn of_spec(spec: &InstanceSpec) -> Self {
        let mut needs = StorageNeeds::default();
        for disk in &spec.disks {
            match &disk.source {
                DiskSource::Image(image) => needs.image(image),
                DiskSource::Volume {
                    create: true,
                    from: Some(snapshot),
                    ..
                } => needs.manifests.push(snapshot.manifest.clone()),
                DiskSource::Volume { .. } => {}
            }
        }
        needs.in_order()
    }

    fn of_sources(sources: &[SnapshotSource]) -> Self {
        let manifests = sources.iter().flat_map(|source| [&source.base, &source.of]);
        let needs = StorageNeeds {
            images: Vec::new(),
            manifests: manifests.flatten().cloned().collect(),
            snapshots: sources.iter().map(|source| source.snapshot).collect(),
        };
        needs.in_order()
    }

    fn image(&mut self, image: &ImageRef) {
        match image.from_snapshot {
            true => self.manifests.push(image.sha256.clone()),
            false => self.images.push(image.sha256.clone()),
        }
    }

    fn in_order(mut self) -> Self {
        for digests in [&mut self.images, &mut self.manifests] {
            digests.sort_unstable();
            digests.dedup();
        }
        self
    }

    /// Whether it is nothing.
    pub fn is_empty(&self) -> bool {
        self.images.is_empty() && self.manifests.is_empty() && self.snapshots.is_empty()
    }
}

/// What a host may do with the stores, and until when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageGrant {
    /// Which host.
    pub host: HostId,
    /// Until when.
    pub until: Timestamp,
    /// The SHA-256 of the files of images that it may read.
    pub images: Vec<String>,
    /// The SHA-256 of the manifests that it may read, and the segments with them that they name.
    pub manifests: Vec<String>,
    /// The snapshots that it may bring, and the bytes of the disk of each.
    pub snapshots: Vec<(SnapshotId, u64)>,
}

impl StorageGrant {
    /// The bytes of the disk of a snapshot that it may bring.
    pub fn disk_of(&self, snapshot: SnapshotId) -> Option<u64> {
        let found = self.snapshots.iter().find(|(id, _)| *id == snapshot);
        found.map(|(_, bytes)| *bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{id::VolumeId, volume::VolumeStore};

    #[test]
    fn a_manifest_has_room_for_every_block() {
        for disk in [0, 1, 512 << 10, 1 << 30, 16 << 40] {
            let blocks = u64::div_ceil(disk, 512 << 10);
            // Entries of 44 bytes; its segments are as many as there are snapshots before it.
            assert!(48 + 44 * blocks + 32 * 1000 <= most_of_manifest(disk), "{disk}");
            assert!(blocks * (512 << 10) <= most_of_segment(disk), "{disk}");
        }
    }

    #[test]
    fn snapshots_need_what_they_are_taken_over_and_made_of() {
        let source = |number, base: Option<&str>, of: Option<&str>| SnapshotSource {
            store: VolumeStore::Local,
            snapshot: SnapshotId::new(number),
            volume: VolumeId::new(number),
            root_of: None,
            base: base.map(str::to_owned),
            encrypted: of.is_some(),
            of: of.map(str::to_owned),
        };
        let command = |action| Command {
            operation: None,
            deadline: Timestamp(0),
            action,
            keys: Vec::new(),
            storage: None,
        };
        let needs = StorageNeeds::of(&command(Action::TakeSnapshots(vec![
            source(1, Some("b"), None),
            source(2, None, None),
            source(3, Some("b"), Some("a")),
        ])));
        assert_eq!(needs.manifests, ["a", "b"]);
        assert_eq!(needs.snapshots, [1, 2, 3].map(SnapshotId::new));
        assert!(StorageNeeds::of(&command(Action::ReportAll)).is_empty());
    }
}
