//! GetCallerIdentity: who asks. It needs no permission, as on AWS.

use async_trait::async_trait;
use cumulet_wire::sts::{GetCallerIdentity, GetCallerIdentityRequest, GetCallerIdentityResponse};

use crate::{
    fault::Fault,
    rpc::{action::Action, ctx::Ctx},
};

#[async_trait]
impl Action for GetCallerIdentity {
    async fn run(ctx: &Ctx, _: GetCallerIdentityRequest) -> Result<GetCallerIdentityResponse, Fault> {
        Ok(GetCallerIdentityResponse {
            user_id: Some(ctx.who.user_id.clone()),
            account: Some(ctx.account()),
            arn: Some(ctx.who.arn()),
        })
    }
}
