//! EnableEbsEncryptionByDefault: from now on every volume is encrypted, whatever is asked for.

use async_trait::async_trait;
use cumulet_backend::api::encryption;
use cumulet_wire::ec2::volumes::{
    EnableEbsEncryptionByDefault, EnableEbsEncryptionByDefaultRequest, EnableEbsEncryptionByDefaultResult,
};

use crate::{
    ec2::{action::Action, ctx::Ctx},
    fault::Fault,
};

#[async_trait]
impl Action for EnableEbsEncryptionByDefault {
    async fn run(
        ctx: &Ctx,
        _: EnableEbsEncryptionByDefaultRequest,
    ) -> Result<EnableEbsEncryptionByDefaultResult, Fault> {
        encryption::set_by_default(&ctx.cloud, &ctx.who, true).await?;
        Ok(EnableEbsEncryptionByDefaultResult {
            ebs_encryption_by_default: Some(true),
        })
    }
}
