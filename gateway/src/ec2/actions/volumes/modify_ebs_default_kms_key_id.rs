//! ModifyEbsDefaultKmsKeyId: to the key that it is, since there is no other.

use async_trait::async_trait;
use cumulet_backend::api::encryption;
use cumulet_wire::ec2::volumes::{
    ModifyEbsDefaultKmsKeyId, ModifyEbsDefaultKmsKeyIdRequest, ModifyEbsDefaultKmsKeyIdResult,
};

use crate::{
    ec2::{action::Action, ctx::Ctx},
    fault::Fault,
};

#[async_trait]
impl Action for ModifyEbsDefaultKmsKeyId {
    async fn run(
        ctx: &Ctx,
        input: ModifyEbsDefaultKmsKeyIdRequest,
    ) -> Result<ModifyEbsDefaultKmsKeyIdResult, Fault> {
        let key = encryption::modify_default_key(&ctx.cloud, &ctx.who, &input.kms_key_id).await?;
        Ok(ModifyEbsDefaultKmsKeyIdResult {
            kms_key_id: Some(key),
        })
    }
}
