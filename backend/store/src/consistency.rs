//! What must hold between instances and the rows that hang on them: each that lives has one root volume attached, each
//! interface one primary address, and nothing is left of what has ended; between images and what they are made of;
//! between copies of volumes and what they wait for; and between what is encrypted and its data keys.
//! `cumulet audit` and the simulator ask it.

use std::collections::{BTreeMap, BTreeSet};

use cumulet_domain::{
    Result,
    id::{InstanceId, NetworkInterfaceId, SnapshotId, VolumeId},
    volume::{AttachmentState, ModificationState, VolumeShape, VolumeState},
};
use sea_orm::{ConnectionTrait, EntityTrait};

use super::{encryption, images, rows, volume_copies};
use crate::entity::{
    columns::Ipv4, instance, interface, interface_address, volume, volume_attachment, volume_modification,
};

/// The rows, all of one moment.
#[derive(Debug, Default)]
pub struct Hanging {
    volumes: BTreeMap<VolumeId, volume::Model>,
    attachments: Vec<volume_attachment::Model>,
    modifications: Vec<volume_modification::Model>,
    addresses: Vec<interface_address::Model>,
    /// What does not hold of images and what they are made of.
    images: Vec<String>,
    /// What does not hold of what is encrypted, and of what is not.
    encryption: Vec<String>,
    /// What does not hold of copies of volumes and the snapshots that they are to be made of.
    copies: Vec<String>,
}

impl Hanging {
    /// Reads them.
    ///
    /// # Errors
    /// Those of the database; `Internal` where a row is damaged.
    pub async fn load(conn: &impl ConnectionTrait) -> Result<Self> {
        let volumes = rows::all(volume::Entity::find(), conn).await?;
        Ok(Hanging {
            volumes: volumes.into_iter().map(|row| (row.id.0, row)).collect(),
            attachments: rows::all(volume_attachment::Entity::find(), conn).await?,
            modifications: rows::all(volume_modification::Entity::find(), conn).await?,
            addresses: rows::all(interface_address::Entity::find(), conn).await?,
            images: images::findings(conn).await?,
            encryption: encryption::findings(conn).await?,
            copies: volume_copies::findings(conn).await?,
        })
    }

    /// The GiB that volumes have claimed of a host's disk, those in a store that hosts share not among them.
    pub fn disk_gib(&self, host: &str) -> i64 {
        let there = self
            .volumes
            .values()
            .filter(|row| row.host.as_deref() == Some(host) && !row.is_shared());
        there.map(|row| i64::from(row.size_gib.0)).sum()
    }

    /// The snapshot that a volume was made of, or is to be.
    pub fn made_of(&self, volume: VolumeId) -> Option<SnapshotId> {
        self.volumes.get(&volume)?.snapshot.map(|snapshot| snapshot.0)
    }

    /// What is on its way to another state, in words.
    pub fn unsettled(&self) -> Vec<(VolumeId, String)> {
        let is_at_rest = |state: VolumeState| {
            matches!(
                state,
                VolumeState::Available | VolumeState::InUse | VolumeState::Deleted | VolumeState::Error
            )
        };
        let volumes = self.volumes.iter().filter(|(_, row)| !is_at_rest(row.state.0));
        let mut all: Vec<_> = volumes
            .map(|(id, row)| (*id, format!("is {}", row.state.0)))
            .collect();
        let attached = self.attachments.iter();
        let moving = attached.filter(|row| row.state.0 != AttachmentState::Attached);
        all.extend(moving.map(|row| (row.volume.0, format!("is {} at {}", row.state.0, row.instance.0))));
        let open = self.modifications.iter();
        let open = open.filter(|row| row.state.0 == ModificationState::Modifying);
        all.extend(open.map(|row| (row.volume.0, "is being modified".into())));
        all
    }

    /// The volumes whose data is on a host and nowhere else, and whether it has confirmed that.
    pub fn volumes_on(&self, host: &str) -> BTreeMap<VolumeId, bool> {
        let there = self
            .volumes
            .values()
            .filter(|row| row.host.as_deref() == Some(host) && !row.is_shared());
        there.map(|row| (row.id.0, row.made_at.is_some())).collect()
    }

    /// The volumes whose data is in the store that hosts share, and whether a host has confirmed that.
    pub fn volumes_shared(&self) -> BTreeMap<VolumeId, bool> {
        let there = self.volumes.values();
        let there = there.filter(|row| row.host.is_some() && row.is_shared());
        there.map(|row| (row.id.0, row.made_at.is_some())).collect()
    }

    /// What a volume is to be for whoever has it.
    pub fn shape(&self, volume: VolumeId) -> Option<VolumeShape> {
        self.volumes.get(&volume).map(volume::Model::shape)
    }

    /// The volumes beside its root that an instance has.
    pub fn data_of(&self, instance: InstanceId) -> BTreeSet<VolumeId> {
        let its = |row: &&volume_attachment::Model| row.instance.0 == instance && !row.is_root();
        self.attachments
            .iter()
            .filter(its)
            .map(|row| row.volume.0)
            .collect()
    }

