//! Consumers: a task for each mailbox declares its queue, consumes it, and does so again whenever the
//! connection, the channel or the queue is lost. The mailbox outlives all of them.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::StreamExt;
use lapin::{
    Channel,
    message::Delivery as Raw,
    options::{BasicConsumeOptions, BasicQosOptions, BasicRejectOptions},
    types::{AMQPValue, FieldTable},
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::sleep,
};

use super::{
    Shared,
    receipt::{Receipts, close},
};
use crate::{counters::Tally, mailbox::Source};

/// The pause after a failure other than of the connection.
const AGAIN: Duration = Duration::from_millis(500);

/// What is consumed, and what is made of it.
#[async_trait]
pub(super) trait Subject: Send + Sync + 'static {
    /// What the mailbox hands out.
    type Item: Send + 'static;

    /// Declares what is consumed; the channel to go on with, and the queue's name.
    async fn declare(&self, shared: &Shared, channel: Channel) -> lapin::Result<(Channel, String)>;

    /// Messages that may be out at a time; none where they need no acknowledgement.
    fn prefetch(&self, shared: &Shared) -> Option<u16>;

    /// Reads a message; what it is refused for, where it is.
    fn read(&self, shared: &Arc<Shared>, raw: Raw, receipts: &Receipts) -> Result<Self::Item, Refusal>;
}

/// A message that can't be taken, and why.
pub(super) struct Refusal {
    pub(super) raw: Box<Raw>,
    pub(super) why: String,
}

/// The mailbox's end.
pub(super) struct Mailbox<T> {
    incoming: mpsc::Receiver<T>,
    over: watch::Receiver<bool>,
    /// Stops the task when the mailbox is dropped.
    _stop: watch::Sender<bool>,
}

/// Ends a mailbox from outside: another takes over.
pub(super) struct Ender {
    over: watch::Sender<bool>,
    task: Option<JoinHandle<()>>,
}

impl Ender {
    /// Returns when all that the mailbox had and did not acknowledge is back in its queue.
    pub(super) async fn end(mut self) {
        self.over.send_replace(true);
        if let Some(task) = self.task.take() {
            drop(task.await);
        }
    }
}

/// Consumes from now on. Returns when the first attempt has succeeded, or with its error.
pub(super) async fn open<S: Subject>(
    shared: Arc<Shared>,
    subject: S,
) -> lapin::Result<(Mailbox<S::Item>, Ender)> {
    let first = Consuming::begin(&shared, &subject).await?;
    // All that may be out: of a mailbox with room for one, a batch would always be one.
    let room = subject
        .prefetch(&shared)
        .map_or(1, |count| usize::from(count).max(1));
    let (outgoing, incoming) = mpsc::channel(room);
    let (stop, stopped) = watch::channel(false);
    let (over_sender, over) = watch::channel(false);
    let ended = over.clone();
    let task = tokio::spawn(run(shared, subject, first, outgoing, stopped, ended));
    let mailbox = Mailbox {
        incoming,
        over,
        _stop: stop,
    };
    let ender = Ender {
        over: over_sender,
        task: Some(task),
    };
    Ok((mailbox, ender))
}

/// A consumer that stands.
struct Consuming {
    channel: Channel,
    consumer: lapin::Consumer,
    receipts: Receipts,
    queue: String,
}

impl Consuming {
    async fn begin<S: Subject>(shared: &Shared, subject: &S) -> lapin::Result<Consuming> {
        let channel = shared.incoming.channel().await?;
        let (channel, queue) = subject.declare(shared, channel).await?;
        let prefetch = subject.prefetch(shared);
        if let Some(count) = prefetch {
            channel.basic_qos(count, BasicQosOptions::default()).await?;
        }
        let options = BasicConsumeOptions {
            no_ack: prefetch.is_none(),
            ..BasicConsumeOptions::default()
        };
        let consumer = channel
            .basic_consume(queue.as_str().into(), "".into(), options, FieldTable::default())
            .await?;
        Ok(Consuming {
            channel,
            consumer,
            receipts: Receipts::start(),
            queue,
        })
    }
}

