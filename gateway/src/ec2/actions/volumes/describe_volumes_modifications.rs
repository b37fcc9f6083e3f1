//! DescribeVolumesModifications: the last modification of each volume that has had one.

use async_trait::async_trait;
use cumulet_backend::{
    api::{Page, PageRequest, volumes},
    entity::volume_modification,
};
use cumulet_domain::volume::VolumeShape;
use cumulet_wire::{
    Timestamp,
    ec2::volumes::{DescribeVolumesModifications, DescribeVolumesModificationsRequest, VolumeModification},
};

use crate::{
    ec2::{
        ctx::{Ctx, ids},
        describe::Describe,
        filter::{Filters, Keyed},
    },
    fault::Fault,
};

type Row = Keyed<i64, VolumeModification>;

#[async_trait]
impl Describe for DescribeVolumesModifications {
    type Row = Row;

    async fn load(
        ctx: &Ctx,
        input: &DescribeVolumesModificationsRequest,
        _: &Filters<Row>,
        page: PageRequest,
    ) -> Result<Page<Row>, Fault> {
        let ids = ids(&input.volume_ids)?;
        let page = volumes::describe_modifications(&ctx.cloud, &ctx.who, &ids, page).await?;
        Ok(page.map(|row| Row::new(row.volume.to_db(), shown(&row))))
    }
}

/// A modification as the answers show it.
pub(super) fn shown(row: &volume_modification::Model) -> VolumeModification {
    let (before, after) = (row.original(), row.target());
    let performance = |shape: VolumeShape| shape.kind.performance(shape.size_gib, shape.provisioned);
    let number = |number: Option<u32>| number.and_then(|number| i32::try_from(number).ok());
    let (was, is) = (performance(before), performance(after));
    VolumeModification {
        volume_id: Some(row.volume.0.to_string()),
        modification_state: Some(row.state.0.name().into()),
        status_message: row.status_message.clone(),
        target_size: number(Some(after.size_gib)),
        target_iops: number(is.iops),
        target_volume_type: Some(after.kind.name().into()),
        target_throughput: number(is.throughput),
        target_multi_attach_enabled: Some(false),
        original_size: number(Some(before.size_gib)),
        original_iops: number(was.iops),
        original_volume_type: Some(before.kind.name().into()),
        original_throughput: number(was.throughput),
        original_multi_attach_enabled: Some(false),
        progress: Some(row.progress.0.into()),
        start_time: Some(Timestamp(row.started_at)),
        end_time: row.ended_at.map(Timestamp),
        ..Default::default()
    }
}
