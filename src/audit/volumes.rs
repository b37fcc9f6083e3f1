//! The comparison of volumes' rows with their files on a host, with the images of the pool that it reaches, and with the
//! disks of guests that run. Pure.

use std::collections::{BTreeMap, BTreeSet};

use cumulet_backend::entity::{volume, volume_attachment, volume_modification};
use cumulet_domain::{
    id::{InstanceId, VolumeId},
    image::DiskFormat,
    instance::State,
    volume::{AttachmentState, ModificationState, VolumeState},
};
use cumulet_worker::{HostObject, ObjectKind};

use super::{
    compare::{About, Difference},
    rows::Rows,
};

/// What is compared of a volume that instances do not start from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Volume {
    pub(super) state: VolumeState,
    pub(super) generation: i64,
    /// The host that has its data, or is to have it.
    pub(super) host: Option<String>,
    /// The host has made its file.
    pub(super) made: bool,
    /// How large it is, and how large its file may be: as a modification left it that has failed.
    pub(super) gib: (u32, u32),
    /// It is no file of a host's, but in the store that hosts share.
    pub(super) shared: bool,
    /// The format of that file.
    pub(super) format: DiskFormat,
    /// An instance starts from it, and it is to outlive that: its file is an instance's disk, or about to be its own.
    pub(super) is_root: bool,
    /// What it is attached to.
    pub(super) attached: Option<(InstanceId, AttachmentState)>,
}

/// The volumes that are files of their own or may become so: others that instances start from are instances' disks.
pub(super) fn volumes(
    rows: &[volume::Model],
    attachments: &[volume_attachment::Model],
    modifications: &[volume_modification::Model],
) -> BTreeMap<VolumeId, Volume> {
    let roots = attachments.iter().filter(|row| row.is_root());
    let roots: BTreeMap<VolumeId, bool> = roots
        .map(|row| (row.volume.0, row.delete_on_termination.0))
        .collect();
    let ends_with_it = |row: &volume::Model| roots.get(&row.id.0) == Some(&true);
    let attached = attachments.iter().filter(|row| !row.is_root());
    let attached: BTreeMap<VolumeId, _> = attached
        .map(|row| (row.volume.0, (row.instance.0, row.state.0)))
        .collect();
    let left = |row: &volume::Model| {
        let last = modifications.iter().find(|last| last.volume == row.id);
        let failed = last.filter(|last| last.state.0 == ModificationState::Failed);
        failed.map_or(0, |failed| failed.target_size_gib.0)
    };
    let own = rows
        .iter()
        .filter(|row| !ends_with_it(row) && row.state.0 != VolumeState::Deleted);
    own.map(|row| {
        let compared = Volume {
            state: row.state.0,
            generation: row.generation.to_db(),
            host: row.host.clone(),
            made: row.made_at.is_some(),
            shared: row.is_shared(),
            format: row.format(),
            is_root: roots.contains_key(&row.id.0),
            gib: (row.size_gib.0, row.size_gib.0.max(left(row))),
            attached: attached.get(&row.id.0).copied(),
        };
        (row.id.0, compared)
    })
    .collect()
}

/// Everything that does not agree. A simulated host has no files.
pub(super) fn compare(rows: &Rows, found: &[HostObject], simulated: bool) -> Vec<Difference> {
    let mut differences: Vec<Difference> = found
        .iter()
        .filter_map(|object| unexpected(rows, object, object.volume?))
        .collect();
    if !simulated {
        differences.extend(without_file(rows, found));
        differences.extend(without_image(rows, found));
        differences.extend(of_another_size(rows, found));
    }
    differences.extend(not_plugged(rows, found));
    differences
}

fn about(volume: VolumeId, words: String) -> Difference {
    Difference {
        about: About::Volume(volume),
        words,
    }
}

