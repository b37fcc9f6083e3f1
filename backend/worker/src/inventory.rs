//! The inventory of a host: all that is on it because of this cloud. `cumulet audit` reads it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use cumulet_domain::{
    id::{HostId, InstanceId, NetworkInterfaceId, VolumeId, VpcId},
    message::Power,
};
use cumulet_hypervisor::{Hypervisor, RbdImage};

use crate::{
    Worker, WorkerError, boxed,
    files::DiskFiles,
    layout::{Layout, PARTIAL, failed, volume_of},
    network::{HostNetwork, Inventory},
    pool::volume_named,
    rbd::Rbd,
};

/// What a thing on a host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ObjectKind {
    /// A guest, defined or running.
    Domain,
    /// An instance's directory, with its disk.
    Disk,
    /// A snapshot that is served to an instance.
    Metadata,
    /// A tap that is not in a VPC's namespace.
    Tap,
    /// An interface in a VPC's namespace.
    Interface,
    /// A VPC's namespace.
    Namespace,
    /// A VPC's DHCP server.
    Dhcp,
    /// A VPC's rule set.
    Firewall,
    /// A VPC's way to the public side.
    Uplink,
    /// A VPC's way to its instances on other hosts.
    Tunnel,
    /// What lets packets of other hosts into a VPC.
    Guard,
    /// A volume's file.
    Volume,
    /// A volume's file that is not whole: its making was cut off.
    PartialVolume,
    /// A volume in the hands of a guest that runs.
    Plugged,
    /// The pool of volumes, whose images are all among what was found.
    Pool,
    /// A volume's image there.
    Image,
    /// A volume's image that is not whole: some host is making it, or was.
    PartialImage,
    /// A volume's image there that has the name still that it was made by: its renaming was cut off.
    HalfRenamed,
}

/// A thing on a host.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
pub struct HostObject {
    /// What it is.
    pub kind: ObjectKind,
    /// The instance that it belongs to, where it has one.
    pub instance: Option<InstanceId>,
    /// The interface that it is.
    pub interface: Option<NetworkInterfaceId>,
    /// The VPC that it belongs to, where it has one.
    pub vpc: Option<VpcId>,
    /// The volume that it is.
    pub volume: Option<VolumeId>,
    /// Whether it is on: a guest that runs.
    pub on: bool,
    /// How large the disk is in a volume's file, where that can be read.
    pub bytes: Option<u64>,
}

impl HostObject {
    const fn new(kind: ObjectKind) -> Self {
        HostObject {
            kind,
            instance: None,
            interface: None,
            vpc: None,
            volume: None,
            on: false,
            bytes: None,
        }
    }

    const fn of_volume(kind: ObjectKind, volume: VolumeId) -> Self {
        HostObject {
            volume: Some(volume),
            ..HostObject::new(kind)
        }
    }

    const fn of_instance(kind: ObjectKind, instance: InstanceId) -> Self {
        HostObject {
            instance: Some(instance),
            ..HostObject::new(kind)
        }
    }

    const fn of_vpc(kind: ObjectKind, vpc: VpcId) -> Self {
        HostObject {
            vpc: Some(vpc),
            ..HostObject::new(kind)
        }
    }
}

/// Lists all that is on a host because of this cloud, sorted, for whom no worker runs: its guests, their directories, the
/// network, and what is in the pool of volumes, if it is told of one and reaches it. Nothing is made or changed.
///
/// # Errors
/// When a part of the host can't be listed: half an answer would pass for "nothing is left".
#[boxed]
pub async fn inventory(
    state_dir: &Path,
    host: &HostId,
    hypervisor: &dyn Hypervisor,
    network: &dyn HostNetwork,
    pool: Option<&Rbd>,
) -> Result<Vec<HostObject>, WorkerError> {
    let mut objects = list(
        &Layout::of(Arc::new(DiskFiles), state_dir, host)?,
        hypervisor,
        network,
    )
    .await?;
    if let Some(pool) = pool {
        list_images(pool, &mut objects).await;
    }
    objects.sort();
    Ok(objects)
}

impl Worker {
    /// Lists all that is on the host because of this cloud, sorted, and the snapshots that are served. Nothing is changed;
    /// the worker need not run.
    ///
    /// # Errors
    /// As [`inventory`].
    #[boxed]
    pub async fn inventory(&self) -> Result<Vec<HostObject>, WorkerError> {
        let deps = &self.deps;
        let mut objects = list(&self.layout, &*deps.hypervisor, &*deps.network).await?;
        let served = deps.metadata.registered().into_iter();
        objects.extend(served.map(|id| HostObject::of_instance(ObjectKind::Metadata, id)));
        objects.sort();
        Ok(objects)
    }
}

async fn list(
    layout: &Layout,
    hypervisor: &dyn Hypervisor,
    network: &dyn HostNetwork,
) -> Result<Vec<HostObject>, WorkerError> {
    let mut objects = Vec::new();
    for status in hypervisor.list().await? {
        objects.push(HostObject {
            on: status.power == Power::On,
            ..HostObject::of_instance(ObjectKind::Domain, status.instance)
        });
    }
    let names = names(layout, layout.instances()).await?;
    let disks = names.iter().filter_map(|name| name.parse().ok());
    objects.extend(disks.map(|id| HostObject::of_instance(ObjectKind::Disk, id)));
    list_volumes(layout, hypervisor, &mut objects).await?;
    list_network(network.inventory().await?, &mut objects);
    Ok(objects)
}

