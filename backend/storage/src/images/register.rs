//! RegisterImage: an image of snapshots that are there.

use cumulet_core::{RequestContext, tag_room::room as tag_room};
use cumulet_domain::{
    Error, Result,
    account::Principal,
    id::{ImageId, marker},
    image::{Architecture, BootMode},
    snapshot::check_description,
    tag::Tag,
    volume::{ROOT_DEVICES, check_root_device},
};
use cumulet_store::{
    Invalidates,
    authority::{Grant, Permission},
    entity::columns::{Amount, Device, Named},
    images::manifest_of,
    tags,
};
use sea_orm::DatabaseTransaction;

use super::{
    AskedDisk, IMDS_V2,
    disks::{self, Disk, beside_root, check_count, check_devices, mapping},
    insert::{self, check_name, room},
};
use crate::boxed;

/// The root device of a request that names none.
const ROOT: &str = ROOT_DEVICES[1];

/// How images for an architecture are started where nothing is said. (Nothing that is kept is legacy-bios, too.)
const fn default_boot_mode(of: Architecture) -> Option<BootMode> {
    match of {
        Architecture::X86_64 => None,
        Architecture::Arm64 => Some(BootMode::Uefi),
    }
}

/// An image to be registered.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Registration {
    pub name: String,
    pub description: String,
    /// `None`: `x86_64`. (EC2's own default has no machines any more.)
    pub architecture: Option<String>,
    pub boot_mode: Option<BootMode>,
    /// Instances ask for tokens unless a launch says otherwise.
    pub imds_v2: bool,
    /// `None`: `/dev/sda1`.
    pub root_device: Option<String>,
    pub disks: Vec<AskedDisk>,
    pub tags: Vec<Tag>,
}

/// Registers an image of the account's snapshots.
///
/// # Errors
/// `ImageName`, `ImageNameTaken`; `InvalidParameter`, `InvalidCombination`, `NoDeviceName`, `InvalidMapping`,
/// `EncryptionOfSnapshot`; `NotFound` and `IncorrectState` of a snapshot; `LimitExceeded`. Then nothing has changed.
#[boxed]
pub async fn register(cx: &RequestContext, who: &Principal, mut new: Registration) -> Result<ImageId> {
    let grant = cx.authorise(who, Permission::REGISTER_IMAGE)?;
    check_name(&new.name)?;
    check_description(&new.description)?;
    check_devices(&new.disks)?;
    check_root_device(new.root_device.as_deref().unwrap_or(ROOT))?;
    boot_mode(&new)?;
    tags::validate(&new.tags)?;
    new.tags.sort();
    let (call, tags_room) = (cx.clone(), tag_room(cx, who.account, new.tags.len()));
    let write = cx.store.write_with(Invalidates::Nothing, move |txn| {
        Box::pin(async move {
            room(txn, &call, grant.account(), &new.name).await?;
            let id = make(txn, &call, &grant, &new).await?;
            tags_room.check(txn).await?;
            Ok(id)
        })
    });
    write.await
}

async fn make(
    txn: &DatabaseTransaction,
    cx: &RequestContext,
    grant: &Grant,
    new: &Registration,
) -> Result<ImageId> {
    let root_device = new.root_device.as_deref().unwrap_or(ROOT);
    let mut disks: Vec<Disk> = Vec::with_capacity(new.disks.len());
    let mut manifest = None;
    for asked in &new.disks {
        let Some(wanted) = &asked.wanted else { continue };
        if asked.device == root_device {
            let (disk, source) = disks::new(txn, grant, root_device, wanted).await?;
            manifest = source.map(|row| (manifest_of(&row), disk.size_gib, row.encrypted));
            disks.push(disk);
        } else {
            disks.push(beside_root(txn, grant, &asked.device, wanted).await?);
        }
    }
    check_count(disks.len())?;
    let (manifest, root_gib, encrypted) = manifest.ok_or_else(|| {
        mapping(format!(
            "The root device {root_device} has no snapshot to be made of"
        ))
    })?;
    let (architecture, boot_mode) = boot_mode(new)?;
    let mut row = insert::fresh(
        cx.rng.id::<marker::Image>(),
        grant.account(),
        new.name.clone(),
        cx.now(),
    );
    row.description = new.description.clone();
    row.architecture = Named(architecture);
    row.boot_mode = boot_mode.map(Named);
    row.root_device = Device(root_device.into());
    row.virtual_bytes = Amount(u64::from(root_gib) << 30);
    row.manifest = Some(manifest);
    row.encrypted = encrypted.0.then_some(encrypted);
    row.imds_support = new.imds_v2.then(|| IMDS_V2.into());
    let id = row.id.0;
    let disks = disks.iter().map(|disk| disk.row(id)).collect();
    insert::insert(txn, cx, grant, row, disks, &new.tags).await
}

/// What it is for, and how it is started.
fn boot_mode(new: &Registration) -> Result<(Architecture, Option<BootMode>)> {
    let wanted = new.architecture.as_deref().unwrap_or(Architecture::X86_64.name());
    let Some(architecture) = Architecture::from_name(wanted) else {
        let reason = "this cloud has machines of x86_64 and arm64";
        return Err(Error::invalid("Architecture", wanted, reason));
    };
    let mode = new.boot_mode.or(default_boot_mode(architecture));
    if let (Architecture::Arm64, Some(BootMode::LegacyBios)) = (architecture, mode) {
        let reason = "machines of arm64 are started by UEFI";
        return Err(Error::invalid("BootMode", BootMode::LegacyBios.name(), reason));
    }
    Ok((architecture, mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_for_arm_is_started_by_uefi() {
        let of = |architecture: Option<&str>, mode| {
            let new = Registration {
                name: "one".into(),
                description: String::new(),
                architecture: architecture.map(str::to_owned),
                boot_mode: mode,
                imds_v2: false,
                root_device: None,
                disks: Vec::new(),
                tags: Vec::new(),
            };
            boot_mode(&new).ok()
        };
        for (architecture, mode, expected) in [
            (None, None, Some((Architecture::X86_64, None))),
            (
                Some("x86_64"),
                Some(BootMode::UefiPreferred),
                Some((Architecture::X86_64, Some(BootMode::UefiPreferred))),
            ),
            (
                Some("arm64"),
                None,
                Some((Architecture::Arm64, Some(BootMode::Uefi))),
            ),
            (Some("arm64"), Some(BootMode::LegacyBios), None),
            (Some("i386"), None, None),
        ] {
            assert_eq!(of(architecture, mode), expected, "{architecture:?} {mode:?}");
        }
    }
}