    /// What does not hold, in words.
    pub fn findings<'r>(
        &self,
        instances: impl IntoIterator<Item = &'r instance::Model>,
        interfaces: &[interface::Model],
    ) -> Vec<String> {
        let living = instances.into_iter().filter(|row| row.terminated_at.is_none());
        let living: BTreeMap<InstanceId, &instance::Model> = living.map(|row| (row.id.0, row)).collect();
        let mut found = self.disks(&living);
        found.extend(self.states());
        found.extend(self.addresses_of(interfaces));
        let others = self.images.iter().chain(&self.encryption).chain(&self.copies);
        found.extend(others.cloned());
        found
    }

    fn disks(&self, living: &BTreeMap<InstanceId, &instance::Model>) -> Vec<String> {
        let mut found = Vec::new();
        let mut roots: BTreeMap<InstanceId, usize> = BTreeMap::new();
        for row in &self.attachments {
            let (instance, volume) = (row.instance.0, row.volume.0);
            *roots.entry(instance).or_default() += usize::from(row.is_root());
            match (living.get(&instance), self.volumes.get(&volume)) {
                (None, _) => found.push(format!("{volume} is attached to {instance}, which has ended")),
                (Some(of), Some(disk)) => found.extend(differs_from_instance(row, disk, of)),
                (Some(_), None) => {}
            }
            if self
                .volumes
                .get(&volume)
                .is_none_or(|row| row.state.0 != VolumeState::InUse)
            {
                found.push(format!("{volume} is attached to {instance} and not in use"));
            }
        }
        for id in living.keys() {
            let has = roots.get(id).copied().unwrap_or(0);
            if has != 1 {
                found.push(format!("{id} has {has} root volumes"));
            }
        }
        found
    }

    fn states(&self) -> Vec<String> {
        let attached: BTreeSet<VolumeId> = self.attachments.iter().map(|row| row.volume.0).collect();
        let mut found = Vec::new();
        for (id, row) in &self.volumes {
            let state = row.state.0;
            if state == VolumeState::InUse && !attached.contains(id) {
                found.push(format!("{id} is in use and attached to nothing"));
            }
            if state == VolumeState::Deleted && row.host.is_some() {
                found.push(format!("{id} is {state} and has its data on a host"));
            }
            if (state == VolumeState::Deleted) != row.deleted_at.is_some() {
                found.push(format!("{id} is {state} and was deleted at {:?}", row.deleted_at));
            }
        }
        found
    }

    fn addresses_of(&self, interfaces: &[interface::Model]) -> Vec<String> {
        let mut found = Vec::new();
        let rows = interfaces.iter().map(|row| (row.id.0, row));
        let rows: BTreeMap<NetworkInterfaceId, &interface::Model> = rows.collect();
        let mut primaries: BTreeMap<NetworkInterfaceId, usize> = BTreeMap::new();
        for address in &self.addresses {
            let id = address.interface.0;
            let Some(row) = rows.get(&id) else {
                found.push(format!(
                    "{:?} is the address of {id}, which is gone",
                    address.address.0
                ));
                continue;
            };
            let place = (address.subnet, address.vpc, address.account);
            if place != (row.subnet, row.vpc, row.account) {
                found.push(format!(
                    "{:?} of {id} is in another subnet than it",
                    address.address.0
                ));
            }
            if address.address_index.0 == 0 {
                *primaries.entry(id).or_default() += 1;
                found.extend(differs(row, address));
            }
        }
        for id in rows.keys() {
            let has = primaries.get(id).copied().unwrap_or(0);
            if has != 1 {
                found.push(format!("{id} has {has} primary addresses"));
            }
        }
        found
    }
}

/// A root that is not as large as its instance says, or another disk that is kept by another host than the instance's: one
/// that is attached has come there, whoever may have it afterwards.
fn differs_from_instance(
    row: &volume_attachment::Model,
    disk: &volume::Model,
    of: &instance::Model,
) -> Option<String> {
    let (volume, instance) = (row.volume.0, row.instance.0);
    let (has, wanted) = (disk.size_gib, of.disk_gib);
    if row.is_root() {
        return (has != wanted)
            .then(|| format!("{volume} is of {has} GiB, and {instance} starts from {wanted}"));
    }
    let is_there = row.state.0 != AttachmentState::Attached || disk.host == of.host;
    (!is_there).then(|| {
        let (kept, host) = (&disk.host, &of.host);
        format!("{volume} is kept by {kept:?} and attached to {instance}, which is on {host:?}")
    })
}

/// A primary address that is not the one of the interface's own columns, which earlier programs go by.
fn differs(row: &interface::Model, address: &interface_address::Model) -> Option<String> {
    let v4 = |address: crate::entity::columns::Address| address.v4().map(Ipv4);
    let of = (v4(address.address), address.public_address.and_then(v4));
    let own = (Some(row.private_ip), row.public_ip);
    (of != own).then(|| {
        let id = row.id.0;
        format!("{id} has the addresses {own:?} and {of:?}")
    })
}
