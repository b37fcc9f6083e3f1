//! ListServices: the services that have quotas.

use async_trait::async_trait;
use cumulet_backend::api::PageRequest;
use cumulet_wire::service_quotas::{ListServices, ListServicesRequest, ListServicesResponse, ServiceInfo};

use crate::{
    fault::Fault,
    rpc::{action::Action, ctx::Ctx, describe::slice},
    service_quotas::quota,
};

#[async_trait]
impl Action for ListServices {
    async fn run(ctx: &Ctx, input: ListServicesRequest) -> Result<ListServicesResponse, Fault> {
        let (limit, after) = quota::page(ctx, input.max_results, input.next_token.as_deref())?;
        let services = quota::SERVICES.map(|(code, name)| ServiceInfo {
            service_code: Some(code.into()),
            service_name: Some(name.into()),
        });
        let page = slice(services, &PageRequest { limit, after });
        Ok(ListServicesResponse {
            next_token: quota::token(ctx, page.next)?,
            services: page.rows.into_iter().map(|row| row.shown).collect(),
        })
    }
}
