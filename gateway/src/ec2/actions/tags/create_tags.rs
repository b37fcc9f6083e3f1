//! CreateTags: sets tags on up to 1000 resources of any kinds, all or none.

use async_trait::async_trait;
use cumulet_backend::api::tags::{self, TagTarget};
use cumulet_wire::{
    Done,
    ec2::tags::{CreateTags, CreateTagsRequest},
};

use crate::{
    ec2::{
        action::Action,
        ctx::{Ctx, tags as domain_tags, unique_keys},
    },
    fault::Fault,
};

/// Resources in one call at the most (API reference).
pub(super) const MAX_RESOURCES: usize = 1000;

#[async_trait]
impl Action for CreateTags {
    async fn run(ctx: &Ctx, input: CreateTagsRequest) -> Result<Done, Fault> {
        let targets = targets(&input.resources)?;
        for (n, tag) in input.tags.iter().enumerate() {
            if tag.key.is_none() {
                return Err(Fault::missing(&format!("Tag.{}.Key", n + 1)));
            }
        }
        let new = domain_tags(input.tags);
        unique_keys(&new)?;
        tags::create(&ctx.cloud, &ctx.who, &targets, &new).await?;
        Ok(Done)
    }
}

/// The resources of a call.
pub(super) fn targets(resources: &[String]) -> Result<Vec<TagTarget>, Fault> {
    if resources.len() > MAX_RESOURCES {
        let reason = format!("at most {MAX_RESOURCES} resources can be tagged at once");
        return Err(Fault::invalid("ResourceId", &resources.len().to_string(), reason));
    }
    resources
        .iter()
        .map(|text| TagTarget::parse(text).map_err(Fault::from))
        .collect()
}
