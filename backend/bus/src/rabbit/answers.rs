//! Replies to reads. The asker has a reply queue for as long as it is connected; a worker may publish to the
//! exchange before it, and the broker vouches for the sender.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use cumulet_domain::{id::HostId, message::Query};
use lapin::{BasicProperties, Channel, ExchangeKind, message::Delivery as Raw};
use tokio::{
    sync::{OnceCell, oneshot},
    time::timeout,
};

use super::{
    Shared,
    consume::{self, Mailbox, Refusal, Subject},
    envelope::{self, Kind},
    publish::{Letter, Published, unavailable},
    receipt::Receipts,
    topology,
};
use crate::{BusError, DEADLINE, mailbox::Source};

/// An answer's size at the most.
const LIMIT: usize = 8 << 20;

/// Answers that wait for their asker at the most.
const ROOM: i32 = 1000;

type Answer = Result<Vec<u8>, BusError>;

/// The questions of this process that wait.
#[derive(Default)]
pub(super) struct Asker {
    waiting: Arc<Mutex<Waiting>>,
    queue: OnceCell<String>,
}

type Waiting = HashMap<String, (HostId, oneshot::Sender<Answer>)>;

/// Forgets a question when it is over.
struct Asked<'a>(&'a Mutex<Waiting>, String);

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.remove(&self.1);
    }
}

impl Asker {
    /// Asks a host.
    pub(super) async fn ask(&self, shared: &Arc<Shared>, host: &HostId, query: &Query) -> Answer {
        let late = |_| BusError::Unavailable(format!("host {host} did not answer in {DEADLINE:?}"));
        timeout(DEADLINE, self.asked(shared, host, query))
            .await
            .map_err(late)?
    }

    async fn asked(&self, shared: &Arc<Shared>, host: &HostId, query: &Query) -> Answer {
        let queue = self.queue.get_or_try_init(|| self.listen(shared)).await?;
        let body = envelope::write(Kind::Query, envelope::FIRST, query)
            .map_err(|e| BusError::Unavailable(e.to_string()))?;
        let (sender, answer) = oneshot::channel();
        let correlation = format!("{:032x}", rand::random::<u128>());
        let asked = Asked(&self.waiting, correlation.clone());
        self.expect(correlation.clone(), host.clone(), sender);
        let properties = shared
            .publisher
            .properties()
            .with_expiration(DEADLINE.as_millis().to_string().into())
            .with_reply_to(queue.as_str().into())
            .with_correlation_id(correlation.into());
        let letter = Letter {
            exchange: "",
            key: &shared.names.host(host),
            body: &body,
            properties,
            mandatory: true,
        };
        if shared.publisher.publish(letter).await? == Published::Nowhere {
            return Err(BusError::NoSuchHost(host.clone()));
        }
        let answered = answer.await;
        drop(asked);
        answered.map_err(|_| BusError::Unavailable("the question was forgotten".into()))?
    }

    fn expect(&self, correlation: String, host: HostId, sender: oneshot::Sender<Answer>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.insert(correlation, (host, sender));
    }

    async fn listen(&self, shared: &Arc<Shared>) -> Result<String, BusError> {
        let queue = shared.names.own(&shared.names.answers());
        let subject = Answers {
            queue: queue.clone(),
            waiting: self.waiting.clone(),
        };
        let opened = consume::open(shared.clone(), subject).await;
        let (mut mailbox, ender) = opened.map_err(unavailable)?;
        tokio::spawn(async move {
            // Answers are given to the asker as they are read; nothing is handed out.
            let _ender = ender;
            let mut none = Vec::new();
            loop {
                Mailbox::<()>::take(&mut mailbox, 1, &mut none).await;
                if none.pop().is_none() {
                    return;
                }
            }
        });
        Ok(queue)
    }
}

/// The answers that come.
struct Answers {
    queue: String,
    waiting: Arc<Mutex<Waiting>>,
}

#[async_trait]
impl Subject for Answers {
    type Item = ();

    async fn declare(&self, shared: &Shared, channel: Channel) -> lapin::Result<(Channel, String)> {
        let exchange = shared.names.answers();
        topology::exchange(&channel, &exchange, ExchangeKind::Direct).await?;
        topology::own_queue(&channel, &self.queue, &exchange, ROOM).await?;
        Ok((channel, self.queue.clone()))
    }

    fn prefetch(&self, _: &Shared) -> Option<u16> {
        None
    }

    fn read(&self, shared: &Arc<Shared>, raw: Raw, _: &Receipts) -> Result<(), Refusal> {
        let correlation = raw.properties.correlation_id().as_ref().map(ToString::to_string);
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((correlation, (host, sender))) = correlation.and_then(|c| waiting.remove_entry(&c)) else {
            tracing::debug!("an answer came after its question was given up");
            return Ok(());
        };
        if !shared.speaks_for(&raw, &host) {
            waiting.insert(correlation, (host, sender));
            let why = "somebody else answers for the host".into();
            return Err(Refusal {
                raw: Box::new(raw),
                why,
            });
        }
        drop(waiting);
        let refused = raw
            .properties
            .kind()
            .as_ref()
            .is_some_and(|kind| kind.as_str() == REFUSAL);
        drop(sender.send(if refused {
            Err(BusError::Refused(String::from_utf8_lossy(&raw.data).into_owned()))
        } else {
            Ok(raw.data)
        }));
        Ok(())
    }
}

/// The type of an answer that is a refusal.
const REFUSAL: &str = "refusal";

/// Sends the answer to a read, when there is one.
pub(super) async fn answer(
    shared: Arc<Shared>,
    reply_to: String,
    properties: BasicProperties,
    answer: oneshot::Receiver<Answer>,
) {
    let Ok(answer) = answer.await else { return };
    let (body, kind) = match answer {
        Ok(body) if body.len() <= LIMIT => (body, "answer"),
        Ok(_) => (b"the answer is too long".to_vec(), REFUSAL),
        Err(error) => (error.to_string().into_bytes(), REFUSAL),
    };
    let mut own = shared
        .publisher
        .properties()
        .with_type(kind.into())
        .with_content_type("application/octet-stream".into())
        .with_delivery_mode(1);
    if let Some(correlation) = properties.correlation_id() {
        own = own.with_correlation_id(correlation.clone());
    }
    let letter = Letter {
        exchange: &shared.names.answers(),
        key: &reply_to,
        body: &body,
        properties: own,
        mandatory: false,
    };
    if let Err(error) = shared.publisher.publish(letter).await {
        tracing::debug!(%error, "an answer is lost");
    }
}
