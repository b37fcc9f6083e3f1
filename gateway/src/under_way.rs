//! Requests under way, as the crowd of connections ([`crate::connection`]) has to know them: whom each waits for, the
//! client for the rest of its body, or the door. `server::serve` has this around everything that answers, so that no
//! listener and no route can leave it out; each MiB of its body has the time that the listener gives
//! it, whoever reads it.

use std::{
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use actix_http::BoxedPayloadStream;
use actix_web::{
    HttpMessage as _,
    dev::{Payload, ServiceRequest, ServiceResponse},
    error::PayloadError,
};
use bytes::Bytes;
use futures::Stream;
use tokio::time::{Instant, Sleep, sleep};

use crate::connection::{Begun, Member, Work};

/// What reads a body may have words of its own for one that is late: then it has so long for them.
const LAST_WORD: Duration = Duration::from_secs(1);

/// So much of a body has the listener's time, so that a long one may come as slowly as a short one.
const SHARE: usize = 1 << 20;

/// Among the extensions of an answer: anybody gets it, so that whoever has got it may still be a stranger.
pub(crate) struct ForAnybody;

/// A request under way; none of a connection that nobody counts, as tests have them.
pub(crate) struct UnderWay(Option<Begun>);

/// A request's head has come.
pub(crate) fn begin(request: &mut ServiceRequest) -> UnderWay {
    let begun = request.conn_data::<Rc<Member>>().map(Member::begin);
    if let Some(begun) = &begun {
        let body = request.take_payload();
        request.set_payload(watched(body, begun));
    }
    UnderWay(begun)
}

impl UnderWay {
    /// There is an answer: from here on the connection waits for its client, who is no stranger if the answer is none
    /// for strangers.
    pub(crate) fn answered<B>(self, answer: &ServiceResponse<B>) {
        let is_for_anybody = answer.response().extensions().get::<ForAnybody>().is_some();
        if let Some(begun) = self.0
            && answer.status().is_success()
            && !is_for_anybody
        {
            begun.is_known();
        }
    }
}

/// A body whose pieces tell whether they are waited for. Where there is none, nothing is.
fn watched(body: Payload, work: &Work) -> Payload {
    if matches!(body, Payload::None) {
        return body;
    }
    let payload: BoxedPayloadStream = Box::pin(Body {
        pieces: body,
        work: work.clone(),
        late: None,
        left: work.body_time(),
        came: 0,
    });
    Payload::Stream { payload }
}

/// A request's body, as it comes in.
struct Body {
    pieces: Payload,
    work: Work,
    /// Since when more is waited for, and when it is late; nearly always it is at hand, and needs no timer.
    late: Option<(Instant, Pin<Box<Sleep>>)>,
    /// How long it may be waited for yet, but for what reads it, whose time is not the client's.
    left: Duration,
    /// What has come since that was all of its time.
    came: usize,
}

impl Stream for Body {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        match Pin::new(&mut this.pieces).poll_next(context) {
            Poll::Ready(Some(Ok(piece))) => {
                if let Some((since, _)) = this.late.take() {
                    this.left = this.left.saturating_sub(since.elapsed());
                }
                this.came += piece.len();
                if this.came >= SHARE {
                    (this.came, this.left) = (0, this.work.body_time());
                }
                return Poll::Ready(Some(Ok(piece)));
            }
            Poll::Ready(end) => {
                this.work.goes_on();
                return Poll::Ready(end);
            }
            Poll::Pending => this.work.waits_for_body(),
        }
        let time = this.left + LAST_WORD;
        let (_, late) = this
            .late
            .get_or_insert_with(|| (Instant::now(), Box::pin(sleep(time))));
        late.as_mut().poll(context).map(|()| {
            this.work.goes_on();
            let late = io::Error::new(io::ErrorKind::TimedOut, "it did not come in time");
            Some(Err(PayloadError::Io(late)))
        })
    }
}

impl Drop for Body {
    /// What reads it has enough of it, whole or not.
    fn drop(&mut self) {
        self.work.goes_on();
    }
}

#[cfg(test)]
mod tests {
    use futures::{StreamExt as _, channel::mpsc};
    use tokio::time::{advance, timeout};

    use super::*;
    use crate::{connection::Crowd, limits::Limits};

    const SECOND: Duration = Duration::from_secs(1);

    /// A client's pieces, and the body that they are, each MiB of which has ten seconds.
    fn sending() -> (mpsc::UnboundedSender<Result<Bytes, PayloadError>>, Payload, Begun) {
        let limits = Limits {
            body: SECOND * 10,
            ..Limits::default()
        };
        let (_, member) = Crowd::new(1, limits).admit();
        let (begun, (send, pieces)) = (member.begin(), mpsc::unbounded());
        let payload: BoxedPayloadStream = Box::pin(pieces);
        let body = watched(Payload::Stream { payload }, &begun);
        (send, body, begun)
    }

    /// Waits so long for a piece, in vain.
    async fn waits(body: &mut Payload, seconds: u32) {
        let waited = timeout(SECOND * seconds, body.next()).await;
        assert!(waited.is_err(), "{waited:?}");
    }

    /// The seconds until the body is given up, more or less.
    async fn late(body: &mut Payload) -> u64 {
        let since = Instant::now();
        match body.next().await {
            Some(Err(PayloadError::Io(error))) if error.kind() == io::ErrorKind::TimedOut => {
                (since.elapsed() + SECOND / 2).as_secs()
            }
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_bodys_time_is_what_it_is_waited_for_and_not_what_its_service_takes() {
        let (send, mut body, _begun) = sending();
        for seconds in [6, 3] {
            waits(&mut body, seconds).await;
            send.unbounded_send(Ok(Bytes::from_static(b"a piece"))).unwrap();
            assert!(matches!(body.next().await, Some(Ok(_))));
            // The service writes it down.
            advance(SECOND * 3600).await;
        }
        // What is left of ten seconds, and one for the service's own words.
        assert_eq!(late(&mut body).await, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn what_drips_gains_no_time_and_each_mib_has_all_of_it() {
        let (send, mut body, _begun) = sending();
        for _ in 0..9 {
            waits(&mut body, 1).await;
            send.unbounded_send(Ok(Bytes::from_static(b"a"))).unwrap();
            assert!(matches!(body.next().await, Some(Ok(_))));
        }
        assert_eq!(late(&mut body).await, 2);
        let (send, mut body, _begun) = sending();
        for _ in 0..3 {
            waits(&mut body, 9).await;
            send.unbounded_send(Ok(Bytes::from(vec![0; SHARE]))).unwrap();
            assert!(matches!(body.next().await, Some(Ok(_))));
        }
        assert_eq!(late(&mut body).await, 11);
    }
}
