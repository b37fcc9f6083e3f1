//! ResetEbsDefaultKmsKeyId: to the account's own key.

use async_trait::async_trait;
use cumulet_backend::api::encryption;
use cumulet_wire::ec2::volumes::{
    ResetEbsDefaultKmsKeyId, ResetEbsDefaultKmsKeyIdRequest, ResetEbsDefaultKmsKeyIdResult,
};

use crate::{
    ec2::{action::Action, ctx::Ctx},
    fault::Fault,
};

#[async_trait]
impl Action for ResetEbsDefaultKmsKeyId {
    async fn run(
        ctx: &Ctx,
        _: ResetEbsDefaultKmsKeyIdRequest,
    ) -> Result<ResetEbsDefaultKmsKeyIdResult, Fault> {
        let key = encryption::reset_default_key(&ctx.cloud, &ctx.who).await?;
        Ok(ResetEbsDefaultKmsKeyIdResult {
            kms_key_id: Some(key),
        })
    }
}
