//! GetParametersByPath: the parameters below a path, in pages.

use async_trait::async_trait;
use cumulet_backend::api::{PageRequest, aliases};
use cumulet_domain::parameter::is_path;
use cumulet_wire::ssm::{GetParametersByPath, GetParametersByPathRequest, GetParametersByPathResult};

use crate::{
    fault::Fault,
    rpc::{
        action::Action,
        ctx::Ctx,
        page::{self, Pages},
    },
    ssm::parameter,
};

/// Parameters in a page where nobody says how many, as on AWS.
const PAGE: u32 = 10;

/// AWS's words for a path that is none.
const NO_PATH: &str = "The parameter doesn't meet the parameter name requirements. The parameter name must begin with \
                       a forward slash \"/\". It can't be prefixed with \"aws\" or \"ssm\" (case-insensitive). It must \
                       use only letters, numbers, or the following symbols: . (period), - (hyphen), _ (underscore). \
                       Special characters are not allowed. All sub-paths, if specified, must use the forward slash \
                       symbol \"/\". Valid example: /get/parameters2-/by1./path0_.";

#[async_trait]
impl Action for GetParametersByPath {
    async fn run(ctx: &Ctx, input: GetParametersByPathRequest) -> Result<GetParametersByPathResult, Fault> {
        let path = input.path.unwrap_or_default();
        parameter::check_length("path", &path)?;
        let pages = Pages {
            max_results: input.max_results,
            next_token: input.next_token.as_deref(),
            named: false,
        };
        let limit = page::limit(ctx, &pages)?.unwrap_or(PAGE);
        let after = pages.next_token.map(|token| page::open(ctx, token)).transpose()?;
        let request = PageRequest {
            limit: Some(limit),
            after,
        };
        let (path, recursive) = (checked(&path)?, input.recursive == Some(true));
        let found = aliases::below(&ctx.cloud, &ctx.who, path, recursive, request).await?;
        Ok(GetParametersByPathResult {
            next_token: found.next.map(|next| page::seal(ctx, &next)).transpose()?,
            parameters: found.rows.iter().map(|row| parameter::show(ctx, row)).collect(),
        })
    }
}

/// A path without the `/` that may be at its end.
fn checked(path: &str) -> Result<&str, Fault> {
    let plain = path.strip_suffix('/').unwrap_or(path);
    if path == "/" || is_path(plain) {
        return Ok(plain);
    }
    Err(Fault::coded("ValidationException", 400, NO_PATH))
}
