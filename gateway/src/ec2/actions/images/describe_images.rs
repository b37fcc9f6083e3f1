//! DescribeImages: the account's own images and the public ones.

use async_trait::async_trait;
use cumulet_backend::api::{
    Page, PageRequest,
    images::{self, ImageQuery, ImageView},
};
use cumulet_domain::time::Timestamp;
use cumulet_wire::ec2::{
    images::{DescribeImages, DescribeImagesRequest, Image},
    shared::{BlockDeviceMapping, EbsBlockDevice},
};

use crate::{
    ec2::{
        ctx::{Ctx, ids, tags_if_any},
        describe::Describe,
        filter::{Filters, Keyed},
    },
    fault::Fault,
};

type Row = Keyed<i64, Image>;

#[async_trait]
impl Describe for DescribeImages {
    type Row = Row;

    async fn load(
        ctx: &Ctx,
        input: &DescribeImagesRequest,
        _: &Filters<Row>,
        page: PageRequest,
    ) -> Result<Page<Row>, Fault> {
        let query = ImageQuery {
            ids: ids(&input.image_ids)?,
            owned: input.owners.iter().all(|owner| owner == "self") && !input.owners.is_empty(),
        };
        let page = images::describe(&ctx.cloud, &ctx.who, &query, page).await?;
        let wanted = |view: &ImageView| owner_matches(ctx, input, view) && launcher_matches(input, view);
        let rows = page.rows.into_iter().filter(wanted);
        Ok(Page {
            rows: rows
                .map(|view| Row::new(view.row.id.to_db(), image(&view)))
                .collect(),
            next: page.next,
        })
    }
}

/// `Owner.N`: account numbers or `self`. Amazon's own aliases own nothing here.
fn owner_matches(ctx: &Ctx, input: &DescribeImagesRequest, view: &ImageView) -> bool {
    let owner = view.row.account.0;
    let mut owners = input.owners.iter();
    input.owners.is_empty()
        || owners.any(|wanted| (wanted == "self" && owner == ctx.who.account) || *wanted == owner.to_string())
}

/// `ExecutableBy.N`: `all` for public images, `self` or an account for those that were shared with it
/// one by one, which can't be done yet.
fn launcher_matches(input: &DescribeImagesRequest, view: &ImageView) -> bool {
    input.executable_users.is_empty()
        || input
            .executable_users
            .iter()
            .any(|user| user == "all" && view.is_public())
}

/// GiB, rounded up.
fn gib(bytes: i64) -> Option<i32> {
    i32::try_from(u64::try_from(bytes).ok()?.div_ceil(1 << 30).max(1)).ok()
}

fn image(view: &ImageView) -> Image {
    let row = &view.row;
    let owner = row.account.0.to_string();
    let text = |text: &str| Some(text.to_owned());
    Image {
        image_id: Some(view.id().to_string()),
        image_location: Some(format!("{owner}/{}", row.name)),
        state: Some(row.state.to_string()),
        owner_id: Some(owner),
        creation_date: Some(Timestamp(row.created_at).to_string()),
        public: Some(view.is_public()),
        architecture: text(&row.architecture),
        image_type: text("machine"),
        name: text(&row.name),
        description: text(&row.description).filter(|d| !d.is_empty()),
        block_device_mappings: vec![BlockDeviceMapping {
            device_name: text(&row.root_device.0),
            ebs: Some(EbsBlockDevice {
                delete_on_termination: Some(true),
                volume_size: gib(row.virtual_bytes.to_db()),
                volume_type: text("gp3"),
                encrypted: Some(false),
                ..Default::default()
            }),
            ..Default::default()
        }],
        root_device_name: text(&row.root_device.0),
        root_device_type: text("ebs"),
        virtualization_type: text("hvm"),
        hypervisor: text("xen"),
        ena_support: Some(true),
        boot_mode: text(row.boot_mode().name()),
        platform_details: text("Linux/UNIX"),
        usage_operation: text("RunInstances"),
        tags: tags_if_any(&view.tags),
        ..Default::default()
    }
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
            (-1, None),
        ] {
            assert_eq!(gib(bytes), expected);
        }
    }
}
