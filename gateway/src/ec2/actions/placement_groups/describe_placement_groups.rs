//! DescribePlacementGroups. The operation has no pages.

use async_trait::async_trait;
use cumulet_backend::api::{
    Page, PageRequest,
    placement_groups::{self, GroupView},
};
use cumulet_wire::ec2::{
    placement_groups::{
        DescribePlacementGroups, DescribePlacementGroupsRequest, DescribePlacementGroupsResult,
        PlacementGroup,
    },
    shared::Filter,
};

use crate::{
    ec2::{
        ctx::{Ctx, ids, shown_tags},
        describe::Describe,
        filter::{Filters, Table, never, on, some},
    },
    fault::Fault,
};

#[async_trait]
impl Describe for DescribePlacementGroups {
    type Row = GroupView;
    type Key = String;
    const FILTERS: Table<GroupView> = Table {
        defs: &[
            on(&["group-name"], |row: &GroupView, sink| sink(&row.row.name)),
            on(&["strategy"], |row, sink| sink(&row.row.strategy)),
            on(&["state"], |_, sink| sink("available")),
            on(&["spread-level"], |row, sink| {
                some(row.row.spread_level.as_ref(), sink)
            }),
            never(&["group-arn"]),
        ],
        tags: Some(|row| &row.tags),
    };

    fn filters(input: &DescribePlacementGroupsRequest) -> &[Filter] {
        &input.filters
    }

    async fn load(
        ctx: &Ctx,
        input: &DescribePlacementGroupsRequest,
        _: &Filters<GroupView>,
        _: PageRequest<String>,
    ) -> Result<Page<GroupView, String>, Fault> {
        let ids = ids(&input.group_ids)?;
        let rows = placement_groups::describe(&ctx.cloud, &ctx.who, &ids, &input.group_names).await?;
        Ok(Page { rows, next: None })
    }

    fn key(row: &GroupView) -> String {
        row.row.name.clone()
    }

    fn render(
        ctx: &Ctx,
        _: &DescribePlacementGroupsRequest,
        rows: Vec<GroupView>,
        _: Option<String>,
    ) -> DescribePlacementGroupsResult {
        DescribePlacementGroupsResult {
            placement_groups: rows.into_iter().map(|row| shown(ctx, row)).collect(),
        }
    }
}

/// A group as the answers show it.
pub(super) fn shown(ctx: &Ctx, view: GroupView) -> PlacementGroup {
    PlacementGroup {
        group_id: Some(view.id().to_string()),
        group_arn: Some(ctx.arn("placement-group", &view.row.name)),
        tags: shown_tags(&view.tags),
        state: Some("available".into()),
        partition_count: view
            .row
            .partition_count
            .and_then(|count| i32::try_from(count).ok()),
        group_name: Some(view.row.name),
        strategy: Some(view.row.strategy),
        spread_level: view.row.spread_level,
        ..Default::default()
    }
}
