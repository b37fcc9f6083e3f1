//! DescribeVolumeStatus: whether volumes can be read and written, as far as their hosts are heard of.

use async_trait::async_trait;
use cumulet_backend::api::{
    Page, PageRequest, regions,
    volumes::{self, AttachmentView, VolumeQuery, VolumeStatusView},
};
use cumulet_wire::ec2::volumes::{
    DescribeVolumeStatus, DescribeVolumeStatusRequest, VolumeStatusAttachmentStatus, VolumeStatusDetails,
    VolumeStatusInfo, VolumeStatusItem,
};

use crate::{
    ec2::{
        ctx::{Ctx, ids},
        describe::Describe,
        filter::{Filters, Keyed},
    },
    fault::Fault,
};

/// No type has I/O of which more is measured than that it is.
const NOT_MEASURED: &str = "not-applicable";

type Row = Keyed<i64, VolumeStatusItem>;

#[async_trait]
impl Describe for DescribeVolumeStatus {
    type Row = Row;

    async fn load(
        ctx: &Ctx,
        input: &DescribeVolumeStatusRequest,
        filters: &Filters<Row>,
        page: PageRequest,
    ) -> Result<Page<Row>, Fault> {
        let query = VolumeQuery {
            ids: ids(&input.volume_ids)?,
            // For the database to look for.
            instances: filters.ids("attachment-status.instance-id"),
        };
        let page = volumes::describe_status(&ctx.cloud, &ctx.who, &query, page).await?;
        Ok(page.map(|view| Row::new(view.volume.row.id.to_db(), shown(&view))))
    }
}

fn shown(view: &VolumeStatusView) -> VolumeStatusItem {
    let (status, enabled) = match view.is_known {
        true => ("ok", "passed"),
        false => ("insufficient-data", "insufficient-data"),
    };
    let detail = |name: &str, status: &str| VolumeStatusDetails {
        name: Some(name.into()),
        status: Some(status.into()),
    };
    let zone = &view.volume.row.availability_zone;
    VolumeStatusItem {
        volume_id: Some(view.volume.id().to_string()),
        availability_zone: Some(zone.clone()),
        availability_zone_id: Some(regions::zone_id(zone)),
        volume_status: Some(VolumeStatusInfo {
            status: Some(status.into()),
            details: vec![
                detail("io-enabled", enabled),
                detail("io-performance", NOT_MEASURED),
            ],
        }),
        attachment_statuses: view.volume.attachment.iter().map(attached).collect(),
        ..Default::default()
    }
}

fn attached(view: &AttachmentView) -> VolumeStatusAttachmentStatus {
    VolumeStatusAttachmentStatus {
        instance_id: Some(view.instance.to_string()),
        io_performance: Some(NOT_MEASURED.into()),
    }
}
