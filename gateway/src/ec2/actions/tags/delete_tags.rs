//! DeleteTags: by key, by key and value, or all. What is not there is no error.

use async_trait::async_trait;
use cumulet_backend::api::tags::{self, TagSelector};
use cumulet_wire::{
    Done,
    ec2::tags::{DeleteTags, DeleteTagsRequest},
};

use super::create_tags::targets;
use crate::{
    ec2::{action::Action, ctx::Ctx},
    fault::Fault,
};

#[async_trait]
impl Action for DeleteTags {
    async fn run(ctx: &Ctx, input: DeleteTagsRequest) -> Result<Done, Fault> {
        let targets = targets(&input.resources)?;
        let mut selectors = Vec::new();
        for (n, tag) in input.tags.into_iter().enumerate() {
            selectors.push(TagSelector {
                key: tag
                    .key
                    .ok_or_else(|| Fault::missing(&format!("Tag.{}.Key", n + 1)))?,
                value: tag.value,
            });
        }
        tags::delete(&ctx.cloud, &ctx.who, &targets, &selectors).await?;
        Ok(Done)
    }
}
