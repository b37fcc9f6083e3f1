//! GetEbsEncryptionByDefault: whether every new volume is encrypted.

use async_trait::async_trait;
use cumulet_backend::api::encryption;
use cumulet_wire::ec2::volumes::{
    GetEbsEncryptionByDefault, GetEbsEncryptionByDefaultRequest, GetEbsEncryptionByDefaultResult,
};

use crate::{
    ec2::{action::Action, ctx::Ctx},
    fault::Fault,
};

#[async_trait]
impl Action for GetEbsEncryptionByDefault {
    async fn run(
        ctx: &Ctx,
        _: GetEbsEncryptionByDefaultRequest,
    ) -> Result<GetEbsEncryptionByDefaultResult, Fault> {
        let on = encryption::is_by_default(&ctx.cloud, &ctx.who).await?;
        Ok(GetEbsEncryptionByDefaultResult {
            ebs_encryption_by_default: Some(on),
            sse_type: Some(if on { "sse-kms" } else { "none" }.into()),
        })
    }
}
