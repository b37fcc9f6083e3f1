//! The framework of EC2's Describe calls: filters, pages and tokens. An implementation says what its rows are,
//! where they come from and how they look; [`reading`](super::reading) reads them and writes the answer.

use std::sync::Arc;

use async_trait::async_trait;
use cumulet_backend::api::{Page, PageRequest};
use cumulet_wire::{Operation, XmlBody, ec2::shared, response, xml::XmlWriter};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    ctx::Ctx,
    filter::{Filters, Table},
    page::{self, Paging},
    reading::Reading,
};
use crate::{fault::Fault, reply::Body};

/// What requests of listings with pages have alike: their filters and what they say about pages. Named are the
/// members that name resources.
macro_rules! paged {
    ($($named:ident),*) => {
        fn filters(input: &Self::Input) -> &[cumulet_wire::ec2::shared::Filter] {
            &input.filters
        }

        fn paging(input: &Self::Input) -> $crate::ec2::page::Paging<'_> {
            $crate::ec2::page::Paging {
                max_results: input.max_results,
                next_token: input.next_token.as_deref(),
                named: false $(|| !input.$named.is_empty())*,
            }
        }
    };
}
pub(crate) use paged;

/// A Describe call. Implemented for the operation's own type of the wire.
#[async_trait]
pub(crate) trait Describe: Operation<Output: XmlBody> {
    /// What is filtered and shown.
    type Row: Send + Sync + 'static;
    /// What a page ends with and the next one starts after.
    type Key: Serialize + DeserializeOwned + Send + Sync + 'static;
    /// Its filters: at least every one that is documented.
    const FILTERS: Table<Self::Row>;
    /// Rows that are read at once where all are wanted; `None`: all of them, where something bounds how
    /// many there are.
    const CHUNK: Option<u32> = Some(1000);

    /// The request's filters.
    fn filters(input: &Self::Input) -> &[shared::Filter];

    /// What the request says about pages; nothing for calls without pages.
    fn paging(_input: &Self::Input) -> Paging<'_> {
        Paging::default()
    }

    /// The rows after `page.after`, at most `page.limit`, in the order of their keys. `filters` may be
    /// asked for literal values that the database can look for; all filters are applied afterwards.
    async fn load(
        ctx: &Ctx,
        input: &Self::Input,
        filters: &Filters<Self::Row>,
        page: PageRequest<Self::Key>,
    ) -> Result<Page<Self::Row, Self::Key>, Fault>;

    /// What of a row passes the filters: all or nothing, except where a row has parts of its own.
    fn narrow(row: Self::Row, filters: &Filters<Self::Row>) -> Option<Self::Row> {
        filters.matches(&row).then_some(row)
    }

    /// The row's key.
    fn key(row: &Self::Row) -> Self::Key;

    /// The answer.
    fn render(ctx: &Ctx, input: &Self::Input, rows: Vec<Self::Row>, next: Option<String>) -> Self::Output;

    /// The answer's members, written. What it writes is what [`Describe::render`] says.
    fn members(
        ctx: &Ctx,
        input: &Self::Input,
        rows: Vec<Self::Row>,
        next: Option<String>,
        w: &mut XmlWriter,
    ) {
        Self::render(ctx, input, rows, next).members(w);
    }
}

/// Runs a Describe call.
///
/// # Errors
/// Bad filters, limits or tokens, and what `load` answers.
pub(crate) async fn run<D>(ctx: &Arc<Ctx>, input: D::Input, request_id: &str) -> Result<Body, Fault>
where
    D: Describe + 'static,
    D::Input: Send + Sync + 'static,
{
    let filters = Filters::parse(&D::FILTERS, D::filters(&input))?;
    let paging = D::paging(&input);
    let limit = page::limit(ctx, &paging)?;
    let after = paging
        .next_token
        .map(|token| page::open(ctx, token))
        .transpose()?;
    let reading = Reading::<D>::new(ctx.clone(), input, filters, after);
    let mut document = XmlWriter::with_capacity(2048);
    response::ec2_begin(&mut document, ctx.info.name, &ctx.version, request_id);
    match limit {
        Some(limit) => reading.page(limit, document).await,
        None => reading.whole(document).await,
    }
}

/// Rows that are all at hand (regions, zones, types): the page of them after `page.after`, by their
/// place in the list.
pub(crate) fn slice<T>(rows: Vec<(u64, T)>, page: &PageRequest<u64>) -> Page<(u64, T), u64> {
    let after = page.after.map_or(0, |after| after.saturating_add(1));
    let limit = page.limit.map_or(usize::MAX, |limit| limit as usize);
    let mut rows: Vec<_> = rows.into_iter().filter(|(place, _)| *place >= after).collect();
    let next = if rows.len() > limit {
        rows.get(limit.saturating_sub(1)).map(|row| row.0)
    } else {
        None
    };
    rows.truncate(limit);
    Page { rows, next }
}

/// Refuses a request that names what is not in a list at hand.
///
/// # Errors
/// `InvalidParameter` with the first name that none of `known` has.
pub(crate) fn all_known<T>(
    parameter: &str,
    wanted: &[String],
    known: &[T],
    name: impl Fn(&T) -> &str,
    reason: &str,
) -> Result<(), Fault> {
    match wanted.iter().find(|w| !known.iter().any(|k| name(k) == **w)) {
        Some(unknown) => Err(Fault::invalid(parameter, unknown, reason)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_at_hand_is_cut_into_pages_that_meet() {
        let all: Vec<(u64, char)> = (0..).zip('a'..='g').collect();
        let mut seen = String::new();
        let mut after = None;
        loop {
            let page = slice(
                all.clone(),
                &PageRequest {
                    limit: Some(3),
                    after,
                },
            );
            seen.extend(page.rows.iter().map(|row| row.1));
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        assert_eq!(seen, "abcdefg");
        assert_eq!(slice(all, &PageRequest::default()).rows.len(), 7);
    }
}
