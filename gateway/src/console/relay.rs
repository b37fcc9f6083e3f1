//! The relay of one console: the request, the connection to the host, and bytes both ways until either side
//! ends.

use std::{cell::Cell, convert::Infallible, io, rc::Rc, sync::Arc, time::Duration};

use actix_codec::{Decoder, Encoder, Framed};
use actix_http::{
    Request, RequestHead, Response,
    body::BodySize,
    h1,
    ws::{self, CloseCode, CloseReason, Frame, Item, Message},
};
use bytes::{Bytes, BytesMut};
use cumulet_domain::console::{ConsoleRefusal, MAX_LINE};
use futures::{SinkExt as _, Stream, StreamExt as _};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader},
    sync::{OwnedSemaphorePermit, mpsc},
    time::{Instant, MissedTickBehavior, timeout},
};

use super::{HostStream, Shared, request, request::Refusal};
use crate::connection::Member;

/// How long the way to a host may take, its answer included.
const CONNECT: Duration = Duration::from_secs(10);

/// How long a client may take nothing of what it is sent, or a host of what is typed.
const STALL: Duration = Duration::from_secs(30);

/// How often a client is asked whether it is there, and after how much silence it is not.
const PING: Duration = Duration::from_secs(20);
const GONE: Duration = Duration::from_secs(70);

/// The largest frame of a client.
const FRAME: usize = 64 * 1024;

/// What is read of a host at once.
const PIECE: usize = 16 * 1024;

/// Answers to pings that wait; a client that asks for more has them dropped.
const PONGS: usize = 8;

type Opened = (Response<()>, BufReader<Box<dyn HostStream>>, OwnedSemaphorePermit);

/// A request that asks for an upgrade, to its end.
pub(super) async fn upgrade<T>(
    shared: Arc<Shared>,
    request: Request,
    mut framed: Framed<T, h1::Codec>,
) -> Result<(), Infallible>
where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
{
    // While it is seen to, and while it is open, the connection's clock stands: there are others here.
    let work = request.conn_data::<Rc<Member>>().map(Member::begin);
    if let Some(work) = &work {
        work.is_whole();
    }
    match open(&shared, request.head()).await {
        Err(refusal) => {
            tracing::info!(reason = refusal.text(), "a console is not opened");
            drop(work);
            drop(timeout(STALL, refuse(&mut framed, refusal)).await);
        }
        Ok((response, host, permit)) => {
            drop(request);
            let answer = framed.send((response, BodySize::None).into());
            if matches!(timeout(STALL, answer).await, Ok(Ok(()))) {
                let framed = framed.replace_codec(Frames(ws::Codec::new().max_size(FRAME)));
                relay(framed, host, shared.door.limits.idle).await;
            }
            drop(permit);
        }
    }
    Ok(())
}

/// Verifies a request's token and goes to the host that it is for.
async fn open(shared: &Shared, head: &RequestHead) -> Result<Opened, Refusal> {
    let (token, response) = request::look(head)?;
    let now = shared.door.clock.now();
    let grant = shared.door.verifier.verify(token, now);
    let grant = grant.map_err(Refusal::Console)?;
    let permit = shared.sessions.clone().try_acquire_owned();
    let permit = permit.map_err(|_| Refusal::Full)?;
    let reached = timeout(CONNECT, reach(shared, &grant.address, token)).await;
    let reached = reached.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let (host, answer) = reached.map_err(|error| {
        tracing::warn!(instance = %grant.instance, address = grant.address, %error, "the host of a console is away");
        Refusal::Console(ConsoleRefusal::Away)
    })?;
    answer.map_err(Refusal::Console)?;
    tracing::info!(instance = %grant.instance, kind = %grant.kind, "a console is open");
    Ok((response, host, permit))
}

type Reached = (BufReader<Box<dyn HostStream>>, Result<(), ConsoleRefusal>);

/// Connects to a host and shows it the token.
async fn reach(shared: &Shared, address: &str, token: &str) -> io::Result<Reached> {
    let mut host = shared.door.hosts.connect(address).await?;
    host.write_all(format!("{token}\n").as_bytes()).await?;
    host.flush().await?;
    let (mut host, mut line) = (BufReader::with_capacity(PIECE, host), Vec::new());
    (&mut host)
        .take(MAX_LINE as u64)
        .read_until(b'\n', &mut line)
        .await?;
    let line = line.strip_suffix(b"\n").unwrap_or_default();
    Ok((host, ConsoleRefusal::read(&String::from_utf8_lossy(line))))
}

async fn refuse<T>(framed: &mut Framed<T, h1::Codec>, refusal: Refusal) -> io::Result<()>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let text = Bytes::from(format!("{}\n", refusal.text()));
    let size = BodySize::Sized(text.len() as u64);
    framed.send((refusal.response(), size).into()).await?;
    for piece in [Some(text), None] {
        let chunk: h1::Message<(Response<()>, BodySize)> = h1::Message::Chunk(piece);
        framed.send(chunk).await?;
    }
    framed.io_mut().shutdown().await
}

