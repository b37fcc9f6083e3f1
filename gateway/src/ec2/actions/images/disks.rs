//! Block device mappings of images, as requests have them and as answers show them.

use cumulet_backend::api::images::{AskedDisk, ImageView};
use cumulet_backend::entity::{
    columns::{Count, Flag},
    image_mapping,
};
use cumulet_domain::volume::VolumeType;
use cumulet_wire::ec2::shared::{BlockDeviceMapping, EbsBlockDevice};

use crate::{ec2::block_devices::volume, fault::Fault};

/// What a request says of its disks.
pub(super) fn asked(given: Vec<BlockDeviceMapping>) -> Result<Vec<AskedDisk>, Fault> {
    let numbered = given.into_iter().enumerate();
    numbered.map(|(n, mapping)| one(n + 1, mapping)).collect()
}

fn one(n: usize, mapping: BlockDeviceMapping) -> Result<AskedDisk, Fault> {
    let path = |member: &str| format!("BlockDeviceMapping.{n}.{member}");
    let device = mapping.device_name.filter(|name| !name.is_empty());
    let device = device.ok_or_else(|| Fault::missing(&path("DeviceName")))?;
    if mapping.no_device.is_some() {
        if mapping.ebs.is_some() {
            let reason = format!("The mapping of {device} has NoDevice and Ebs, of which it can have one");
            return Err(Fault::combination(reason));
        }
        return Ok(AskedDisk { device, wanted: None });
    }
    let wanted = Some(volume(mapping.ebs.unwrap_or_default(), n)?);
    Ok(AskedDisk { device, wanted })
}

/// The same without what DescribeImageAttribute doesn't say.
pub(super) fn attribute(view: &ImageView) -> Vec<BlockDeviceMapping> {
    let mut shown = shown(view);
    for ebs in shown.iter_mut().filter_map(|mapping| mapping.ebs.as_mut()) {
        ebs.encrypted = None;
    }
    shown
}

/// The disks of an image, its root's first.
pub(super) fn shown(view: &ImageView) -> Vec<BlockDeviceMapping> {
    if view.disks.is_empty() {
        return vec![of_file(view)];
    }
    let root = &view.row.root_device;
    let mut disks: Vec<&image_mapping::Model> = view.disks.iter().collect();
    disks.sort_by_key(|disk| disk.device != *root);
    disks.into_iter().map(of_row).collect()
}

fn of_row(disk: &image_mapping::Model) -> BlockDeviceMapping {
    let size = disk.size_gib.map_or(0, |Count(gib)| gib);
    let kind = disk.volume_type.0;
    // What was asked for; what the type has anyway a volume shows, and Terraform would take for a difference.
    let number = |kept: Option<Count>| kept.and_then(|Count(number)| i32::try_from(number).ok());
    let ebs = EbsBlockDevice {
        delete_on_termination: Some(disk.delete_on_termination.0),
        iops: number(disk.iops),
        throughput: number(disk.throughput),
        snapshot_id: disk.snapshot.map(|snapshot| snapshot.0.to_string()),
        volume_size: i32::try_from(size).ok(),
        volume_type: Some(kind.name().into()),
        encrypted: Some(disk.encrypted == Some(Flag(true))),
        ..Default::default()
    };
    mapping(&disk.device.0, ebs)
}

/// The root of an image that is a file, which no snapshot is behind.
fn of_file(view: &ImageView) -> BlockDeviceMapping {
    let ebs = EbsBlockDevice {
        delete_on_termination: Some(true),
        volume_size: gib(view.row.virtual_bytes.0),
        volume_type: Some(VolumeType::Gp3.name().into()),
        encrypted: Some(false),
        ..Default::default()
    };
    mapping(&view.row.root_device.0, ebs)
}

fn mapping(device: &str, ebs: EbsBlockDevice) -> BlockDeviceMapping {
    BlockDeviceMapping {
        device_name: Some(device.to_owned()),
        ebs: Some(ebs),
        ..Default::default()
    }
}

/// GiB, rounded up.
fn gib(bytes: u64) -> Option<i32> {
    i32::try_from(bytes.div_ceil(1 << 30).max(1)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_whole_gib() {
        for (bytes, expected) in [
            (0, Some(1)),
            (1, Some(1)),
            (1 << 30, Some(1)),
            ((1 << 30) + 1, Some(2)),
            (u64::MAX, None),
        ] {
            assert_eq!(gib(bytes), expected);
        }
    }

    #[test]
    fn what_a_mapping_asks_for() {
        let of = |mapping: BlockDeviceMapping| {
            let device_name = Some("/dev/sdb".to_owned());
            let mapping = BlockDeviceMapping {
                device_name,
                ..mapping
            };
            asked(vec![mapping]).map_err(|fault| fault.answer().code)
        };
        let ebs = |ebs: EbsBlockDevice| BlockDeviceMapping {
            ebs: Some(ebs),
            ..Default::default()
        };
        let size = |size| {
            ebs(EbsBlockDevice {
                volume_size: Some(size),
                ..Default::default()
            })
        };
        let found = of(size(5)).unwrap();
        assert_eq!(found[0].wanted.as_ref().unwrap().size_gib, Some(5));
        let nothing = BlockDeviceMapping {
            no_device: Some(String::new()),
            ..Default::default()
        };
        assert_eq!(of(nothing.clone()).unwrap()[0].wanted, None);
        let kind = ebs(EbsBlockDevice {
            volume_type: Some("fast".into()),
            ..Default::default()
        });
        let both = BlockDeviceMapping {
            no_device: Some(String::new()),
            ..size(5)
        };
        for (mapping, code) in [
            (size(0), "InvalidParameterValue"),
            (size(-1), "InvalidParameterValue"),
            (kind, "InvalidParameterValue"),
            (both, "InvalidParameterCombination"),
        ] {
            assert_eq!(of(mapping).unwrap_err(), code);
        }
        let nameless = asked(vec![nothing]).map_err(|fault| fault.answer().code);
        assert_eq!(nameless.unwrap_err(), "MissingParameter");
    }
}
