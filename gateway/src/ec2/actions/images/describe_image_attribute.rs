//! DescribeImageAttribute: one attribute of an image of the account's own.

use async_trait::async_trait;
use cumulet_backend::api::images::{self, Grantees, ImageAttributes};
use cumulet_wire::ec2::{
    images::{DescribeImageAttribute, DescribeImageAttributeRequest, ImageAttribute, LaunchPermission},
    shared::AttributeValue,
};

use super::{
    describe_images::{SRIOV, boot_mode, protection},
    disks,
};
use crate::{
    ec2::{
        action::Action,
        ctx::{Ctx, id},
        sharing,
    },
    fault::Fault,
};

/// The attribute of who may launch an image.
pub(super) const PERMISSION: &str = "launchPermission";

/// Every attribute that EC2 has.
const ATTRIBUTES: [&str; 13] = [
    "description",
    "kernel",
    "ramdisk",
    PERMISSION,
    "productCodes",
    "blockDeviceMapping",
    "sriovNetSupport",
    "bootMode",
    "tpmSupport",
    "uefiData",
    "lastLaunchedTime",
    "imdsSupport",
    "deregistrationProtection",
];

#[async_trait]
impl Action for DescribeImageAttribute {
    async fn run(ctx: &Ctx, input: DescribeImageAttributeRequest) -> Result<ImageAttribute, Fault> {
        let image = id(&input.image_id)?;
        if !ATTRIBUTES.contains(&input.attribute.as_str()) {
            let reason = format!("expecting one of {}", ATTRIBUTES.join(", "));
            return Err(Fault::invalid("Attribute", &input.attribute, reason));
        }
        let found = images::attributes(&ctx.cloud, &ctx.who, image).await?;
        Ok(attribute(&found, &input.attribute))
    }
}

fn attribute(found: &ImageAttributes, name: &str) -> ImageAttribute {
    let row = &found.view.row;
    let value = |value: Option<&str>| {
        Some(AttributeValue {
            value: value.map(str::to_owned),
        })
    };
    let mut shown = ImageAttribute {
        image_id: Some(found.view.id().to_string()),
        ..Default::default()
    };
    match name {
        "description" => {
            shown.description = value(
                Some(&row.description)
                    .filter(|text| !text.is_empty())
                    .map(String::as_str),
            )
        }
        "kernel" => shown.kernel_id = value(None),
        "ramdisk" => shown.ramdisk_id = value(None),
        PERMISSION => shown.launch_permissions = Some(permissions(&found.launchers)),
        "productCodes" => shown.product_codes = Some(Vec::new()),
        "blockDeviceMapping" => shown.block_device_mappings = Some(disks::attribute(&found.view)),
        "sriovNetSupport" => shown.sriov_net_support = value(Some(SRIOV)),
        "bootMode" => shown.boot_mode = value(boot_mode(row)),
        "tpmSupport" => shown.tpm_support = value(None),
        "uefiData" => shown.uefi_data = value(None),
        "lastLaunchedTime" => shown.last_launched_time = value(None),
        "imdsSupport" => shown.imds_support = value(row.imds_support.as_deref()),
        // No other is asked for.
        _ => shown.deregistration_protection = value(Some(protection(row))),
    }
    shown
}

fn permissions(found: &Grantees) -> Vec<LaunchPermission> {
    sharing::shown(found, |user_id, group| LaunchPermission {
        user_id,
        group,
        ..Default::default()
    })
}
