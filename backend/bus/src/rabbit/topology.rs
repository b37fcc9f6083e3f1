//! Names of queues and exchanges, and how they are declared. Everything durable is a quorum queue where
//! the broker has those, and a classic one otherwise.
//!
//! - `PREFIX.host.NAME`: commands and reads for a host; reached by its name through the default exchange,
//!   which only the control plane may write to. One consumer at a time (single active consumer): a second
//!   worker of the same name waits till the first has gone.
//! - `PREFIX.reports`, exchange and queue: what hosts say.
//! - `PREFIX.answers`, exchange; each asker has a queue of its own, for as long as it is connected.
//! - `PREFIX.wakes`, exchange; each listener has a queue of its own, likewise.
//! - `PREFIX.dead`, exchange; `PREFIX.dead.intake` takes all that the broker gives up, and what is more
//!   than late is kept in the queue `PREFIX.dead`.

use cumulet_domain::id::HostId;
use lapin::{
    Channel, ErrorKind, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    protocol::{AMQPErrorKind, AMQPSoftError},
    types::{AMQPValue, FieldTable},
};

use super::{RabbitConfig, link::Link};
use crate::DELIVERY_LIMIT;

/// How long a message may wait, in milliseconds: far longer than any command is good for.
const TTL: i32 = 600_000;

/// How long a dead letter is kept for the operator, in milliseconds.
const DEAD_TTL: i32 = 7 * 24 * 3_600_000;

/// Dead letters that are kept.
const DEAD_LENGTH: i32 = 10_000;

/// The names under one prefix.
#[derive(Clone, Debug)]
pub(super) struct Names(String);

impl Names {
    pub(super) fn new(prefix: &str) -> Self {
        Names(prefix.into())
    }

    pub(super) fn host(&self, host: &HostId) -> String {
        format!("{}.host.{host}", self.0)
    }

    pub(super) fn reports(&self) -> String {
        format!("{}.reports", self.0)
    }

    pub(super) fn answers(&self) -> String {
        format!("{}.answers", self.0)
    }

    pub(super) fn wakeups(&self) -> String {
        format!("{}.wakes", self.0)
    }

    pub(super) fn dead(&self) -> String {
        format!("{}.dead", self.0)
    }

    pub(super) fn intake(&self) -> String {
        format!("{}.dead.intake", self.0)
    }

    /// The queue of one listener on an exchange.
    pub(super) fn own(&self, exchange: &str) -> String {
        format!("{exchange}.{:032x}", rand::random::<u128>())
    }
}

/// What a durable queue is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Host,
    Reports,
    Intake,
    Dead,
}

fn arguments(config: &RabbitConfig, names: &Names, purpose: Purpose, quorum: bool) -> FieldTable {
    let mut table = FieldTable::default();
    let mut put = |key: &str, value: AMQPValue| {
        table.insert(key.into(), value);
    };
    let text = |text: &str| AMQPValue::LongString(text.into());
    if quorum {
        put("x-queue-type", text("quorum"));
    }
    if purpose == Purpose::Dead || purpose == Purpose::Intake {
        put("x-message-ttl", AMQPValue::LongInt(DEAD_TTL));
        put("x-max-length", AMQPValue::LongInt(DEAD_LENGTH));
        return table;
    }
    if quorum {
        let limit = i32::try_from(DELIVERY_LIMIT).unwrap_or(i32::MAX) - 1;
        put("x-delivery-limit", AMQPValue::LongInt(limit));
    }
    put("x-message-ttl", AMQPValue::LongInt(TTL));
    let length = i32::try_from(config.max_length).unwrap_or(i32::MAX);
    put("x-max-length", AMQPValue::LongInt(length));
    put("x-overflow", text("reject-publish"));
    put("x-dead-letter-exchange", text(&names.dead()));
    if purpose == Purpose::Host {
        put("x-single-active-consumer", AMQPValue::Boolean(true));
    }
    table
}

/// Declares a durable queue. The channel that comes back is the one that is still good: a broker that does
/// not know quorum queues, or has the queue as a classic one, closes the first.
pub(super) async fn queue(
    link: &Link,
    config: &RabbitConfig,
    channel: Channel,
    name: &str,
    purpose: Purpose,
) -> lapin::Result<(Channel, u32)> {
    let names = Names::new(&config.prefix);
    let options = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    let table = arguments(config, &names, purpose, config.quorum);
    match channel.queue_declare(name.into(), options, table).await {
        Ok(queue) => Ok((channel, queue.consumer_count())),
        Err(error) if config.quorum && may_be_old(&error) => {
            tracing::warn!(queue = name, %error, "no quorum queue; a classic one is used");
            let channel = link.channel().await?;
            let table = arguments(config, &names, purpose, false);
            let queue = channel.queue_declare(name.into(), options, table).await?;
            Ok((channel, queue.consumer_count()))
        }
        Err(error) => Err(error),
    }
}

fn may_be_old(error: &lapin::Error) -> bool {
    match error.kind() {
        ErrorKind::ProtocolError(error) => match error.kind() {
            AMQPErrorKind::Soft(soft) => *soft == AMQPSoftError::PRECONDITIONFAILED,
            AMQPErrorKind::Hard(_) => true,
        },
        _ => false,
    }
}

/// Declares a durable exchange.
pub(super) async fn exchange(channel: &Channel, name: &str, kind: ExchangeKind) -> lapin::Result<()> {
    let options = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    channel
        .exchange_declare(name.into(), kind, options, FieldTable::default())
        .await
}

/// Binds a queue.
pub(super) async fn bind(channel: &Channel, queue: &str, exchange: &str, key: &str) -> lapin::Result<()> {
    let (options, none) = (QueueBindOptions::default(), FieldTable::default());
    channel
        .queue_bind(queue.into(), exchange.into(), key.into(), options, none)
        .await
}

/// Declares a queue that goes away with its listener, bound to an exchange by its own name.
pub(super) async fn own_queue(channel: &Channel, name: &str, exchange: &str, room: i32) -> lapin::Result<()> {
    let options = QueueDeclareOptions {
        exclusive: true,
        auto_delete: true,
        ..QueueDeclareOptions::default()
    };
    let mut table = FieldTable::default();
    table.insert("x-max-length".into(), AMQPValue::LongInt(room));
    table.insert("x-message-ttl".into(), AMQPValue::LongInt(10_000));
    channel.queue_declare(name.into(), options, table).await?;
    bind(channel, name, exchange, name).await
}
