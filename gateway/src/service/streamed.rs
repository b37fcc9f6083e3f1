//! A request's body as a stream: the second way to a [`Caller`]. The signature is verified over the head, which states
//! the body's hash, before anything of the body is read; its pieces are given out as they come.
//!
//! The last piece is given out when all of them together are what the head states, and not before, so that nobody
//! takes another body for whole. Of a body that is longer than the process's memory, what is in flight is held.

// Services with forms and documents take them whole.
#![cfg_attr(
    not(test),
    expect(dead_code, reason = "the first service that reads so is one of the tests")
)]

use std::{sync::Arc, task::Poll, time::Duration};

use bytes::Bytes;
use cumulet_domain::account::{AccountId, Principal};
use futures::StreamExt as _;
use tokio::time::{Instant, timeout_at};

use super::{Caller, Incoming, Request, Service, refused, rejected, rejection, told};
use crate::{
    auth::{Dialect, Judged, Payload},
    bodies::{BROKEN, LATE, MAX_BODY, Piece, Refusal, SMALL_BODY, TOO_LARGE},
    fault::Answer,
    gate::Gate,
    reply::Reply,
};

/// A request whose head is proven and whose body is yet to come.
pub(crate) struct Streamed<'a> {
    pub(crate) caller: Caller<'a>,
    pub(crate) body: Coming<'a>,
}

/// The body of such a request, as far as it was not given out yet.
pub(crate) struct Coming<'a> {
    gate: &'a Gate,
    request_id: &'a str,
    dialect: Dialect,
    judged: Box<Judged<'a, Arc<Principal>>>,
    /// Who has signed the head.
    account: AccountId,
    body: Incoming<'a>,
    payload: Payload,
    patience: Patience,
    /// Bytes that may come.
    most: usize,
    /// Those that have.
    come: usize,
    /// What has come and is not given out before it is known whether it is the last piece.
    ahead: Option<Piece>,
    state: State,
}

/// What is known of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// More of it may come.
    Open,
    /// Nothing more comes.
    Ended,
    /// It is the body that was signed.
    Whole,
    /// It is not, or could not be taken.
    Refused,
}

impl<'a> Request<'a> {
    /// Its body piece by piece, with the head proven. Path and query are signed, and of the headers all `x-amz-*` and
    /// those others that the client names.
    ///
    /// # Errors
    /// What `service` answers to a signature that does not hold; to a head that does not state the body's hash, or that
    /// it is unsigned where the service takes such bodies; and to a body that is announced as larger than the service
    /// takes.
    pub(crate) async fn stream(self, service: &impl Service) -> Result<Streamed<'a>, Reply> {
        let Request {
            gate,
            id,
            judged,
            body,
            presence,
            ..
        } = self;
        let (who, payload) = match gate.verify_head(&judged) {
            Ok(verified) => verified,
            Err(error) => return Err(body.unread(rejected(service, &error, id)).await),
        };
        let most = match body.most(service.limits().known) {
            Ok(most) => most,
            Err(refusal) => return Err(refused(service, refusal, id)),
        };
        let body = Coming {
            gate,
            request_id: id,
            dialect: service.dialect(),
            judged,
            account: who.account,
            patience: Patience::of(body.time),
            body,
            payload,
            most,
            come: 0,
            ahead: None,
            state: State::Open,
        };
        let fences = &gate.fences;
        let caller = Caller {
            who,
            fences,
            presence,
        };
        Ok(Streamed { caller, body })
    }
}