/// Why a file, an image or a disk should not be there, if it should not.
fn unexpected(rows: &Rows, object: &HostObject, id: VolumeId) -> Option<Difference> {
    let volume = rows.volumes.get(&id);
    let words = match (object.kind, object.instance) {
        (ObjectKind::Volume, _) => match volume {
            Some(volume) if (volume.host.is_some() && !volume.shared) || volume.is_root => return None,
            _ => format!(
                "a file of {id} is on the host and no volume of the database has its data here; if nobody misses it, \
                 remove it from the folder volumes of the host's state directory"
            ),
        },
        (ObjectKind::PartialVolume, _) => format!(
            "a file of {id} is on the host that was not finished; the next start of the host's worker removes it"
        ),
        (ObjectKind::Image, _) => match volume {
            Some(volume) if volume.host.is_some() && volume.shared => return None,
            _ => format!(
                "an image of {id} is in the pool of volumes and no volume of the database has its data there; if nobody \
                 misses it, remove it (rbd rm)"
            ),
        },
        // Some host may be at it.
        (ObjectKind::PartialImage | ObjectKind::HalfRenamed, _)
            if rows.version(About::Volume(id)).changing =>
        {
            return None;
        }
        (ObjectKind::PartialImage, _) => format!(
            "an image of {id} is in the pool of volumes that was not finished; the next start of the worker of the host \
             that is in its name removes it, and so does the volume's deletion"
        ),
        (ObjectKind::HalfRenamed, _) => format!(
            "the image of {id} in the pool of volumes has two names, since it was not renamed to its end: remove neither \
             with rbd rm, but take the second away while no guest has it, and rename it again (docs/ceph.md says how)"
        ),
        (ObjectKind::Plugged, Some(instance)) => match volume.and_then(|volume| volume.attached) {
            Some((has, _)) if has == instance => return None,
            _ => format!(
                "{instance} has {id} plugged in and no attachment says so; stop and start the instance, and it starts \
                 without it"
            ),
        },
        _ => return None,
    };
    Some(about(id, words))
}

/// Volumes whose data is lost.
fn without_file(rows: &Rows, found: &[HostObject]) -> Vec<Difference> {
    let files: BTreeSet<VolumeId> = found
        .iter()
        .filter(|object| object.kind == ObjectKind::Volume)
        .filter_map(|object| object.volume)
        .collect();
    let is_file = |volume: &Volume| volume.made && volume.host.is_some() && !volume.shared;
    let lost = rows
        .volumes
        .iter()
        .filter(|(id, volume)| is_file(volume) && is_kept(volume) && !files.contains(id));
    lost.map(|(id, volume)| {
        let (state, format) = (volume.state, volume.format.name());
        let host = volume.host.as_deref().unwrap_or_default();
        about(
            *id,
            format!(
                "{id} is {state} in the database and its file is not on its host; put volumes/{id}.{format} of the host \
                 {host} back from a backup, or delete the volume"
            ),
        )
    })
    .collect()
}

/// Whether a volume has to have its data.
const fn is_kept(volume: &Volume) -> bool {
    matches!(volume.state, VolumeState::Available | VolumeState::InUse)
}

/// Volumes whose data is lost in the pool, where that was looked at.
fn without_image(rows: &Rows, found: &[HostObject]) -> Vec<Difference> {
    if !found.iter().any(|object| object.kind == ObjectKind::Pool) {
        return Vec::new();
    }
    let images: BTreeSet<VolumeId> = found
        .iter()
        .filter(|object| matches!(object.kind, ObjectKind::Image | ObjectKind::HalfRenamed))
        .filter_map(|object| object.volume)
        .collect();
    let lost = rows
        .volumes
        .iter()
        .filter(|(id, volume)| volume.shared && volume.made && is_kept(volume) && !images.contains(id));
    lost.map(|(id, volume)| {
        let (state, format) = (volume.state, volume.format.name());
        about(
            *id,
            format!(
                "{id} is {state} in the database and its image is not in the pool of volumes; put {id}.{format} there back \
                 from a backup, or delete the volume"
            ),
        )
    })
    .collect()
}

/// Volumes whose files are larger than they are to be, or smaller under a guest that runs. (One that nobody has grows
/// when somebody gets it.)
fn of_another_size(rows: &Rows, found: &[HostObject]) -> Vec<Difference> {
    let files = found.iter().filter(|object| object.kind == ObjectKind::Volume);
    let compared = files.filter_map(|file| {
        let (id, bytes) = (file.volume?, file.bytes?);
        let volume = rows.volumes.get(&id).filter(|_| !rows.held.contains(&id))?;
        let ((gib, most), has) = (volume.gib, bytes >> 30);
        let runs = volume.attached.is_some_and(|(instance, state)| {
            state == AttachmentState::Attached && rows.state(instance) == Some(State::Running)
        });
        let cure = match has {
            _ if bytes > u64::from(most) << 30 => "modify it to be as large as its file",
            _ if runs && bytes < u64::from(gib) << 30 => "stop and start its instance, and its file grows",
            _ => return None,
        };
        let words = format!("{id} is of {gib} GiB in the database, and its file of {has} GiB; {cure}");
        Some(about(id, words))
    });
    compared.collect()
}

