//! DescribePlacementGroups. The operation has no pages.

use async_trait::async_trait;
use cumulet_backend::api::{
    Page, PageRequest,
    placement_groups::{self, GroupView},
};
use cumulet_wire::ec2::placement_groups::{
    DescribePlacementGroups, DescribePlacementGroupsRequest, PlacementGroup,
};

use crate::{
    ec2::{
        ctx::{Ctx, ids, tags_if_any},
        describe::Describe,
        filter::{Filters, Keyed},
    },
    fault::Fault,
};

type Row = Keyed<String, PlacementGroup>;

#[async_trait]
impl Describe for DescribePlacementGroups {
    type Row = Row;

    async fn load(
        ctx: &Ctx,
        input: &DescribePlacementGroupsRequest,
        _: &Filters<Row>,
        _: PageRequest<String>,
    ) -> Result<Page<Row, String>, Fault> {
        let ids = ids(&input.group_ids)?;
        let rows = placement_groups::describe(&ctx.cloud, &ctx.who, &ids, &input.group_names).await?;
        let row = |view: GroupView| Row::new(view.row.name.clone(), shown(ctx, view));
        Ok(Page {
            rows: rows.into_iter().map(row).collect(),
            next: None,
        })
    }
}

/// A group as the answers show it.
pub(super) fn shown(ctx: &Ctx, view: GroupView) -> PlacementGroup {
    PlacementGroup {
        group_id: Some(view.id().to_string()),
        group_arn: Some(ctx.arn("placement-group", &view.row.name)),
        tags: tags_if_any(&view.tags),
        state: Some("available".into()),
        partition_count: view
            .row
            .partition_count
            .and_then(|count| i32::try_from(count.0).ok()),
        group_name: Some(view.row.name),
        strategy: Some(view.row.strategy.to_string()),
        spread_level: view.row.spread_level.map(|level| level.to_string()),
        ..Default::default()
    }
}
