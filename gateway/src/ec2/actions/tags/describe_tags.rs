//! DescribeTags: the account's tags on all its resources.

use async_trait::async_trait;
use cumulet_backend::api::{
    Page, PageRequest,
    tags::{self, TagKey, TagQuery, TagView},
};
use cumulet_wire::ec2::tags::{DescribeTags, DescribeTagsRequest, DescribeTagsResult, TagDescription};

use crate::{
    ec2::{
        ctx::Ctx,
        describe::{Describe, paged},
        filter::{Filters, Table, on, shown},
    },
    fault::Fault,
};

#[async_trait]
impl Describe for DescribeTags {
    type Row = TagView;
    type Key = TagKey;
    const FILTERS: Table<TagView> = Table {
        defs: &[
            on(&["key", "tag-key"], |row: &TagView, sink| sink(&row.tag.key)),
            on(&["value", "tag-value"], |row, sink| sink(&row.tag.value)),
            on(&["resource-id"], |row, sink| shown(row.resource_id(), sink)),
            on(&["resource-type"], |row, sink| {
                sink(row.target.kind.resource_type())
            }),
        ],
        tags: Some(|row| std::slice::from_ref(&row.tag)),
    };

    paged!();

    async fn load(
        ctx: &Ctx,
        _: &DescribeTagsRequest,
        filters: &Filters<TagView>,
        page: PageRequest<TagKey>,
    ) -> Result<Page<TagView, TagKey>, Fault> {
        let mut query = TagQuery::default();
        // The commonest question of Terraform: the tags of one resource. A text that is no id matches
        // nothing, which the filter itself sees to; where all are none, the framework reads nothing.
        if let Some(ids) = filters.literals("resource-id") {
            query.resources = ids
                .into_iter()
                .filter_map(|id| tags::TagTarget::parse(id).ok())
                .collect();
        }
        let owned = |name| {
            filters
                .literals(name)
                .map(|v| v.into_iter().map(str::to_owned).collect())
        };
        query.keys = owned("key").unwrap_or_default();
        query.values = owned("value").unwrap_or_default();
        Ok(tags::describe(&ctx.cloud, &ctx.who, &query, page).await?)
    }

    fn key(row: &TagView) -> TagKey {
        TagKey {
            resource: row.target.number(),
            kind: row.target.kind.resource_type().into(),
            key: row.tag.key.clone(),
        }
    }

    fn render(
        _: &Ctx,
        _: &DescribeTagsRequest,
        rows: Vec<TagView>,
        next: Option<String>,
    ) -> DescribeTagsResult {
        let description = |row: TagView| TagDescription {
            resource_id: Some(row.resource_id()),
            resource_type: Some(row.target.kind.resource_type().into()),
            key: Some(row.tag.key),
            value: Some(row.tag.value),
        };
        DescribeTagsResult {
            next_token: next,
            tags: rows.into_iter().map(description).collect(),
        }
    }
}
