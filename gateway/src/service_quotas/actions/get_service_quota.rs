//! GetServiceQuota: one quota of the account, by its code.

use async_trait::async_trait;
use cumulet_wire::service_quotas::{GetServiceQuota, GetServiceQuotaRequest, GetServiceQuotaResponse};

use crate::{
    fault::Fault,
    rpc::{action::Action, ctx::Ctx},
    service_quotas::quota,
};

#[async_trait]
impl Action for GetServiceQuota {
    async fn run(ctx: &Ctx, input: GetServiceQuotaRequest) -> Result<GetServiceQuotaResponse, Fault> {
        let (service, code) = (
            input.service_code.unwrap_or_default(),
            input.quota_code.unwrap_or_default(),
        );
        let quotas = quota::of_service(ctx, &service).await?;
        let found = quotas
            .into_iter()
            .find(|quota| quota.quota_code.as_deref() == Some(&code));
        match found {
            Some(quota) => Ok(GetServiceQuotaResponse { quota: Some(quota) }),
            None => Err(quota::no_such("quota", &code)),
        }
    }
}
