//! DescribeImages: the account's own images, those that it was given, and the public ones.

use async_trait::async_trait;
use cumulet_backend::{
    api::{
        Page, PageRequest,
        images::{self, Executable, ImageQuery, ImageView, Owners},
    },
    entity::image,
};
use cumulet_domain::{account::AccountId, image::ImageState, time::Timestamp};
use cumulet_wire::ec2::{
    images::{DescribeImages, DescribeImagesRequest, Image},
    shared::StateReason,
};

use super::{disks, protection::DISABLED};
use crate::{
    ec2::{
        ctx::{Ctx, ids, tags_if_any},
        describe::Describe,
        filter::{Filters, Keyed},
    },
    fault::Fault,
};

type Row = Keyed<i64, Image>;

/// Every guest has the same network card, which is as good as that; Terraform asks for it of itself.
pub(super) const SRIOV: &str = "simple";

/// Whom the cloud's own images are said to be of.
const ALIAS: &str = "amazon";

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
            owners: owners(ctx, &input.owners),
            executable: executable(ctx, &input.executable_users)?,
            deprecated: input.include_deprecated == Some(true),
            disabled: input.include_disabled == Some(true),
        };
        if query
            .owners
            .as_ref()
            .is_some_and(|owners| *owners == Owners::default())
        {
            // Of aliases that own nothing here.
            return Ok(Page {
                rows: Vec::new(),
                next: None,
            });
        }
        let page = images::describe(&ctx.cloud, &ctx.who, &query, page).await?;
        Ok(page.map(|view| Row::new(view.row.id.to_db(), shown(ctx, &view))))
    }
}

/// `Owner.N`: accounts' numbers, `self`, or the alias of the cloud's own.
fn owners(ctx: &Ctx, wanted: &[String]) -> Option<Owners> {
    if wanted.is_empty() {
        return None;
    }
    let mut owners = Owners::default();
    for owner in wanted {
        match owner.as_str() {
            "self" => owners.accounts.push(ctx.who.account),
            ALIAS => owners.cloud = true,
            other => owners.accounts.extend(other.parse::<AccountId>().ok()),
        }
    }
    Some(owners)
}

/// `ExecutableBy.N`: `all` for public images, `self` or an account for those that it was given one by one.
fn executable(ctx: &Ctx, wanted: &[String]) -> Result<Option<Executable>, Fault> {
    if wanted.is_empty() {
        return Ok(None);
    }
    let mut found = Executable::default();
    for user in wanted {
        match user.as_str() {
            "all" => found.all = true,
            "self" => found.accounts.push(ctx.who.account),
            other => {
                let reason = "expecting all, self or the 12 digits of an account";
                let account = other.parse();
                found
                    .accounts
                    .push(account.map_err(|_| Fault::invalid("ExecutableBy", other, reason))?);
            }
        }
    }
    Ok(Some(found))
}

fn shown(ctx: &Ctx, view: &ImageView) -> Image {
    let row = &view.row;
    let owner = row.account.0.to_string();
    let text = |text: &str| Some(text.to_owned());
    Image {
        image_id: Some(view.id().to_string()),
        image_location: Some(format!("{owner}/{}", row.name)),
        state: text(row.state().name()),
        state_reason: reason(row),
        image_owner_alias: view.is_clouds.then(|| ALIAS.into()),
        owner_id: Some(owner),
        creation_date: Some(Timestamp(row.created_at).to_string()),
        public: Some(view.is_public()),
        architecture: text(row.architecture.0.name()),
        image_type: text("machine"),
        name: text(&row.name),
        description: text(&row.description).filter(|d| !d.is_empty()),
        block_device_mappings: disks::shown(view),
        root_device_name: text(&row.root_device.0),
        root_device_type: text("ebs"),
        virtualization_type: text("hvm"),
        hypervisor: text("xen"),
        ena_support: Some(true),
        sriov_net_support: text(SRIOV),
        boot_mode: boot_mode(row).map(Into::into),
        imds_support: row.imds_support.clone(),
        deprecation_time: row.deprecated_at.map(|at| Timestamp(at).to_string()),
        deregistration_protection: text(protection(row)),
        source_instance_id: row.source_instance.map(|id| id.0.to_string()),
        source_image_id: row.source_image.map(|id| id.0.to_string()),
        source_image_region: row.source_image.map(|_| ctx.region().to_owned()),
        platform_details: text("Linux/UNIX"),
        usage_operation: text("RunInstances"),
        tags: tags_if_any(&view.tags),
        ..Default::default()
    }
}

/// How an image is said to be started: what was registered without a word about it says nothing, as on EC2.
pub(super) fn boot_mode(row: &image::Model) -> Option<&'static str> {
    match row.boot_mode {
        None if row.sha256.is_empty() => None,
        _ => Some(row.boot_mode().name()),
    }
}

/// Why an image has failed.
fn reason(row: &image::Model) -> Option<StateReason> {
    (row.state() == ImageState::Failed).then(|| StateReason {
        code: Some("Server.InternalError".into()),
        message: row.phase_reason.clone(),
    })
}

/// Whether an image may be deregistered, as EC2 says it.
pub(super) fn protection(row: &image::Model) -> &'static str {
    row.protection.map_or(DISABLED, |protection| protection.0.name())
}