/// The names in a directory.
async fn names(layout: &Layout, dir: PathBuf) -> Result<Vec<String>, WorkerError> {
    let listed = layout.blocking({
        let dir = dir.clone();
        move |files| files.names(&dir)
    });
    listed.await.map_err(|error| failed(&dir, error))
}

/// Volumes' files, and those that guests have in hands.
async fn list_volumes(
    layout: &Layout,
    hypervisor: &dyn Hypervisor,
    objects: &mut Vec<HostObject>,
) -> Result<(), WorkerError> {
    let dir = layout.volumes();
    for path in names(layout, dir.clone()).await?.iter().map(Path::new) {
        let kind = match path.extension().is_some_and(|kind| kind == PARTIAL) {
            true => ObjectKind::PartialVolume,
            false => ObjectKind::Volume,
        };
        let Some(volume) = volume_of(path) else { continue };
        let file = dir.join(path);
        // One that can't be read is there all the same.
        let bytes = layout.blocking(move |files| files.disk_bytes(&file));
        objects.push(HostObject {
            bytes: bytes.await.ok().flatten(),
            ..HostObject::of_volume(kind, volume)
        });
    }
    for (instance, path) in hypervisor.open_disks().await? {
        // By the folder's name: a state directory may be reached in more than one way.
        let folder = path.parent().and_then(Path::file_name);
        let is_volume = folder == dir.file_name() || RbdImage::of(&path).is_some();
        let volume = volume_of(&path).filter(|_| is_volume);
        objects.extend(volume.map(|volume| HostObject {
            instance: Some(instance),
            ..HostObject::of_volume(ObjectKind::Plugged, volume)
        }));
    }
    Ok(())
}

/// The images of the pool. It is every host's, and may be away: then nothing is said of it.
async fn list_images(pool: &Rbd, objects: &mut Vec<HostObject>) {
    let names = match pool.names().await {
        Ok(names) => names,
        Err(error) => return tracing::warn!(%error, "the images of the pool of volumes are not compared"),
    };
    objects.push(HostObject::new(ObjectKind::Pool));
    for name in names {
        let Some((volume, host)) = volume_named(&name) else {
            continue;
        };
        let kind = match host {
            None => ObjectKind::Image,
            Some(_) => partial(pool, name.clone()).await,
        };
        objects.push(HostObject::of_volume(kind, volume));
    }
}

/// What an image is that has the name which it was made by.
async fn partial(pool: &Rbd, name: String) -> ObjectKind {
    let image = RbdImage {
        pool: pool.ceph().pool.clone(),
        name,
    };
    match pool.twin(&image).await {
        Ok(Some(_)) => ObjectKind::HalfRenamed,
        Ok(None) => ObjectKind::PartialImage,
        Err(error) => {
            tracing::warn!(%image, %error, "an image of the pool of volumes can't be looked at");
            ObjectKind::PartialImage
        }
    }
}

fn list_network(network: Inventory, objects: &mut Vec<HostObject>) {
    objects.extend(network.prepared.iter().map(|id| HostObject {
        interface: Some(*id),
        ..HostObject::new(ObjectKind::Tap)
    }));
    let guards = network.guarded.into_iter();
    objects.extend(guards.map(|vpc| HostObject::of_vpc(ObjectKind::Guard, vpc)));
    for (vpc, has) in network.vpcs {
        objects.push(HostObject::of_vpc(ObjectKind::Namespace, vpc));
        objects.extend(has.interfaces.iter().map(|id| HostObject {
            interface: Some(*id),
            ..HostObject::of_vpc(ObjectKind::Interface, vpc)
        }));
        for (there, kind) in [
            (has.dhcp, ObjectKind::Dhcp),
            (has.firewall, ObjectKind::Firewall),
            (has.uplink, ObjectKind::Uplink),
            (has.tunnel, ObjectKind::Tunnel),
        ] {
            if there {
                objects.push(HostObject::of_vpc(kind, vpc));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rbd::tests::Pretended;

    /// Images of nobody we know are left out, and a pool that is away is none.
    #[tokio::test]
    async fn what_is_in_the_pool_is_listed_where_it_answers() {
        let [whole, partial] = [1, 2].map(|n| VolumeId::new(n << 40));
        let script = format!("echo '[\"{whole}.raw\",\"{partial}.one.new\",\"backup\",\"{whole}.bak\"]'");
        let mut found = Vec::new();
        list_images(&Pretended::new(&script).rbd(), &mut found).await;
        let expected = [
            HostObject::new(ObjectKind::Pool),
            HostObject::of_volume(ObjectKind::Image, whole),
            HostObject::of_volume(ObjectKind::PartialImage, partial),
        ];
        assert_eq!(found, expected);
        let script =
            format!("case $1 in ls) echo '[\"{partial}.one.new\"]';; *) echo '{{\"id\":\"1\"}}';; esac");
        let mut twice = Vec::new();
        list_images(&Pretended::new(&script).rbd(), &mut twice).await;
        let expected = [
            HostObject::new(ObjectKind::Pool),
            HostObject::of_volume(ObjectKind::HalfRenamed, partial),
        ];
        assert_eq!(twice, expected);
        let mut none = Vec::new();
        list_images(&Pretended::new("exit 110").rbd(), &mut none).await;
        assert_eq!(none, []);
    }
}
