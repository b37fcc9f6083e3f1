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
        ctx::{Ctx, ids, tags_if_any},
        describe::Describe,
        filter::{Filters, Table, on, some},
    },
    fault::Fault,
};

/// A group with its ARN.
type Row = (String, GroupView);

#[async_trait]
impl Describe for DescribePlacementGroups {
    type Row = Row;
    type Key = String;
    const FILTERS: Table<Row> = Table {
        defs: &[
            on(&["group-name"], |(_, row): &Row, sink| sink(&row.row.name)),
            on(&["strategy"], |(_, row), sink| sink(&row.row.strategy)),
            on(&["state"], |_, sink| sink("available")),
            on(&["spread-level"], |(_, row), sink| {
                some(row.row.spread_level.as_ref(), sink)
            }),
            on(&["group-arn"], |(arn, _), sink| sink(arn)),
        ],
        tags: Some(|(_, row)| &row.tags),
    };

    fn filters(input: &DescribePlacementGroupsRequest) -> &[Filter] {
        &input.filters
    }

    async fn load(
        ctx: &Ctx,
        input: &DescribePlacementGroupsRequest,
        _: &Filters<Row>,
        _: PageRequest<String>,
    ) -> Result<Page<Row, String>, Fault> {
        let ids = ids(&input.group_ids)?;
        let rows = placement_groups::describe(&ctx.cloud, &ctx.who, &ids, &input.group_names).await?;
        let named = |view: GroupView| (arn(ctx, &view), view);
        Ok(Page {
            rows: rows.into_iter().map(named).collect(),
            next: None,
        })
    }

    fn key((_, row): &Row) -> String {
        row.row.name.clone()
    }

    fn render(
        ctx: &Ctx,
        _: &DescribePlacementGroupsRequest,
        rows: Vec<Row>,
        _: Option<String>,
    ) -> DescribePlacementGroupsResult {
        DescribePlacementGroupsResult {
            placement_groups: rows.into_iter().map(|(_, row)| shown(ctx, row)).collect(),
        }
    }
}

fn arn(ctx: &Ctx, view: &GroupView) -> String {
    ctx.arn("placement-group", &view.row.name)
}

/// A group as the answers show it.
pub(super) fn shown(ctx: &Ctx, view: GroupView) -> PlacementGroup {
    PlacementGroup {
        group_id: Some(view.id().to_string()),
        group_arn: Some(arn(ctx, &view)),
        tags: tags_if_any(&view.tags),
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
