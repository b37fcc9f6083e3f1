//! The framework of EC2's Describe calls: filters, pages and tokens. What a request says of them, and how the answer
//! looks, the wire knows; an implementation says what its rows are and where they come from. [`reading`](super::reading)
//! reads them and writes the answer.

use std::sync::Arc;

use async_trait::async_trait;
use cumulet_backend::api::{Page, PageRequest};
use cumulet_wire::{XmlBody, listing::Listing, response, xml::XmlWriter};

use super::{
    ctx::Ctx,
    filter::{Def, Filters, Keyed, Row, Table},
    page,
    reading::Reading,
};
use crate::{fault::Fault, reply::Body};

/// A Describe call. Implemented for the operation's own type of the wire, which knows its filters, its pages and its
/// answer.
#[async_trait]
pub(crate) trait Describe: Listing<Output: XmlBody> {
    /// What is filtered and shown.
    type Row: Row<Shape = Self::Item>;
    /// The filters whose texts are no member's: those that `models/filter_members.toml` calls computed.
    const COMPUTED: &'static [Def<Self::Row>] = &[];
    /// Rows that are read at once where all are wanted; `None`: as many as [`Describe::load`] finds right, where
    /// something bounds how many there are, or it answers where the next ones begin.
    const CHUNK: Option<u32> = Some(1000);

    /// The rows after `page.after`, at most `page.limit`, in the order of their keys. `filters` may be
    /// asked for literal values that the database can look for; all filters are applied afterwards.
    async fn load(
        ctx: &Ctx,
        input: &Self::Input,
        filters: &Filters<Self::Row>,
        page: PageRequest<KeyOf<Self>>,
    ) -> Result<Page<Self::Row, KeyOf<Self>>, Fault>;

    /// What of a row passes the filters: all or nothing, except where a row has parts of its own.
    fn narrow(row: Self::Row, filters: &Filters<Self::Row>) -> Option<Self::Row> {
        filters.matches(&row).then_some(row)
    }

    /// The answer.
    fn render(_: &Ctx, _: &Self::Input, rows: Vec<Self::Row>, next: Option<String>) -> Self::Output {
        Self::answer(rows.into_iter().map(Row::into_shown).collect(), next)
    }

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

/// The key of a listing's rows.
pub(crate) type KeyOf<D> = <<D as Describe>::Row as Row>::Key;

/// All filters of a listing.
pub(crate) const fn filters_of<D: Describe>() -> Table<D::Row> {
    Table {
        members: D::FILTERS,
        computed: D::COMPUTED,
        tags: D::TAGS,
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
    let filters = Filters::parse(&filters_of::<D>(), D::filters(&input))?;
    let paging = D::pages(&input);
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
pub(crate) fn slice<T>(
    rows: impl IntoIterator<Item = T>,
    page: &PageRequest<u64>,
) -> Page<Keyed<u64, T>, u64> {
    let after = page.after.map_or(0, |after| after.saturating_add(1));
    let limit = page.limit.map_or(usize::MAX, |limit| limit as usize);
    let rows = (0..).zip(rows).filter(|(place, _)| *place >= after);
    let mut rows: Vec<_> = rows.map(|(place, row)| Keyed::new(place, row)).collect();
    let next = if rows.len() > limit {
        rows.get(limit.saturating_sub(1)).map(|row| row.key)
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
        let all = 'a'..='g';
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
            seen.extend(page.rows.iter().map(|row| row.shown));
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        assert_eq!(seen, "abcdefg");
        assert_eq!(slice(all, &PageRequest::default()).rows.len(), 7);
    }
}