/// Volumes that running instances have by the database alone.
fn not_plugged(rows: &Rows, found: &[HostObject]) -> Vec<Difference> {
    let plugged: BTreeSet<(InstanceId, VolumeId)> = found
        .iter()
        .filter(|object| object.kind == ObjectKind::Plugged)
        .filter_map(|object| Some((object.instance?, object.volume?)))
        .collect();
    let attached = rows.volumes.iter().filter_map(|(id, volume)| {
        let (instance, state) = volume.attached?;
        (state == AttachmentState::Attached).then_some((instance, *id))
    });
    let missing =
        attached.filter(|pair| rows.state(pair.0) == Some(State::Running) && !plugged.contains(pair));
    missing
        .map(|(instance, id)| {
            let words = format!(
                "{id} is attached to {instance} in the database and its guest does not have it; stop and start the \
                 instance, and it starts with it"
            );
            about(id, words)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const INSTANCE: InstanceId = InstanceId::new(1 << 40);
    const OTHER: InstanceId = InstanceId::new(2 << 40);
    const ID: VolumeId = VolumeId::new(3 << 40);

    /// One running instance, and a volume in a state, attached to it or not.
    fn rows(state: VolumeState, attached: Option<AttachmentState>, host: Option<&str>) -> Rows {
        let mut rows = Rows::of(INSTANCE, State::Running, 1);
        let volume = Volume {
            state,
            generation: 1,
            host: host.map(str::to_owned),
            made: host.is_some(),
            shared: false,
            format: DiskFormat::Raw,
            is_root: false,
            gib: (2, 3),
            attached: attached.map(|state| (INSTANCE, state)),
        };
        rows.volumes.insert(ID, volume);
        rows
    }

    fn object(kind: ObjectKind, instance: Option<InstanceId>) -> HostObject {
        HostObject {
            kind,
            instance,
            interface: None,
            vpc: None,
            volume: Some(ID),
            on: false,
            bytes: None,
        }
    }

    #[test]
    fn each_kind_of_disagreement_is_a_sentence_and_agreement_is_silence() {
        use AttachmentState::{Attached, Attaching, Busy, Detaching};
        use VolumeState::{Available, Creating, Deleting, InUse};
        let (file, here) = (|| object(ObjectKind::Volume, None), Some("h"));
        let sized = |gib: u64| HostObject {
            bytes: Some(gib << 30),
            ..file()
        };
        let plugged = |instance| object(ObjectKind::Plugged, Some(instance));
        let partial = || object(ObjectKind::PartialVolume, None);
        for (rows, found, told) in [
            (rows(Available, None, None), vec![], ""),
            (rows(Available, None, here), vec![file()], ""),
            (
                rows(InUse, Some(Attached), here),
                vec![file(), plugged(INSTANCE)],
                "",
            ),
            // Two GiB, and three that a failed modification has left.
            (rows(Available, None, here), vec![sized(1)], ""),
            (rows(Available, None, here), vec![sized(3)], ""),
            (
                rows(InUse, Some(Attached), here),
                vec![sized(2), plugged(INSTANCE)],
                "",
            ),
            (
                rows(Available, None, here),
                vec![sized(4)],
                "its file of 4 GiB; modify it",
            ),
            (
                rows(InUse, Some(Attached), here),
                vec![sized(1), plugged(INSTANCE)],
                "its file of 1 GiB; stop and start",
            ),
            // On their way.
            (rows(InUse, Some(Attaching), here), vec![file()], ""),
            (
                rows(InUse, Some(Detaching), here),
                vec![file(), plugged(INSTANCE)],
                "",
            ),
            (rows(InUse, Some(Busy), here), vec![file(), plugged(INSTANCE)], ""),
            (rows(Deleting, None, here), vec![], ""),
            (rows(Creating, None, None), vec![], ""),
            (
                Rows::default(),
                vec![file()],
                "no volume of the database has its data here; if nobody",
            ),
            (
                rows(Available, None, None),
                vec![file()],
                "no volume of the database has its data here; if nobody",
            ),
            (
                rows(Available, None, None),
                vec![partial()],
                "not finished; the next start",
            ),
            (
                rows(Available, None, here),
                vec![],
                "its file is not on its host; put volumes/vol-",
            ),
            (
                rows(InUse, Some(Attaching), here),
                vec![],
                "its file is not on its host; put volumes/vol-",
            ),
            (
                rows(Available, None, here),
                vec![file(), plugged(INSTANCE)],
                "plugged in and no attachment says so; stop and start",
            ),
            (
                rows(InUse, Some(Attached), here),
                vec![file(), plugged(INSTANCE), plugged(OTHER)],
                "plugged in and no attachment says so; stop and start",
            ),
            (
                rows(InUse, Some(Attached), here),
                vec![file()],
                "its guest does not have it; stop and start",
            ),
        ] {
            tells(&rows, &found, told);
        }
    }

    /// One finding with these words; none where there are none.
    fn tells(rows: &Rows, found: &[HostObject], told: &str) {
        let words: Vec<_> = compare(rows, found, false).into_iter().map(|d| d.words).collect();
        let wanted = usize::from(!told.is_empty());
        assert_eq!(words.len(), wanted, "{found:?}: {words:?}");
        assert!(words.join("").contains(told), "{found:?}: {words:?}");
    }

    #[test]
    fn one_in_a_store_that_hosts_share_is_missed_on_none_of_them() {
        let mut rows = rows(VolumeState::Available, None, Some("h"));
        assert_eq!(compare(&rows, &[], false).len(), 1);
        for volume in rows.volumes.values_mut() {
            volume.shared = true;
        }
        assert!(compare(&rows, &[], false).is_empty());
    }

    #[test]
    fn images_are_compared_where_the_pool_is_reached() {
        use VolumeState::{Available, Creating, Deleting};
        let shared = |state, host| {
            let mut rows = rows(state, None, host);
            for volume in rows.volumes.values_mut() {
                volume.shared = true;
            }
            rows
        };
        let held = |mut rows: Rows| {
            rows.held.insert(ID);
            rows
        };
        let (keeper, of) = (Some("other"), |kind| object(kind, None));
        let pool = || HostObject {
            volume: None,
            ..of(ObjectKind::Pool)
        };
        let image = || of(ObjectKind::Image);
        for (rows, found, told) in [
            (shared(Available, keeper), vec![pool(), image()], ""),
            (shared(Deleting, keeper), vec![pool()], ""),
            (shared(Creating, None), vec![pool()], ""),
            (shared(Available, keeper), vec![], ""),
            (
                shared(Available, keeper),
                vec![pool()],
                "its image is not in the pool of volumes; put vol-",
            ),
            (
                Rows::default(),
                vec![pool(), image()],
                "no volume of the database has its data there; if nobody",
            ),
            (
                shared(Available, keeper),
                vec![pool(), image(), of(ObjectKind::Volume)],
                "no volume of the database has its data here; if nobody",
            ),
            // A file's row, which has its file.
            (
                rows(Available, None, Some("h")),
                vec![pool(), image(), of(ObjectKind::Volume)],
                "no volume of the database has its data there; if nobody",
            ),
            (
                shared(Creating, None),
                vec![pool(), of(ObjectKind::PartialImage)],
                "not finished; the next start",
            ),
            // It is not lost.
            (
                shared(Available, keeper),
                vec![pool(), of(ObjectKind::HalfRenamed)],
                "has two names, since it was not renamed to its end: remove neither",
            ),
            (
                held(shared(Creating, None)),
                vec![pool(), of(ObjectKind::PartialImage)],
                "",
            ),
        ] {
            tells(&rows, &found, told);
        }
    }

    /// A host that looks after none of them sees all of their images.
    #[test]
    fn shared_volumes_are_compared_on_each_host() {
        for (shared, left) in [(true, 1), (false, 0)] {
            let mut rows = rows(VolumeState::Available, None, Some("other"));
            for volume in rows.volumes.values_mut() {
                volume.shared = shared;
            }
            rows.keep("h");
            assert_eq!(rows.volumes.len(), left, "{shared}");
        }
    }

    #[test]
    fn one_that_is_off_or_simulated_has_nothing_to_compare() {
        let mut off = rows(VolumeState::InUse, Some(AttachmentState::Attached), Some("h"));
        if let Some(row) = off.instances.get_mut(&INSTANCE) {
            row.state = State::Stopped;
        }
        let file = [object(ObjectKind::Volume, None)];
        assert_eq!(compare(&off, &file, false), []);
        assert_eq!(compare(&off, &[], true), []);
    }
}
