//! ListServiceQuotas: the account's quotas of one service, in pages.

use async_trait::async_trait;
use cumulet_backend::api::PageRequest;
use cumulet_wire::service_quotas::{ListServiceQuotas, ListServiceQuotasRequest, ListServiceQuotasResponse};

use crate::{
    fault::Fault,
    rpc::{action::Action, ctx::Ctx, describe::slice},
    service_quotas::quota,
};

/// The levels at which AWS applies quotas. Here all are the account's.
const LEVELS: [&str; 3] = ["ACCOUNT", "RESOURCE", "ALL"];

#[async_trait]
impl Action for ListServiceQuotas {
    async fn run(ctx: &Ctx, input: ListServiceQuotasRequest) -> Result<ListServiceQuotasResponse, Fault> {
        let level = input.quota_applied_at_level.as_deref().unwrap_or("ALL");
        if !LEVELS.contains(&level) {
            let reason = "expecting ACCOUNT, RESOURCE or ALL";
            return Err(Fault::invalid("QuotaAppliedAtLevel", level, reason));
        }
        let (limit, after) = quota::page(ctx, input.max_results, input.next_token.as_deref())?;
        let service = input.service_code.unwrap_or_default();
        let mut quotas = quota::of_service(ctx, &service).await?;
        quotas.retain(|quota| {
            let wanted = input.quota_code.is_none() || quota.quota_code == input.quota_code;
            wanted && level != "RESOURCE"
        });
        let page = slice(quotas, &PageRequest { limit, after });
        Ok(ListServiceQuotasResponse {
            next_token: quota::token(ctx, page.next)?,
            quotas: page.rows.into_iter().map(|row| row.shown).collect(),
        })
    }
}
