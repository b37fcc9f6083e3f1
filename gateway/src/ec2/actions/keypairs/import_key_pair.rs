//! ImportKeyPair: the public half of the user's own key.

use async_trait::async_trait;
use cumulet_backend::api::key_pairs;
use cumulet_wire::ec2::keypairs::{ImportKeyPair, ImportKeyPairRequest, ImportKeyPairResult};

use crate::{
    ec2::{
        action::Action,
        ctx::{Ctx, shown_tags, tags_for},
    },
    fault::Fault,
};

#[async_trait]
impl Action for ImportKeyPair {
    async fn run(ctx: &Ctx, input: ImportKeyPairRequest) -> Result<ImportKeyPairResult, Fault> {
        let tags = tags_for("key-pair", input.tag_specifications)?;
        let material = input.public_key_material.unwrap_or_default();
        let made = key_pairs::import(&ctx.cloud, &ctx.who, &input.key_name, &material.0, tags).await?;
        Ok(ImportKeyPairResult {
            key_pair_id: Some(made.id().to_string()),
            tags: shown_tags(&made.tags),
            key_fingerprint: Some(made.row.fingerprint),
            key_name: Some(made.row.name),
        })
    }
}
