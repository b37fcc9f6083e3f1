//! RegisterImage: of snapshots. Without words about its virtualization it is for such machines as there are, hvm, and
//! without words about its architecture for x86_64; EC2's own defaults are of machines that nobody has any more.

use async_trait::async_trait;
use cumulet_backend::api::images::{self, IMDS_V2, Registration};
use cumulet_domain::{image::BootMode, names::Unknown};
use cumulet_wire::ec2::images::{RegisterImage, RegisterImageRequest, RegisterImageResult};

use super::disks::asked;
use crate::{
    ec2::{
        action::Action,
        ctx::{Ctx, tags_for},
    },
    fault::Fault,
};

#[async_trait]
impl Action for RegisterImage {
    async fn run(ctx: &Ctx, input: RegisterImageRequest) -> Result<RegisterImageResult, Fault> {
        let new = Registration {
            name: input.name,
            description: input.description.unwrap_or_default(),
            architecture: input.architecture,
            boot_mode: input.boot_mode.as_deref().map(boot_mode).transpose()?,
            imds_v2: input.imds_support.as_deref().map(imds).transpose()?.is_some(),
            root_device: input.root_device_name,
            disks: asked(input.block_device_mappings)?,
            tags: tags_for("image", input.tag_specifications)?,
        };
        let made = images::register(&ctx.cloud, &ctx.who, new).await?;
        Ok(RegisterImageResult {
            image_id: Some(made.to_string()),
        })
    }
}

fn boot_mode(text: &str) -> Result<BootMode, Fault> {
    text.parse().map_err(|_: Unknown| {
        let reason = "expecting legacy-bios, uefi or uefi-preferred";
        Fault::invalid("BootMode", text, reason)
    })
}

/// The one value of `ImdsSupport` that there is.
pub(super) fn imds(text: &str) -> Result<(), Fault> {
    if text == IMDS_V2 {
        return Ok(());
    }
    let reason = format!("expecting {IMDS_V2}, which can't be undone");
    Err(Fault::invalid("ImdsSupport", text, reason))
}
