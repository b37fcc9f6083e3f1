//! DisableEbsEncryptionByDefault: from now on a volume is encrypted where that is asked for.

use async_trait::async_trait;
use cumulet_backend::api::encryption;
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
        encryption::set_by_default(&ctx.cloud, &ctx.who, false).await?;
        Ok(DisableEbsEncryptionByDefaultResult {
            ebs_encryption_by_default: Some(false),
        })
    }
}