async fn run<S: Subject>(
    shared: Arc<Shared>,
    subject: S,
    first: Consuming,
    outgoing: mpsc::Sender<S::Item>,
    mut stopped: watch::Receiver<bool>,
    mut over: watch::Receiver<bool>,
) {
    let mut consuming = first;
    // A sender that has gone is a mailbox that has gone.
    let gone = async {
        tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => {}
            _ = over.wait_for(|over| *over) => {}
        }
    };
    tokio::pin!(gone);
    loop {
        tokio::select! {
            biased;
            () = &mut gone => return close(&consuming.channel, &consuming.receipts).await,
            () = pump(&shared, &subject, &mut consuming, &outgoing) => {}
        }
        tracing::warn!(queue = consuming.queue, "a consumer has ended; it is made again");
        let begun = tokio::select! {
            biased;
            () = &mut gone => return close(&consuming.channel, &consuming.receipts).await,
            begun = begin_again(&shared, &subject, &consuming) => begun,
        };
        consuming = begun;
        tracing::info!(queue = consuming.queue, "consumes again");
    }
}

async fn begin_again<S: Subject>(shared: &Shared, subject: &S, old: &Consuming) -> Consuming {
    // A queue that was deleted ends the consumer and leaves the channel.
    close(&old.channel, &old.receipts).await;
    loop {
        match Consuming::begin(shared, subject).await {
            Ok(consuming) => return consuming,
            Err(error) => tracing::debug!(%error, "can't consume yet"),
        }
        sleep(AGAIN).await;
    }
}

/// Hands out what comes, until the consumer ends.
async fn pump<S: Subject>(
    shared: &Arc<Shared>,
    subject: &S,
    consuming: &mut Consuming,
    outgoing: &mpsc::Sender<S::Item>,
) {
    while let Some(next) = consuming.consumer.next().await {
        let raw = match next {
            Ok(raw) => raw,
            Err(error) => return tracing::debug!(%error, "the consumer has failed"),
        };
        if raw.redelivered {
            Tally::one(&shared.tally.redelivered);
        }
        match subject.read(shared, raw, &consuming.receipts) {
            Ok(item) => {
                if outgoing.send(item).await.is_err() {
                    return;
                }
            }
            Err(refusal) => {
                let acknowledges = subject.prefetch(shared).is_some();
                refuse(shared, &consuming.queue, acknowledges, refusal).await;
            }
        }
    }
}

/// A message that nobody can take goes to the dead letters, and is no reason to stop.
async fn refuse(shared: &Shared, queue: &str, acknowledges: bool, refusal: Refusal) {
    Tally::one(&shared.tally.refused);
    let Refusal { raw, why } = refusal;
    let user = raw.properties.user_id().as_ref().map(ToString::to_string);
    tracing::error!(
        queue,
        ?user,
        bytes = raw.data.len(),
        why,
        "a message is refused: a dead letter"
    );
    if !acknowledges {
        return;
    }
    let options = BasicRejectOptions { requeue: false };
    if let Err(error) = raw.acker.reject(options).await {
        tracing::debug!(%error, "it comes again");
    }
}

/// How often a delivery was handed out, as far as the broker says, this time included.
pub(super) fn times(raw: &Raw) -> u32 {
    let headers = raw.properties.headers().as_ref();
    let counted = headers.and_then(|table| table.inner().get("x-delivery-count"));
    let before = match counted {
        Some(AMQPValue::LongLongInt(n)) => u32::try_from(*n).unwrap_or(u32::MAX),
        Some(AMQPValue::LongInt(n)) => u32::try_from(*n).unwrap_or(0),
        Some(AMQPValue::LongUInt(n)) => *n,
        Some(AMQPValue::ShortShortUInt(n)) => u32::from(*n),
        Some(AMQPValue::ShortShortInt(n)) => u32::try_from(*n).unwrap_or(0),
        Some(AMQPValue::ShortInt(n)) => u32::try_from(*n).unwrap_or(0),
        // A classic queue only says that it was handed out before.
        _ => u32::from(raw.redelivered),
    };
    before.saturating_add(1)
}

#[async_trait]
impl<T: Send + 'static> Source<T> for Mailbox<T> {
    async fn take(&mut self, limit: usize, into: &mut Vec<T>) {
        if *self.over.borrow() {
            return;
        }
        tokio::select! {
            biased;
            _ = self.over.wait_for(|over| *over) => {}
            _ = self.incoming.recv_many(into, limit) => {}
        }
    }
}
