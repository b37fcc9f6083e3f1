//! DeleteSecurityGroup: refused while an interface or a rule of another group uses it.

use async_trait::async_trait;
use cumulet_backend::api::security_groups;
use cumulet_wire::ec2::security_groups::{
    DeleteSecurityGroup, DeleteSecurityGroupRequest, DeleteSecurityGroupResult,
};

use super::which::group;
use crate::{
    ec2::{action::Action, ctx::Ctx},
    fault::Fault,
};

#[async_trait]
impl Action for DeleteSecurityGroup {
    async fn run(ctx: &Ctx, input: DeleteSecurityGroupRequest) -> Result<DeleteSecurityGroupResult, Fault> {
        let which = group(input.group_id.as_deref(), input.group_name)?;
        let gone = security_groups::delete(&ctx.cloud, &ctx.who, &which).await?;
        Ok(DeleteSecurityGroupResult {
            r#return: Some(true),
            group_id: Some(gone.to_string()),
        })
    }
}
