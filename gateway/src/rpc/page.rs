//! Pagination: limits, and tokens that only this cloud can make and that are good for one account and
//! one question alone.

use cumulet_certs::Purpose;
use cumulet_domain::{Error, Result};
pub(crate) use cumulet_wire::listing::Pages;
use serde::{Serialize, de::DeserializeOwned};

use super::ctx::Ctx;
use crate::fault::Fault;

/// Longest token that is looked at.
const MAX_TOKEN: usize = 4096;

/// Where EC2 takes a `MaxResults` of 0 for none: Kubernetes' EBS driver sends it when it wants whatever there is.
const ZERO_IS_NONE: &[&str] = &["DescribeSnapshots"];

/// Checks `MaxResults`.
///
/// # Errors
/// Outside the operation's limits, or together with ids.
pub(crate) fn limit(ctx: &Ctx, paging: &Pages<'_>) -> Result<Option<u32>, Fault> {
    let zero_is_none = ZERO_IS_NONE.contains(&ctx.info.name);
    let Some(wanted) = paging.max_results.filter(|&n| n != 0 || !zero_is_none) else {
        return Ok(None);
    };
    if paging.named {
        return Err(Fault::combination(
            "The parameter MaxResults cannot be used with the parameter that names resources by their ids",
        ));
    }
    let (min, max) = ctx.info.paging.map_or((1, 1000), |p| (p.min, p.max));
    if !(min..=max).contains(&wanted) {
        let reason = format!("expecting a number from {min} to {max}");
        return Err(Fault::invalid("MaxResults", &wanted.to_string(), reason));
    }
    Ok(u32::try_from(wanted).ok())
}

/// Who and what a token is good for.
fn binding(ctx: &Ctx) -> Vec<u8> {
    let mut text = format!("{}\0{}\0", ctx.who.account, ctx.info.name).into_bytes();
    text.extend_from_slice(&ctx.listing);
    text
}

/// The token for the page after `key`.
///
/// # Errors
/// `Internal` when sealing fails.
pub(crate) fn seal<K: Serialize>(ctx: &Ctx, key: &K) -> Result<String> {
    let text = serde_json::to_vec(key).map_err(|e| Error::internal(&e))?;
    let aad = binding(ctx);
    let sealed = ctx
        .cloud
        .rng
        .with(|rng| ctx.cloud.sealer.seal(rng, Purpose::PAGE_TOKEN, &aad, &text));
    sealed.map_err(|e| Error::internal(&e))
}

/// The key that a token holds.
///
/// # Errors
/// `InvalidPaginationToken` for a token that was not made for this question.
pub(crate) fn open<K: DeserializeOwned>(ctx: &Ctx, token: &str) -> Result<K> {
    let bad = |_| Error::InvalidPaginationToken;
    if token.len() > MAX_TOKEN {
        return Err(Error::InvalidPaginationToken);
    }
    let text = ctx
        .cloud
        .sealer
        .open(Purpose::PAGE_TOKEN, &binding(ctx), token)
        .map_err(bad)?;
    serde_json::from_slice(text.expose()).map_err(|_| Error::InvalidPaginationToken)
}
