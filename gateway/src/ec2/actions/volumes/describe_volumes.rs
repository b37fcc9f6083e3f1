//! DescribeVolumes: those that instances start from are among them.

use async_trait::async_trait;
use cumulet_backend::api::{
    Page, PageRequest, regions,
    volumes::{self, AttachmentView, VolumeQuery, VolumeView},
};
use cumulet_domain::volume::Provisioned;
use cumulet_wire::{
    Timestamp,
    ec2::volumes::{DescribeVolumes, DescribeVolumesRequest, Volume, VolumeAttachment},
};

use crate::{
    ec2::{
        ctx::{Ctx, ids, kms_key, tags_if_any},
        describe::Describe,
        filter::{Filters, Keyed},
    },
    fault::Fault,
};

type Row = Keyed<i64, Volume>;

#[async_trait]
impl Describe for DescribeVolumes {
    type Row = Row;

    async fn load(
        ctx: &Ctx,
        input: &DescribeVolumesRequest,
        filters: &Filters<Row>,
        page: PageRequest,
    ) -> Result<Page<Row>, Fault> {
        let query = VolumeQuery {
            ids: ids(&input.volume_ids)?,
            // For the database to look for.
            instances: filters.ids("attachment.instance-id"),
        };
        let page = volumes::describe(&ctx.cloud, &ctx.who, &query, page).await?;
        Ok(page.map(|view| Row::new(view.row.id.to_db(), shown(ctx, &view))))
    }
}

/// A volume as the answers show it.
pub(super) fn shown(ctx: &Ctx, view: &VolumeView) -> Volume {
    let row = &view.row;
    let asked = Provisioned {
        iops: row.iops.map(|count| count.0),
        throughput: row.throughput.map(|count| count.0),
    };
    let has = row.volume_type.0.performance(row.size_gib.0, asked);
    let number = |number: Option<u32>| number.and_then(|number| i32::try_from(number).ok());
    // That of a copy is nobody's to see.
    let snapshot = row.snapshot.filter(|_| row.source_volume.is_none());
    let id = view.id().to_string();
    Volume {
        volume_arn: Some(ctx.arn("volume", &id)),
        volume_id: Some(id),
        owner_id: Some(ctx.account()),
        size: number(Some(row.size_gib.0)),
        snapshot_id: Some(snapshot.map_or_else(String::new, |id| id.0.to_string())),
        source_volume_id: row.source_volume.map(|id| id.0.to_string()),
        availability_zone: Some(row.availability_zone.clone()),
        availability_zone_id: Some(regions::zone_id(&row.availability_zone)),
        state: Some(row.state.0.name().into()),
        create_time: Some(Timestamp(row.created_at)),
        attachments: view.attachment.iter().map(attachment).collect(),
        volume_type: Some(row.volume_type.0.name().into()),
        iops: number(has.iops),
        throughput: number(has.throughput),
        encrypted: Some(row.encrypted.0),
        kms_key_id: row.encrypted.0.then(|| kms_key(ctx, row.account.0)),
        multi_attach_enabled: Some(false),
        tags: tags_if_any(&view.tags),
        ..Default::default()
    }
}

/// An attachment as the answers show it.
pub(super) fn attachment(view: &AttachmentView) -> VolumeAttachment {
    VolumeAttachment {
        volume_id: Some(view.volume.to_string()),
        instance_id: Some(view.instance.to_string()),
        device: Some(view.device.clone()),
        state: Some(view.state.name().into()),
        attach_time: Some(Timestamp(view.attached_at.0)),
        delete_on_termination: Some(view.delete_on_termination),
        ..Default::default()
    }
}
