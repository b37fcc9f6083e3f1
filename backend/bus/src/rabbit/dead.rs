//! The dead-letter queue. The broker gives up what no consumer could take, and what has only become too late;
//! one of the conductors reads each letter, counts and logs what is more than late, and keeps it for the
//! operator.

use std::sync::Arc;

use async_trait::async_trait;
use lapin::{
    Channel, ExchangeKind,
    message::Delivery as Raw,
    options::{BasicAckOptions, BasicNackOptions},
    types::{AMQPValue, FieldTable},
};
use tokio::time::{Duration, sleep};

use super::{
    Shared,
    consume::{Mailbox, Refusal, Subject},
    publish::Letter,
    receipt::Receipts,
    topology::{self, Purpose},
};
use crate::{counters::Tally, mailbox::Source};

/// Dead letters that are looked at at a time.
const PREFETCH: u16 = 16;

/// The pause before one that could not be kept is looked at again.
const AGAIN: Duration = Duration::from_secs(5);

/// What the broker has given up.
pub(super) struct GivenUp;

#[async_trait]
impl Subject for GivenUp {
    type Item = Raw;

    async fn declare(&self, shared: &Shared, channel: Channel) -> lapin::Result<(Channel, String)> {
        let (dead, intake) = (shared.names.dead(), shared.names.intake());
        topology::exchange(&channel, &dead, ExchangeKind::Fanout).await?;
        let (config, link) = (&shared.config, &shared.incoming);
        let (channel, _) = topology::queue(link, config, channel, &dead, Purpose::Dead).await?;
        let (channel, _) = topology::queue(link, config, channel, &intake, Purpose::Intake).await?;
        topology::bind(&channel, &intake, &dead, "").await?;
        Ok((channel, intake))
    }

    fn prefetch(&self, _: &Shared) -> Option<u16> {
        Some(PREFETCH)
    }

    fn read(&self, _: &Arc<Shared>, raw: Raw, _: &Receipts) -> Result<Raw, Refusal> {
        Ok(raw)
    }
}

/// Looks at what the broker gives up, for as long as there is a mailbox for it.
pub(super) async fn look(shared: Arc<Shared>, mut mailbox: Mailbox<Raw>) {
    let mut some = Vec::new();
    loop {
        mailbox.take(usize::from(PREFETCH), &mut some).await;
        if some.is_empty() {
            return;
        }
        for raw in some.drain(..) {
            let kept = one(&shared, &raw).await;
            let settled = if kept {
                raw.acker.ack(BasicAckOptions::default()).await
            } else {
                sleep(AGAIN).await;
                let options = BasicNackOptions {
                    multiple: false,
                    requeue: true,
                };
                raw.acker.nack(options).await
            };
            if let Err(error) = settled {
                tracing::debug!(%error, "a dead letter is looked at again");
            }
        }
    }
}

/// True when nothing is left to be done about it.
async fn one(shared: &Shared, raw: &Raw) -> bool {
    let death = Death::of(raw);
    if death.reason == "expired" || death.reason == "maxlen" {
        tracing::debug!(queue = death.queue, "a message came too late");
        return true;
    }
    let Some(headers) = raw.properties.headers().clone() else {
        return true;
    };
    let properties = shared.publisher.properties().with_headers(headers);
    let letter = Letter {
        exchange: "",
        key: &shared.names.dead(),
        body: &raw.data,
        properties,
        mandatory: true,
    };
    if let Err(error) = shared.publisher.publish(letter).await {
        tracing::debug!(%error, "a dead letter can't be kept yet");
        return false;
    }
    Tally::one(&shared.tally.dead);
    let Death { queue, reason } = death;
    tracing::error!(queue, reason, bytes = raw.data.len(), "a dead letter");
    true
}

/// What the broker says of a message that it has given up.
#[derive(Debug, Default, PartialEq, Eq)]
struct Death {
    queue: String,
    reason: String,
}

impl Death {
    fn of(raw: &Raw) -> Death {
        let headers = raw.properties.headers().as_ref();
        let died = headers.and_then(|table| table.inner().get("x-death"));
        match died
            .and_then(AMQPValue::as_array)
            .and_then(|all| all.as_slice().first())
        {
            Some(AMQPValue::FieldTable(newest)) => Death {
                queue: text(newest, "queue"),
                reason: text(newest, "reason"),
            },
            _ => Death::default(),
        }
    }
}

fn text(table: &FieldTable, key: &str) -> String {
    match table.inner().get(key) {
        Some(AMQPValue::LongString(text)) => text.to_string(),
        _ => String::new(),
    }
}
