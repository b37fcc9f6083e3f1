//! The reading of a Describe call's rows, and the writing of its answer.
//!
//! An answer without `MaxResults` is whole, since old clients follow no tokens; so it is written while it
//! is read, in pieces: what is held of it is a chunk of rows and a piece of text, however long it is. Only
//! the client's reading brings the next piece about.
//!
//! Work takes turns: after each slice of it others go first, and of the requests of one account that take
//! long, one works at a time. What the filters may take altogether is bounded.

use std::{io, sync::Arc};

use bytes::Bytes;
use cumulet_backend::api::PageRequest;
use cumulet_domain::Error;
use cumulet_wire::{response, xml::XmlWriter};
use futures::{StreamExt as _, future::ready, stream};
use tokio::sync::OwnedSemaphorePermit;

use super::{
    ctx::Ctx,
    describe::{Describe, KeyOf},
    filter::{Filters, Row},
    page,
};
use crate::{fault::Fault, reply::Body};

/// Rows read at once where filters drop some of them.
const CHUNK: u32 = 1000;

/// Rows written at once.
const BATCH: usize = if cfg!(test) { 2 } else { 128 };

/// Things that rows written at once have in them, as reservations have instances: some megabytes. (In smaller pieces a
/// thousand instances take a fifth more of the processor.)
const PARTS: usize = if cfg!(test) { 2 } else { 1024 };

/// Such things in a page: one whose rows have more ends early.
const HELD: usize = if cfg!(test) { 120 } else { 10_000 };

/// Bytes of an answer that is sent as a whole.
const WHOLE: usize = if cfg!(test) { 1200 } else { 1 << 20 };

/// Bytes of a piece of another one, and a batch of rows more.
const PIECE: usize = if cfg!(test) { 700 } else { 256 << 10 };

/// Steps of work until others go first: some tenths of a millisecond.
const SLICE: u64 = 50_000;

/// Steps for a row that is read, beside its filters.
const STEPS_PER_ROW: u64 = 250;

/// Bytes that are written in the time of a step.
const BYTES_PER_STEP: u64 = 2;

/// Steps of filters from which on a request takes long: some milliseconds. So does one that reads more than
/// one chunk of rows.
const LONG: u64 = 1_000_000;

/// Steps that the filters of a request may take: half a second, more or less.
const MOST: u64 = 100_000_000;

/// Steps in a unit of what accounts may use.
const STEPS_PER_UNIT: u64 = 25_000;

/// See the module.
pub(super) struct Reading<D: Describe> {
    ctx: Arc<Ctx>,
    input: D::Input,
    filters: Filters<D::Row>,
    /// What the next chunk starts after.
    after: Option<KeyOf<D>>,
    /// Whether there is one.
    more: bool,
    /// What has been read and not yet looked at.
    rows: std::vec::IntoIter<D::Row>,
    /// Rows that were read so far, and in how many chunks.
    count: u64,
    chunks: u32,
    /// Bytes that were written so far.
    written: u64,
    /// Whether something has been written.
    begun: bool,
    /// The work until the last pause, and the account's turn if there was one in this piece.
    done: u64,
    turn: Option<OwnedSemaphorePermit>,
}

