//! DisableEbsEncryptionByDefault: it is off.

use async_trait::async_trait;
use cumulet_backend::api::volumes;
use cumulet_wire::ec2::volumes::{
    DisableEbsEncryptionByDefault, DisableEbsEncryptionByDefaultRequest, DisableEbsEncryptionByDefaultResult,
};

use crate::{
    ec2::{action::Action, ctx::Ctx},
    fault::Fault,
};

#[async_trait]
impl Action for DisableEbsEncryptionByDefault {
    async fn run(
        ctx: &Ctx,
        _: DisableEbsEncryptionByDefaultRequest,
    ) -> Result<DisableEbsEncryptionByDefaultResult, Fault> {
        let on = volumes::never_encrypted_by_default(&ctx.cloud, &ctx.who).await?;
        Ok(DisableEbsEncryptionByDefaultResult {
            ebs_encryption_by_default: Some(on),
        })
    }
}
