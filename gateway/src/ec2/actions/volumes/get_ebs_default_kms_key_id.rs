//! GetEbsDefaultKmsKeyId: the account's own key, which is its only one.

use async_trait::async_trait;
use cumulet_backend::api::encryption;
use cumulet_wire::ec2::volumes::{
    GetEbsDefaultKmsKeyId, GetEbsDefaultKmsKeyIdRequest, GetEbsDefaultKmsKeyIdResult,
};

use crate::{
    ec2::{action::Action, ctx::Ctx},
    fault::Fault,
};

#[async_trait]
impl Action for GetEbsDefaultKmsKeyId {
    async fn run(ctx: &Ctx, _: GetEbsDefaultKmsKeyIdRequest) -> Result<GetEbsDefaultKmsKeyIdResult, Fault> {
        let key = encryption::default_key(&ctx.cloud, &ctx.who).await?;
        Ok(GetEbsDefaultKmsKeyIdResult {
            kms_key_id: Some(key),
        })
    }
}