impl Coming<'_> {
    /// The next piece, as the client has sent it; `None` when all of them were given out, and are the body that was
    /// signed. Of another body there is an error in place of the last piece. What a piece takes of the process's memory
    /// is given back with it. A call that is given up loses nothing.
    ///
    /// # Errors
    /// What the client is to be told, the same as of [`Request::whole`]: the body is longer than announced or than the
    /// service takes, comes too late, breaks off, is not the one that was signed, or the process has no memory for it;
    /// or the key that signed it has been revoked meanwhile. Nothing comes after an error.
    pub(crate) async fn next(&mut self) -> Result<Option<Piece>, Answer> {
        match self.state {
            State::Open | State::Ended => {}
            State::Whole => return Ok(None),
            State::Refused => return Err(told(BROKEN)),
        }
        let piece = self.advance().await;
        if piece.is_err() {
            self.state = State::Refused;
            self.ahead = None;
        }
        piece
    }

    async fn advance(&mut self) -> Result<Option<Piece>, Answer> {
        while self.state == State::Open {
            match self.part().await.map_err(told)? {
                // Or the piece before it would not be the last one.
                Some(part) if part.is_empty() => {}
                Some(part) => {
                    let piece = self.piece(part).map_err(told)?;
                    if let Some(before) = self.ahead.replace(piece) {
                        return Ok(Some(before));
                    }
                }
                None => self.state = State::Ended,
            }
        }
        self.prove().await?;
        self.state = State::Whole;
        Ok(self.ahead.take())
    }

    /// What the client sends next.
    async fn part(&mut self) -> Result<Option<Bytes>, Refusal> {
        let part = self.patience.wait(self.body.pieces.next()).await?;
        part.transpose().map_err(|_| BROKEN)
    }

    /// Counts and hashes it.
    fn piece(&mut self, part: Bytes) -> Result<Piece, Refusal> {
        let come = self.come + part.len();
        if come > self.most {
            return Err(TOO_LARGE);
        }
        let free = SMALL_BODY.saturating_sub(self.come);
        let piece = self.gate.bodies.piece(self.account, part, free)?;
        self.payload.update(&piece);
        if come / MAX_BODY > self.come / MAX_BODY {
            self.patience.renew();
        }
        if let Some(work) = self.body.work {
            work.goes_on();
        }
        self.come = come;
        Ok(piece)
    }

    /// Whether what has come is the body that was signed, and the key still one that signs: it may have taken long.
    async fn prove(&self) -> Result<(), Answer> {
        if self
            .body
            .announced
            .is_some_and(|length| length != self.come as u64)
        {
            return Err(told(BROKEN));
        }
        if let Some(work) = self.body.work {
            work.goes_on();
        }
        let proven = match self.payload.check() {
            Ok(()) => self.gate.confirm(&self.judged).await,
            differs => differs,
        };
        if let (Ok(()), Some(work)) = (&proven, self.body.work) {
            work.is_known();
        }
        proven.map_err(|error| rejection(&error, self.dialect, self.request_id))
    }
}

/// How long a client may yet be waited for. What its service takes for a piece is not the client's time; and what comes
/// renews it, but not in drops: each [`MAX_BODY`] bytes may take as long as a whole body.
#[derive(Debug)]
struct Patience {
    each: Duration,
    left: Duration,
    /// Since when it is waited for.
    since: Option<Instant>,
}

impl Patience {
    fn of(each: Duration) -> Self {
        let (left, since) = (each, None);
        Patience { each, left, since }
    }

    fn renew(&mut self) {
        self.left = self.each;
    }

    async fn wait<F: Future + Unpin>(&mut self, mut coming: F) -> Result<F::Output, Refusal> {
        // Mostly it is at hand, and costs no timer.
        let come = match futures::poll!(&mut coming) {
            Poll::Ready(come) => come,
            Poll::Pending => {
                let since = *self.since.get_or_insert_with(Instant::now);
                timeout_at(since + self.left, coming).await.map_err(|_| LATE)?
            }
        };
        if let Some(since) = self.since.take() {
            self.left = self.left.saturating_sub(since.elapsed());
        }
        Ok(come)
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use tokio::time::{sleep, timeout};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_clients_time_is_what_it_is_waited_for() {
        let after = |seconds: u32| Box::pin(sleep(SECOND * seconds));
        let mut patience = Patience::of(SECOND * 30);
        assert_eq!(patience.wait(after(20)).await, Ok(()));
        // Its service's own time.
        sleep(SECOND * 100).await;
        assert_eq!(patience.wait(after(8)).await, Ok(()));
        // Waiting that is given up and begun again is the same waiting.
        let short = timeout(SECOND, patience.wait(pending::<()>()));
        assert!(short.await.is_err());
        assert_eq!(patience.wait(after(2)).await, Err(LATE));
        assert_eq!(patience.wait(ready(5)).await, Ok(5));
        patience.renew();
        assert_eq!(patience.wait(after(29)).await, Ok(()));
        assert_eq!(patience.wait(pending::<()>()).await, Err(LATE));
    }
}
