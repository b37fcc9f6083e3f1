//! A client's connection, as actix-http reads and writes it: one that keeps the door waiting is cut.
//!
//! Its [`ConnectionTimeout`] ends what is left unfinished. Beyond that the connections of a worker know each
//! other ([`Crowd`]): when there are as many as there may be, the next one takes the place of the one
//! that has waited longest, first of the strangers'. So a correct client is answered however many others
//! open connections and say nothing. Whom a connection waits for is told by [`crate::under_way`], around
//! every request.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    io,
    ops::Deref,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use actix_web::rt::net::TcpStream;
use cumulet_backend::api::Presence;
use cumulet_timeouts::ConnectionTimeout;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

use crate::limits::Limits;

/// The connections of one worker.
#[derive(Debug)]
pub(crate) struct Crowd {
    /// More than these are not kept, those aside whose request is being answered.
    most: usize,
    limits: Limits,
    next: Cell<u64>,
    members: RefCell<BTreeMap<u64, Rc<Member>>>,
}

/// Whom a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The client: for a request, or to take an answer.
    Client,
    /// The client, for the rest of a body, which has a deadline of its own.
    Body,
    /// The door: the connection stays, however long that takes.
    Work,
}

/// What others may know of a connection, and its requests' handlers too.
#[derive(Debug)]
pub(crate) struct Member {
    stage: Cell<Stage>,
    /// Whether it is no stranger's: a request of its was answered well, or has shown whose it is.
    known: Cell<bool>,
    /// How long its requests' bodies may take.
    body: Duration,
    /// Since when it waits for its client.
    since: Cell<Instant>,
    evicted: Cell<bool>,
    /// Whether the client is still there.
    presence: Presence,
    /// Its task's, while that waits.
    waker: RefCell<Option<Waker>>,
}

impl Crowd {
    /// At most so many.
    pub(crate) fn new(most: usize, limits: Limits) -> Rc<Self> {
        Rc::new(Crowd {
            most: most.max(1),
            limits,
            next: Cell::new(0),
            members: RefCell::default(),
        })
    }

    /// A place for a new connection, another one's where there is none.
    pub(crate) fn admit(&self) -> (u64, Rc<Member>) {
        let mut members = self.members.borrow_mut();
        let staying = |members: &BTreeMap<_, Rc<Member>>| {
            let staying = members.values().filter(|member| !member.evicted.get());
            staying.count()
        };
        if members.len() >= self.most && staying(&members) >= self.most {
            let waiting = members.values().filter(|member| member.may_go());
            match waiting.min_by_key(|member| (member.known.get(), member.since.get())) {
                Some(member) => member.evict(),
                None => tracing::debug!("more connections than wanted, all at work"),
            }
        }
        let id = self.next.get();
        self.next.set(id + 1);
        let member = Rc::new(Member {
            stage: Cell::new(Stage::Client),
            known: Cell::new(false),
            body: self.limits.body,
            since: Cell::new(Instant::now()),
            evicted: Cell::new(false),
            presence: Presence::of_client(),
            waker: RefCell::default(),
        });
        members.insert(id, member.clone());
        (id, member)
    }
}

impl Member {
    fn may_go(&self) -> bool {
        self.stage.get() != Stage::Work && !self.evicted.get()
    }

    fn evict(&self) {
        self.evicted.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Whether the client is still there: gone once nothing more will come from it.
    pub(crate) fn presence(&self) -> Presence {
        self.presence.clone()
    }

    /// A request's head has come: until the result is dropped, the connection waits for the door, or for the rest of
    /// the request's body.
    pub(crate) fn begin(self: &Rc<Self>) -> Begun {
        self.stage.set(Stage::Work);
        Begun(self.work())
    }

    /// The request under way.
    pub(crate) fn work(self: &Rc<Self>) -> Work {
        Work(self.clone())
    }

    /// Its client is no stranger: when connections have to go, strangers' go first.
    pub(crate) fn is_known(&self) {
        self.known.set(true);
    }
}

/// A request that has begun, until this is dropped. Whoever has it says how it goes on.
#[derive(Debug)]
pub(crate) struct Begun(Work);

impl Deref for Begun {
    type Target = Work;

