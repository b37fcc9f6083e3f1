//! The action trait, and its entry in a service's table.

use std::sync::Arc;

use async_trait::async_trait;
use cumulet_domain::Error;
use cumulet_wire::{Codec, FromQuery, JsonShape, Operation, XmlBody, decode, json, response};
use futures::future::BoxFuture;

use super::{
    Asked,
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
pub(crate) type Run = for<'a> fn(&'a Arc<Ctx>, &'a Asked<'a>, &'a str) -> BoxFuture<'a, Result<Body, Fault>>;

/// A row of a service's table.
pub(crate) struct Entry {
    /// The operation's name.
    pub(crate) name: &'static str,
    /// What it does.
    pub(crate) run: Run,
    /// What its filters are.
    #[cfg(test)]
    pub(crate) filters: Option<Looked>,
}

/// What a test compares with the documentation.
#[cfg(test)]
pub(crate) struct Looked {
    /// Whether there is a filter of this name.
    pub(crate) has: fn(&str) -> bool,
    /// Those that should be computed, and those that are.
    pub(crate) computed: fn() -> (&'static [&'static str], Vec<&'static str>),
}

/// The row of an action whose answer is XML.
pub(crate) const fn action<A>() -> Entry
where
    A: Action,
    A::Input: FromQuery + Send + 'static,
    A::Output: XmlBody + Send,
{
    Entry {
        name: A::NAME,
        run: |ctx, asked, request_id| {
            let input = asked.form().and_then(|query| Ok(decode::<A::Input>(query)?));
            Box::pin(async move {
                let output = A::run(ctx, input?).await?;
                Ok(Body::Whole(respond(ctx, request_id, &output)))
            })
        },
        #[cfg(test)]
        filters: None,
    }
}

/// The row of an action of a service of JSON.
pub(crate) const fn document<A>() -> Entry
where
    A: Action,
    A::Input: JsonShape + Send + 'static,
    A::Output: JsonShape + Send,
{
    Entry {
        name: A::NAME,
        run: |ctx, asked, _| {
            let input = asked.document::<A::Input>();
            Box::pin(async move {
                let output = A::run(ctx, input?).await?;
                let text = json::encode(&output).map_err(|error| Error::internal(&error))?;
                Ok(Body::Whole(text))
            })
        },
        #[cfg(test)]
        filters: None,
    }
}

/// The row of a Describe call.
pub(crate) const fn listing<D>() -> Entry
where
    D: Describe + 'static,
    D::Input: FromQuery + Send + Sync + 'static,
    D::Output: Send,
{
    Entry {
        name: D::NAME,
        run: |ctx, asked, request_id| {
            let input = asked.form().and_then(|query| Ok(decode::<D::Input>(query)?));
            Box::pin(async move { describe::run::<D>(ctx, input?, request_id).await })
        },
        #[cfg(test)]
        filters: Some(Looked {
            has: |name| describe::filters_of::<D>().has(name),
            computed: || (D::COMPUTED_FILTERS, describe::filters_of::<D>().computed_names()),
        }),
    }
}

/// The document with an action's answer.
fn respond<T: XmlBody>(ctx: &Ctx, request_id: &str, output: &T) -> String {
    match ctx.service.model.codec {
        Codec::Query { namespace } => {
            let result = (!T::NOTHING).then_some(output);
            response::query_response(namespace, ctx.info.name, request_id, result)
        }
        Codec::Ec2 | Codec::Json { .. } => {
            response::ec2_response(ctx.info.name, &ctx.version, request_id, output)
        }
    }
}
