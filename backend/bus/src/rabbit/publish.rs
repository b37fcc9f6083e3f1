//! The publisher: a message counts as sent once the broker has confirmed it, and none is waited for longer
//! than the bus's deadline.

use std::sync::{Arc, atomic::Ordering};

use lapin::{
    BasicProperties, Channel, Confirmation,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};
use tokio::{sync::Mutex, time::timeout};

use super::link::Link;
use crate::{BusError, DEADLINE, counters::Tally};

/// What became of a message that was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Published {
    /// A queue has it.
    Taken,
    /// No queue is there for it.
    Nowhere,
}

/// A message to be published.
pub(super) struct Letter<'a> {
    pub(super) exchange: &'a str,
    pub(super) key: &'a str,
    pub(super) body: &'a [u8],
    pub(super) properties: BasicProperties,
    /// It is an error if no queue is there for it.
    pub(super) mandatory: bool,
}

/// Publishes over one channel, so that what is sent one after the other stays in order.
#[derive(Debug)]
pub(super) struct Publisher {
    link: Link,
    user: String,
    channel: Mutex<Option<Channel>>,
    tally: Arc<Tally>,
}

impl Publisher {
    pub(super) fn new(link: Link, user: String, tally: Arc<Tally>) -> Self {
        Publisher {
            link,
            user,
            channel: Mutex::new(None),
            tally,
        }
    }

    /// Properties that say who publishes; the broker checks it.
    pub(super) fn properties(&self) -> BasicProperties {
        BasicProperties::default()
            .with_user_id(self.user.as_str().into())
            .with_content_type("application/json".into())
            .with_delivery_mode(2)
    }

    /// Publishes a message.
    pub(super) async fn publish(&self, letter: Letter<'_>) -> Result<Published, BusError> {
        Tally::one(&self.tally.sent);
        if self.tally.is_blocked.load(Ordering::Relaxed) {
            return Err(BusError::Unavailable("the broker asks to wait".into()));
        }
        let late = |_| BusError::Unavailable("the broker did not confirm in time".into());
        let published = timeout(DEADLINE, self.attempt(letter)).await.map_err(late)??;
        Tally::one(match published {
            Published::Taken => &self.tally.confirmed,
            Published::Nowhere => &self.tally.returned,
        });
        Ok(published)
    }

    async fn attempt(&self, letter: Letter<'_>) -> Result<Published, BusError> {
        let channel = self.channel().await?;
        let options = BasicPublishOptions {
            mandatory: letter.mandatory,
            immediate: false,
        };
        let (exchange, key) = (letter.exchange.into(), letter.key.into());
        let confirm = channel
            .basic_publish(exchange, key, options, letter.body, letter.properties)
            .await
            .map_err(unavailable)?;
        match confirm.await.map_err(unavailable)? {
            Confirmation::Ack(None) => Ok(Published::Taken),
            Confirmation::Ack(Some(_)) | Confirmation::Nack(Some(_)) => Ok(Published::Nowhere),
            Confirmation::Nack(None) => Err(BusError::Unavailable("the queue is full".into())),
            Confirmation::NotRequested => Err(BusError::Unavailable("the broker confirms nothing".into())),
        }
    }

    /// The channel; a new one where the last has ended, with its connection or by an error.
    async fn channel(&self) -> Result<Channel, BusError> {
        // First, so that those who wait for the connection do so side by side.
        let connection = self.link.soon().await?;
        let mut kept = self.channel.lock().await;
        if let Some(channel) = kept.as_ref().filter(|c| c.status().connected()) {
            return Ok(channel.clone());
        }
        *kept = None;
        let channel = connection.create_channel().await.map_err(unavailable)?;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await
            .map_err(unavailable)?;
        Ok(kept.insert(channel).clone())
    }
}

pub(super) fn unavailable(error: lapin::Error) -> BusError {
    BusError::Unavailable(error.to_string())
}