    fn deref(&self) -> &Work {
        &self.0
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.0.rests();
    }
}

/// A request under way, as what answers it knows of it.
#[derive(Clone, Debug)]
pub(crate) struct Work(Rc<Member>);

impl Work {
    /// How long the request's body may take.
    pub(crate) fn body_time(&self) -> Duration {
        self.0.body
    }

    /// Nothing more of the body is there: the client is waited for, from now on if it was not before.
    pub(crate) fn waits_for_body(&self) {
        if self.0.stage.replace(Stage::Body) != Stage::Body {
            self.0.since.set(Instant::now());
        }
    }

    /// The body is waited for no longer.
    pub(crate) fn goes_on(&self) {
        if self.0.stage.get() == Stage::Body {
            self.0.stage.set(Stage::Work);
        }
    }

    /// The request is whole, and not a stranger's: the connection stays until it is answered.
    pub(crate) fn is_whole(&self) {
        self.goes_on();
        self.is_known();
    }

    /// See [`Member::is_known`].
    pub(crate) fn is_known(&self) {
        self.0.is_known();
    }

    /// Nothing is done for the request now: the connection waits like any other, and gives way to others.
    pub(crate) fn rests(&self) {
        self.0.stage.set(Stage::Client);
        self.0.since.set(Instant::now());
    }
}

/// The connection.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: TcpStream,
    timeout: ConnectionTimeout,
    crowd: Rc<Crowd>,
    id: u64,
    member: Rc<Member>,
}

impl Connection {
    pub(crate) fn new(socket: TcpStream, crowd: Rc<Crowd>) -> Self {
        let (id, member) = crowd.admit();
        let limits = cumulet_timeouts::Limits {
            idle: crowd.limits.idle,
            head: crowd.limits.head,
            stall: crowd.limits.stall,
        };
        Connection {
            socket,
            timeout: ConnectionTimeout::new(limits),
            crowd,
            id,
            member,
        }
    }

    pub(crate) fn member(&self) -> Rc<Member> {
        self.member.clone()
    }

    /// Ready when this connection has to go; called whenever it has to wait.
    fn poll_over(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        let mut waker = self.member.waker.borrow_mut();
        if !waker
            .as_ref()
            .is_some_and(|known| known.will_wake(context.waker()))
        {
            *waker = Some(context.waker().clone());
        }
        drop(waker);
        let stage = self.member.stage.get();
        if self.member.evicted.get() && stage != Stage::Work {
            return Poll::Ready(io::Error::from(io::ErrorKind::ConnectionAborted));
        }
        self.timeout.poll_over(context, stage != Stage::Client)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.crowd.members.borrow_mut().remove(&self.id);
        self.member.presence.leave();
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let (room, before) = (buffer.remaining(), buffer.filled().len());
        match Pin::new(&mut this.socket).poll_read(context, buffer) {
            Poll::Pending => this.poll_over(context).map(Err),
            read => {
                let ended = room > 0 && buffer.filled().len() == before;
                if ended || matches!(read, Poll::Ready(Err(_))) {
                    this.member.presence.leave();
                }
                this.timeout.received();
                read
            }
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        match Pin::new(&mut this.socket).poll_write(context, bytes) {
            Poll::Pending => {
                this.timeout.stalled();
                this.poll_over(context).map(Err)
            }
            written => {
                this.timeout.written();
                written
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_body_that_comes_gives_way_to_nobody_who_says_nothing() {
        for comes in [true, false] {
            let crowd = Crowd::new(2, Limits::default());
            let (_, sending) = crowd.admit();
            let work = sending.begin();
            work.waits_for_body();
            advance(SECOND).await;
            let (_, silent) = crowd.admit();
            advance(SECOND).await;
            if comes {
                work.goes_on();
                work.waits_for_body();
            }
            crowd.admit();
            assert_eq!((sending.evicted.get(), silent.evicted.get()), (!comes, comes));
        }
    }
}
