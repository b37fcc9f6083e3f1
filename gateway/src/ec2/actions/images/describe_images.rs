//! DescribeImages: the account's own images and the public ones.

use async_trait::async_trait;
use cumulet_backend::api::{
    Page, PageRequest,
    images::{self, ImageQuery, ImageView},
};
use cumulet_domain::{account::AccountId, time::Timestamp};
use cumulet_wire::ec2::{
    images::{DescribeImages, DescribeImagesRequest, DescribeImagesResult, Image},
    shared::{BlockDeviceMapping, EbsBlockDevice},
};

use crate::{
    ec2::{
        ctx::{Ctx, ids, tags_if_any},
        describe::{Describe, paged},
        filter::{Filters, Table, never, on, some, text},
    },
    fault::Fault,
};

/// An image as it is shown, with what the framework needs of the view.
pub(crate) struct Row {
    view: ImageView,
    shown: Image,
}

fn disk(row: &Row) -> Option<&EbsBlockDevice> {
    row.shown.block_device_mappings.first()?.ebs.as_ref()
}

#[async_trait]
impl Describe for DescribeImages {
    type Row = Row;
    type Key = i64;
    const FILTERS: Table<Row> = Table {
        defs: &[
            on(&["architecture"], |row: &Row, sink| {
                text(&row.shown.architecture, sink)
            }),
            on(&["block-device-mapping.delete-on-termination"], |row, sink| {
                some(disk(row).and_then(|disk| disk.delete_on_termination), sink);
            }),
            on(
                &["block-device-mapping.device-name", "root-device-name"],
                |row, sink| {
                    text(&row.shown.root_device_name, sink);
                },
            ),
            on(&["block-device-mapping.encrypted"], |row, sink| {
                some(disk(row).and_then(|disk| disk.encrypted), sink)
            }),
            on(&["block-device-mapping.volume-size"], |row, sink| {
                some(disk(row).and_then(|disk| disk.volume_size), sink);
            }),
            on(&["block-device-mapping.volume-type"], |row, sink| {
                some(disk(row).and_then(|disk| disk.volume_type.as_ref()), sink);
            }),
            on(&["boot-mode"], |row, sink| text(&row.shown.boot_mode, sink)),
            on(&["creation-date"], |row, sink| {
                text(&row.shown.creation_date, sink)
            }),
            on(&["description"], |row, sink| text(&row.shown.description, sink)),
            on(&["ena-support"], |row, sink| some(row.shown.ena_support, sink)),
            on(&["hypervisor"], |row, sink| text(&row.shown.hypervisor, sink)),
            on(&["image-allowed"], |_, sink| sink("true")),
            on(&["image-id"], |row, sink| text(&row.shown.image_id, sink)),
            on(&["image-type"], |row, sink| text(&row.shown.image_type, sink)),
            on(&["is-public"], |row, sink| some(row.shown.public, sink)),
            on(&["manifest-location"], |row, sink| {
                text(&row.shown.image_location, sink)
            }),
            on(&["name"], |row, sink| text(&row.shown.name, sink)),
            on(&["owner-id"], |row, sink| text(&row.shown.owner_id, sink)),
            on(&["root-device-type"], |row, sink| {
                text(&row.shown.root_device_type, sink)
            }),
            on(&["state"], |row, sink| text(&row.shown.state, sink)),
            on(&["virtualization-type"], |row, sink| {
                text(&row.shown.virtualization_type, sink)
            }),
            never(ABSENT),
        ],
        tags: Some(|row| &row.view.tags),
    };

    paged!(image_ids);

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
        let row = |view: ImageView| Row {
            shown: image(&view),
            view,
        };
        let wanted = |row: &Row| owner_matches(ctx, input, row) && launcher_matches(ctx, input, row);
        Ok(Page {
            rows: page.rows.into_iter().map(row).filter(wanted).collect(),
            next: page.next,
        })
    }

    fn key(row: &Row) -> i64 {
        row.view.row.id
    }

    fn render(
        _: &Ctx,
        _: &DescribeImagesRequest,
        rows: Vec<Row>,
        next: Option<String>,
    ) -> DescribeImagesResult {
        DescribeImagesResult {
            next_token: next,
            images: rows.into_iter().map(|row| row.shown).collect(),
        }
    }
}

/// Documented filters of what no image here has.
const ABSENT: &[&str] = &[
    "block-device-mapping.snapshot-id",
    "free-tier-eligible",
    "image-watermark.source-image-creation-time",
    "image-watermark.source-image-id",
    "image-watermark.source-image-region",
    "image-watermark.watermark-creation-time",
    "image-watermark.watermark-key",
    "instance-type-specification.supported-instance-type",
    "instance-type-specification.unsupported-instance-type",
    "kernel-id",
    "owner-alias",
    "platform",
    "product-code",
    "product-code.type",
    "public-ssm-parameter-name",
    "ramdisk-id",
    "scan-result.critical-fix-available-since",
    "scan-result.finding-scan-date",
    "scan-result.high-fix-available-since",
    "scan-result.highest-finding-severity-label",
    "scan-result.informational-fix-available-since",
    "scan-result.low-fix-available-since",
    "scan-result.medium-fix-available-since",
    "source-image-id",
    "source-image-region",
    "source-instance-id",
    "sriov-net-support",
    "state-reason-code",
    "state-reason-message",
];

/// `Owner.N`: account numbers or `self`. Amazon's own aliases own nothing here.
fn owner_matches(ctx: &Ctx, input: &DescribeImagesRequest, row: &Row) -> bool {
    let owner = AccountId::from_db(row.view.row.account);
    let mut owners = input.owners.iter();
    input.owners.is_empty()
        || owners.any(|wanted| (wanted == "self" && owner == ctx.who.account) || *wanted == owner.to_string())
}

/// `ExecutableBy.N`: `all` for public images, `self` or an account for those that were shared with it
/// one by one, which can't be done yet.
fn launcher_matches(_: &Ctx, input: &DescribeImagesRequest, row: &Row) -> bool {
    input.executable_users.is_empty()
        || input
            .executable_users
            .iter()
            .any(|user| user == "all" && row.view.is_public())
}

/// GiB, rounded up.
fn gib(bytes: i64) -> Option<i32> {
    i32::try_from(u64::try_from(bytes).ok()?.div_ceil(1 << 30).max(1)).ok()
}

fn image(view: &ImageView) -> Image {
    let row = &view.row;
    let owner = AccountId::from_db(row.account).to_string();
    let text = |text: &str| Some(text.to_owned());
    Image {
        image_id: Some(view.id().to_string()),
        image_location: Some(format!("{owner}/{}", row.name)),
        state: text(&row.state),
        owner_id: Some(owner),
        creation_date: Some(Timestamp(row.created_at).to_string()),
        public: Some(view.is_public()),
        architecture: text(&row.architecture),
        image_type: text("machine"),
        name: text(&row.name),
        description: text(&row.description).filter(|d| !d.is_empty()),
        block_device_mappings: vec![BlockDeviceMapping {
            device_name: text(&row.root_device),
            ebs: Some(EbsBlockDevice {
                delete_on_termination: Some(true),
                volume_size: gib(row.virtual_bytes),
                volume_type: text("gp3"),
                encrypted: Some(false),
                ..Default::default()
            }),
            ..Default::default()
        }],
        root_device_name: text(&row.root_device),
        root_device_type: text("ebs"),
        virtualization_type: text("hvm"),
        hypervisor: text("xen"),
        ena_support: Some(true),
        boot_mode: text("legacy-bios"),
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
