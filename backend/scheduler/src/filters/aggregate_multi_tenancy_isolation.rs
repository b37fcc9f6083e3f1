//! A host in aggregates that name accounts (`filter_tenant_id`, also with a suffix; several are separated by
//! commas) takes instances of those only (Nova's filter of the name).

use super::{Filter, by_profile};
use crate::{Fleet, Request};

/// What keys of an aggregate's metadata begin with that name accounts.
const KEY: &str = "filter_tenant_id";

/// See the module.
#[derive(Debug)]
pub struct AggregateMultiTenancyIsolation;

impl Filter for AggregateMultiTenancyIsolation {
    fn name(&self) -> &'static str {
        "aggregate_multi_tenancy_isolation"
    }

    fn wants(&self, request: &Request) -> String {
        format!("is open to the account {}", request.account)
    }

    fn sieve(&self, left: &mut Vec<u32>, fleet: &Fleet, request: &Request) {
        by_profile(left, fleet, |profile| {
            let pairs = profile.aggregates.iter().flat_map(|metadata| metadata.iter());
            let mut named = pairs.filter(|(key, _)| key.starts_with(KEY)).peekable();
            named.peek().is_none()
                || named.any(|(_, accounts)| {
                    accounts
                        .split(',')
                        .any(|account| account.trim() == request.account)
                })
        });
    }
}