impl<D> Reading<D>
where
    D: Describe + 'static,
    D::Input: Send + Sync + 'static,
{
    pub(super) fn new(
        ctx: Arc<Ctx>,
        input: D::Input,
        filters: Filters<D::Row>,
        after: Option<KeyOf<D>>,
    ) -> Self {
        Reading {
            ctx,
            input,
            filters,
            after,
            more: true,
            rows: Vec::new().into_iter(),
            count: 0,
            chunks: 0,
            written: 0,
            begun: false,
            done: 0,
            turn: None,
        }
    }

    /// The page of the next `limit` rows that pass the filters, with the token of the page after it.
    pub(super) async fn page(mut self, limit: u32, mut document: XmlWriter) -> Result<Body, Fault> {
        let chunk = if self.filters.is_empty() {
            limit
        } else {
            limit.max(CHUNK)
        };
        let (mut kept, mut parts, mut last) = (Vec::new(), 0, None);
        let next = loop {
            if kept.len() >= limit as usize || parts >= HELD {
                // The next page starts after the last row that was looked at.
                let unread = !self.rows.as_slice().is_empty();
                break if unread { last } else { self.after.take() };
            }
            match self.rows.next() {
                Some(row) => {
                    last = Some(row.key());
                    parts += keep(&mut kept, D::narrow(row, &self.filters));
                }
                None if !self.more => break None,
                None => self.load(Some(chunk)).await?,
            }
            if self.is_due() {
                match self.pause().await {
                    // What was found so far is a page too.
                    Err(_) if self.is_used_up() && last.is_some() => break last,
                    paused => paused?,
                }
            }
        };
        let token = next.map(|key| page::seal(&self.ctx, &key)).transpose()?;
        D::members(&self.ctx, &self.input, kept, token, &mut document);
        Ok(Body::Whole(self.end(document)))
    }

    /// All rows that pass the filters.
    pub(super) async fn whole(mut self, mut document: XmlWriter) -> Result<Body, Fault> {
        if !self.fill(&mut document, WHOLE).await? {
            return Ok(Body::Whole(self.end(document)));
        }
        let first = Bytes::from(document.cut());
        self.turn = None;
        let rest = stream::unfold(Some((self, document)), |state| async {
            let (mut reading, mut document) = state?;
            match reading.fill(&mut document, PIECE).await {
                Ok(true) => {
                    // A client that takes its time takes nobody's turn.
                    reading.turn = None;
                    let piece = Bytes::from(document.cut());
                    Some((Ok(piece), Some((reading, document))))
                }
                Ok(false) => Some((Ok(Bytes::from(reading.end(document))), None)),
                Err(fault) => {
                    let answer = (reading.ctx.service.words)(&fault);
                    tracing::info!(code = %answer.code, hidden = fault.hidden(), "an answer ends before its end");
                    Some((Err(io::Error::other(answer.message)), None))
                }
            }
        });
        let pieces = stream::once(ready(Ok(first))).chain(rest);
        Ok(Body::Pieces(pieces.boxed()))
    }

    fn end(&self, mut document: XmlWriter) -> String {
        response::ec2_end(&mut document, self.ctx.info.name);
        document.finish()
    }

    /// Writes rows until so much is there; `false` when there are no more of them.
    async fn fill(&mut self, document: &mut XmlWriter, most: usize) -> Result<bool, Fault> {
        while document.len() < most {
            let rows = self.batch().await?;
            let ended = rows.is_empty();
            if !ended || !self.begun {
                let at = document.len();
                D::members(&self.ctx, &self.input, rows, None, document);
                if self.begun {
                    document.join(at);
                }
                self.begun = true;
                self.written += document.len().saturating_sub(at) as u64;
            }
            if ended {
                return Ok(false);
            }
            if self.is_due() {
                self.pause().await?;
            }
        }
        Ok(true)
    }

    /// Some rows that pass the filters; none when there are no more.
    async fn batch(&mut self) -> Result<Vec<D::Row>, Fault> {
        let named = D::pages(&self.input).named;
        let chunk = if named { None } else { D::CHUNK };
        let (mut kept, mut parts) = (Vec::new(), 0);
        while kept.len() < BATCH && parts < PARTS {
            match self.rows.next() {
                Some(row) => parts += keep(&mut kept, D::narrow(row, &self.filters)),
                None if !self.more => break,
                None => self.load(chunk).await?,
            }
            if self.is_due() {
                self.pause().await?;
            }
        }
        Ok(kept)
    }

    async fn load(&mut self, limit: Option<u32>) -> Result<(), Fault> {
        self.chunks += 1;
        if self.chunks > 1 {
            self.pause().await?;
        }
        // Where none can pass, one row: all else that the request says is still looked at.
        let vain = self.filters.pass_nothing();
        let page = PageRequest {
            limit: if vain { Some(1) } else { limit },
            after: self.after.take(),
        };
        let page = D::load(&self.ctx, &self.input, &self.filters, page).await?;
        self.more = page.next.is_some() && !vain;
        self.after = page.next;
        self.count += page.rows.len() as u64;
        self.rows = page.rows.into_iter();
        Ok(())
    }

    fn work(&self) -> u64 {
        self.filters.steps() + self.count * STEPS_PER_ROW + self.written / BYTES_PER_STEP
    }

    fn is_due(&self) -> bool {
        self.work() - self.done >= SLICE
    }

    fn is_used_up(&self) -> bool {
        self.filters.steps() > MOST
    }

    /// Lets others go first. Work that is long waits for the account's turn.
    async fn pause(&mut self) -> Result<(), Fault> {
        if self.ctx.presence.is_gone() {
            return Err(Error::Abandoned.into());
        }
        let work = self.work();
        let units = u32::try_from((work - self.done) / STEPS_PER_UNIT).unwrap_or(u32::MAX);
        self.ctx.meter.charge(units, self.ctx.cloud.now());
        self.done = work;
        if self.is_used_up() {
            let message = "The filters of this request take too long. Use fewer values, or fewer wildcards in them, \
                           or ask for pages with MaxResults.";
            return Err(Fault::coded("FilterLimitExceeded", 400, message));
        }
        tokio::task::yield_now().await;
        let long = self.chunks > 1 || self.filters.steps() > LONG;
        if long && self.turn.is_none() {
            self.turn = self.ctx.meter.turn().acquire_owned().await.ok();
        }
        Ok(())
    }
}

/// Keeps a row, if there is one, and answers how many things it has in it.
fn keep<R: Row>(kept: &mut Vec<R>, row: Option<R>) -> usize {
    let parts = row.as_ref().map_or(0, Row::parts);
    kept.extend(row);
    parts
}
