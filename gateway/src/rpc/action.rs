//! The action trait, and its entry in the dispatch table.

use std::sync::Arc;

use async_trait::async_trait;
use cumulet_wire::{Operation, Query, XmlBody, decode, response};
use futures::future::BoxFuture;

use super::{
    ctx::Ctx,
    describe::{self, Describe},
};
use crate::{fault::Fault, reply::Body};

/// An operation that is served. Implemented for the operation's own type of the wire.
///
/// It must change things only through `ctx.cloud`: that is what makes DryRun true for every action.
#[async_trait]
pub(crate) trait Action: Operation {
    /// Does it. Permission, refused members and DryRun are seen to before and after.
    async fn run(ctx: &Ctx, input: Self::Input) -> Result<Self::Output, Fault>;
}

/// Decodes, runs and writes the answer.
pub(crate) type Run = for<'a> fn(&'a Arc<Ctx>, &'a Query<'a>, &'a str) -> BoxFuture<'a, Result<Body, Fault>>;

/// A row of the table of actions.
pub(crate) struct TableEntry {
    /// The operation's name.
    pub(crate) name: &'static str,
    /// What it does.
    pub(crate) run: Run,
    /// Whether its table has the documented filter of this name.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "a test compares it with the documentation")
    )]
    pub(crate) has_filter: fn(&str) -> bool,
}

/// The row of an action.
pub(crate) const fn action<A>() -> TableEntry
where
    A: Action,
    A::Input: Send + 'static,
    A::Output: Send,
{
    TableEntry {
        name: A::NAME,
        run: |ctx, query, request_id| {
            let input = decode::<A::Input>(query);
            Box::pin(async move {
                let output = A::run(ctx, input?).await?;
                Ok(Body::Whole(respond(ctx, request_id, &output)))
            })
        },
        has_filter: |_| false,
    }
}

/// The row of a Describe call.
pub(crate) const fn listing<D>() -> TableEntry
where
    D: Describe + 'static,
    D::Input: Send + Sync + 'static,
    D::Output: Send,
{
    TableEntry {
        name: D::NAME,
        run: |ctx, query, request_id| {
            let input = decode::<D::Input>(query);
            Box::pin(async move { describe::run::<D>(ctx, input?, request_id).await })
        },
        has_filter: |name| D::FILTERS.has(name),
    }
}

/// The document with an action's answer.
pub(crate) fn respond(ctx: &Ctx, request_id: &str, output: &impl XmlBody) -> String {
    response::ec2_response(ctx.info.name, &ctx.version, request_id, output)
}