/// Frames of a WebSocket. The codec below gathers all of a frame before it finds it too large.
struct Frames(ws::Codec);

impl Decoder for Frames {
    type Item = Frame;
    type Error = ws::ProtocolError;

    fn decode(&mut self, source: &mut BytesMut) -> Result<Option<Frame>, ws::ProtocolError> {
        // RFC 6455, section 5.2: only this form has room for more than a frame may have here.
        const LONG: u8 = 127;
        if let [_, form, length @ ..] = &source[..]
            && form & 0x7f == LONG
            && let Some(length) = length.first_chunk()
            && u64::from_be_bytes(*length) > FRAME as u64
        {
            return Err(ws::ProtocolError::Overflow);
        }
        self.0.decode(source)
    }
}

impl Encoder<Message> for Frames {
    type Error = ws::ProtocolError;

    fn encode(&mut self, message: Message, target: &mut BytesMut) -> Result<(), ws::ProtocolError> {
        self.0.encode(message, target)
    }
}

/// When something was last heard or sent.
struct Times {
    heard: Cell<Instant>,
    bytes: Cell<Instant>,
}

/// Bytes both ways. Each way waits for its own taker only, so that a guest that echoes can't stand still
/// with both sides waiting for each other.
async fn relay<T>(framed: Framed<T, Frames>, host: BufReader<Box<dyn HostStream>>, idle: Duration)
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let now = Instant::now();
    let times = Times {
        heard: Cell::new(now),
        bytes: Cell::new(now),
    };
    let (mut sink, frames) = framed.split();
    let (from_host, to_host) = tokio::io::split(host);
    let (pong, pongs) = mpsc::channel(PONGS);
    let code = tokio::select! {
        code = typed(frames, to_host, &times, &pong) => code,
        code = shown(from_host, &mut sink, pongs, &times, idle) => code,
    };
    let close = Message::Close(Some(CloseReason {
        code,
        description: None,
    }));
    drop(timeout(STALL, sink.send(close)).await);
    drop(timeout(STALL, sink.close()).await);
}

/// What the client sends, to the host.
async fn typed(
    mut frames: impl Stream<Item = Result<Frame, ws::ProtocolError>> + Unpin,
    mut host: impl AsyncWrite + Unpin,
    times: &Times,
    pong: &mpsc::Sender<Bytes>,
) -> CloseCode {
    while let Some(frame) = frames.next().await {
        let now = Instant::now();
        times.heard.set(now);
        let bytes = match frame {
            Ok(Frame::Binary(bytes) | Frame::Text(bytes)) => bytes,
            Ok(Frame::Continuation(
                Item::FirstText(bytes) | Item::FirstBinary(bytes) | Item::Continue(bytes) | Item::Last(bytes),
            )) => bytes,
            Ok(Frame::Ping(bytes)) => {
                // Too many are dropped.
                drop(pong.try_send(bytes));
                continue;
            }
            Ok(Frame::Pong(_)) => continue,
            Ok(Frame::Close(_)) => return CloseCode::Normal,
            Err(ws::ProtocolError::Overflow) => return CloseCode::Size,
            Err(_) => return CloseCode::Protocol,
        };
        times.bytes.set(now);
        let written = async {
            host.write_all(&bytes).await?;
            host.flush().await
        };
        if !matches!(timeout(STALL, written).await, Ok(Ok(()))) {
            return CloseCode::Away;
        }
    }
    CloseCode::Normal
}

/// What the host sends, to the client; and whether it is still there.
async fn shown(
    mut host: impl AsyncRead + Unpin,
    sink: &mut (impl futures::Sink<Message, Error = ws::ProtocolError> + Unpin),
    mut pongs: mpsc::Receiver<Bytes>,
    times: &Times,
    idle: Duration,
) -> CloseCode {
    let mut piece = vec![0; PIECE];
    let mut ping = tokio::time::interval(PING.min(idle));
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ping.tick().await;
    loop {
        let message = tokio::select! {
            read = host.read(&mut piece) => match read {
                Ok(0) => return CloseCode::Normal,
                Ok(count) => {
                    times.bytes.set(Instant::now());
                    Message::Binary(Bytes::copy_from_slice(&piece[..count]))
                }
                Err(_) => return CloseCode::Away,
            },
            Some(bytes) = pongs.recv() => Message::Pong(bytes),
            _ = ping.tick() => {
                if times.heard.get().elapsed() >= GONE || times.bytes.get().elapsed() >= idle {
                    return CloseCode::Away;
                }
                Message::Ping(Bytes::new())
            }
        };
        if !matches!(timeout(STALL, sink.send(message)).await, Ok(Ok(()))) {
            return CloseCode::Away;
        }
    }
}
