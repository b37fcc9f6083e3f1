//! DescribeTags: the account's tags on all its resources.

use async_trait::async_trait;
use cumulet_backend::api::{
    Page, PageRequest,
    tags::{self, TagKey, TagQuery, TagView},
};
use cumulet_wire::ec2::tags::{DescribeTags, DescribeTagsRequest, TagDescription};

use crate::{
    ec2::{
        ctx::Ctx,
        describe::Describe,
        filter::{Filters, Keyed},
    },
    fault::Fault,
};

type Row = Keyed<TagKey, TagDescription>;

#[async_trait]
impl Describe for DescribeTags {
    type Row = Row;

    async fn load(
        ctx: &Ctx,
        _: &DescribeTagsRequest,
        filters: &Filters<Row>,
        page: PageRequest<TagKey>,
    ) -> Result<Page<Row, TagKey>, Fault> {
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
        Ok(tags::describe(&ctx.cloud, &ctx.who, &query, page).await?.map(row))
    }
}

fn row(view: TagView) -> Row {
    let kind = view.target.kind.resource_type();
    let key = TagKey {
        resource: view.target.number(),
        kind: kind.into(),
        key: view.tag.key.clone(),
    };
    let shown = TagDescription {
        resource_id: Some(view.resource_id()),
        resource_type: Some(kind.into()),
        key: Some(view.tag.key),
        value: Some(view.tag.value),
    };
    Row::new(key, shown)
}
