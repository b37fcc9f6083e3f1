//! DescribeVolumes: those that instances start from are among them.

use async_trait::async_trait;
use cumulet_backend::api::{
    Page, PageRequest, regions,
    volumes::{self, AttachmentView, VolumeQuery, VolumeView},
};
use cumulet_domain::volume::Provisioned;
use cumulet_wire::{
    Timestamp,
    ec2::volumes::{
        DescribeVolumes, DescribeVolumesRequest, DescribeVolumesResult, Volume, VolumeAttachment,
    },
};

use crate::{
    ec2::{
        ctx::{Ctx, id, ids, tags_if_any},
        describe::{Describe, paged},
        filter::{Def, Filters, Table, never, on, some, text},
    },
    fault::Fault,
};

/// A volume as it is shown, with what the framework needs of the view.
pub(crate) struct Row {
    view: VolumeView,
    shown: Volume,
}

impl Row {
    fn attachments(&self) -> std::slice::Iter<'_, VolumeAttachment> {
        self.shown.attachments.iter()
    }
}

const DEFS: &[Def<Row>] = &[
    on(&["attachment.attach-time"], |row: &Row, sink| {
        row.attachments().for_each(|one| some(one.attach_time, sink));
    }),
    on(&["attachment.delete-on-termination"], |row, sink| {
        row.attachments()
            .for_each(|one| some(one.delete_on_termination, sink));
    }),
    on(&["attachment.device"], |row, sink| {
        row.attachments().for_each(|one| text(&one.device, sink));
    }),
    on(&["attachment.instance-id"], |row, sink| {
        row.attachments().for_each(|one| text(&one.instance_id, sink));
    }),
    on(&["attachment.status"], |row, sink| {
        row.attachments().for_each(|one| text(&one.state, sink));
    }),
    on(&["availability-zone"], |row, sink| {
        text(&row.shown.availability_zone, sink)
    }),
    on(&["availability-zone-id"], |row, sink| {
        text(&row.shown.availability_zone_id, sink)
    }),
    on(&["create-time"], |row, sink| some(row.shown.create_time, sink)),
    on(&["encrypted"], |row, sink| some(row.shown.encrypted, sink)),
    on(&["fast-restored", "operator.managed"], |_, sink| sink("false")),
    on(&["multi-attach-enabled"], |row, sink| {
        some(row.shown.multi_attach_enabled, sink)
    }),
    on(&["size"], |row, sink| some(row.shown.size, sink)),
    on(&["status"], |row, sink| text(&row.shown.state, sink)),
    on(&["volume-id"], |row, sink| text(&row.shown.volume_id, sink)),
    on(&["volume-type"], |row, sink| text(&row.shown.volume_type, sink)),
    never(&["operator.principal", "snapshot-id"]),
];

#[async_trait]
impl Describe for DescribeVolumes {
    type Row = Row;
    type Key = i64;
    const FILTERS: Table<Row> = Table {
        defs: DEFS,
        tags: Some(|row| &row.view.tags),
    };

    paged!(volume_ids);

    async fn load(
        ctx: &Ctx,
        input: &DescribeVolumesRequest,
        filters: &Filters<Row>,
        page: PageRequest,
    ) -> Result<Page<Row>, Fault> {
        let instances = filters.literals("attachment.instance-id").unwrap_or_default();
        let query = VolumeQuery {
            ids: ids(&input.volume_ids)?,
            // For the database to look for. A text that is no id matches nothing, which the filter sees to.
            instances: instances.into_iter().filter_map(|text| id(text).ok()).collect(),
        };
        let page = volumes::describe(&ctx.cloud, &ctx.who, &query, page).await?;
        let row = |view: VolumeView| Row {
            shown: shown(ctx, &view),
            view,
        };
        Ok(Page {
            rows: page.rows.into_iter().map(row).collect(),
            next: page.next,
        })
    }

    fn key(row: &Row) -> i64 {
        row.view.row.id.to_db()
    }

    fn render(
        _: &Ctx,
        _: &DescribeVolumesRequest,
        rows: Vec<Row>,
        next: Option<String>,
    ) -> DescribeVolumesResult {
        DescribeVolumesResult {
            volumes: rows.into_iter().map(|row| row.shown).collect(),
            next_token: next,
        }
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
    let id = view.id().to_string();
    Volume {
        volume_arn: Some(ctx.arn("volume", &id)),
        volume_id: Some(id),
        owner_id: Some(ctx.account()),
        size: number(Some(row.size_gib.0)),
        snapshot_id: Some(String::new()),
        availability_zone: Some(row.availability_zone.clone()),
        availability_zone_id: Some(regions::zone_id(&row.availability_zone)),
        state: Some(row.state.0.name().into()),
        create_time: Some(Timestamp(row.created_at)),
        attachments: view.attachment.iter().map(attachment).collect(),
        volume_type: Some(row.volume_type.0.name().into()),
        iops: number(has.iops),
        throughput: number(has.throughput),
        encrypted: Some(row.encrypted.0),
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
