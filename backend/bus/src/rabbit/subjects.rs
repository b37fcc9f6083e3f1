//! The subjects of mailboxes: commands and reads for a host, reports, wake-ups, and dead letters; for each
//! the queue, its consumer's options and the type that is read from it.

use std::sync::Arc;

use async_trait::async_trait;
use cumulet_domain::{id::HostId, message::Report};
use lapin::{Channel, ExchangeKind, message::Delivery as Raw, options::BasicAckOptions};
use tokio::sync::oneshot;

use super::{
    Shared, answers,
    consume::{Refusal, Subject, times},
    envelope::{self, Kind, Unreadable},
    receipt::Receipts,
    topology::{self, Purpose},
};
use crate::{Delivered, Delivery, Reply, Wakeup};

/// Taps that wait for one listener at the most; more say no more.
const WAKEUPS: i32 = 16;

fn refused(raw: Raw, why: impl ToString) -> Refusal {
    let why = why.to_string();
    Refusal {
        raw: Box::new(raw),
        why,
    }
}

/// A host's deliveries.
pub(super) struct ForHost(pub(super) HostId);

#[async_trait]
impl Subject for ForHost {
    type Item = Delivery;

    async fn declare(&self, shared: &Shared, channel: Channel) -> lapin::Result<(Channel, String)> {
        let name = shared.names.host(&self.0);
        let declared = topology::queue(&shared.incoming, &shared.config, channel, &name, Purpose::Host).await;
        let (channel, consumers) = declared?;
        if consumers > 0 {
            let host = &self.0;
            tracing::warn!(%host, "another worker listens for this host; this one waits till it has gone");
        }
        Ok((channel, name))
    }

    fn prefetch(&self, shared: &Shared) -> Option<u16> {
        Some(shared.config.prefetch)
    }

    fn read(&self, shared: &Arc<Shared>, raw: Raw, receipts: &Receipts) -> Result<Delivery, Refusal> {
        match envelope::kind(&raw.data) {
            Ok(Kind::Command) => match envelope::body(&raw.data) {
                Ok(command) => {
                    let (times, receipt) = (times(&raw), receipts.of(raw.acker));
                    Ok(Delivery::Command(Delivered::new(command, 0, times, receipt)))
                }
                Err(why) => Err(refused(raw, why)),
            },
            Ok(Kind::Query) => {
                let query = match envelope::body(&raw.data) {
                    Ok(query) => query,
                    Err(why) => return Err(refused(raw, why)),
                };
                let Some(reply_to) = raw.properties.reply_to().as_ref().map(ToString::to_string) else {
                    return Err(refused(raw, "a question without anybody to answer"));
                };
                let (sender, receiver) = oneshot::channel();
                let (shared, properties) = (shared.clone(), raw.properties);
                tokio::spawn(async move {
                    // A read never comes again.
                    if let Err(error) = raw.acker.ack(BasicAckOptions::default()).await {
                        tracing::debug!(%error, "a read was not acknowledged");
                    }
                    answers::answer(shared, reply_to, properties, receiver).await;
                });
                Ok(Delivery::Query(query, Reply(sender)))
            }
            Ok(other) => Err(refused(raw, Unreadable::Kind(other.name().into()))),
            Err(why) => Err(refused(raw, why)),
        }
    }
}

/// The conductor's reports.
pub(super) struct Reports;

#[async_trait]
impl Subject for Reports {
    type Item = Delivered<Report>;

    async fn declare(&self, shared: &Shared, channel: Channel) -> lapin::Result<(Channel, String)> {
        let name = shared.names.reports();
        topology::exchange(&channel, &name, ExchangeKind::Fanout).await?;
        // Workers answer reads, also where nobody has asked yet.
        topology::exchange(&channel, &shared.names.answers(), ExchangeKind::Direct).await?;
        let (config, link) = (&shared.config, &shared.incoming);
        let (channel, _) = topology::queue(link, config, channel, &name, Purpose::Reports).await?;
        topology::bind(&channel, &name, &name, "").await?;
        Ok((channel, name))
    }

    fn prefetch(&self, shared: &Shared) -> Option<u16> {
        Some(shared.config.prefetch)
    }

    fn read(&self, shared: &Arc<Shared>, raw: Raw, receipts: &Receipts) -> Result<Self::Item, Refusal> {
        let report: Report = match envelope::read(Kind::Report, &raw.data) {
            Ok(report) => report,
            Err(why) => return Err(refused(raw, why)),
        };
        if !shared.speaks_for(&raw, &report.host) {
            let why = format!("its sender may not speak for host {}", report.host);
            return Err(refused(raw, why));
        }
        let (times, receipt) = (times(&raw), receipts.of(raw.acker));
        Ok(Delivered::new(report, 0, times, receipt))
    }
}

/// Taps, each for everybody who listens.
pub(super) struct Taps(pub(super) String);

#[async_trait]
impl Subject for Taps {
    type Item = Wakeup;

    async fn declare(&self, shared: &Shared, channel: Channel) -> lapin::Result<(Channel, String)> {
        let exchange = shared.names.wakeups();
        topology::exchange(&channel, &exchange, ExchangeKind::Fanout).await?;
        topology::own_queue(&channel, &self.0, &exchange, WAKEUPS).await?;
        Ok((channel, self.0.clone()))
    }

    fn prefetch(&self, _: &Shared) -> Option<u16> {
        None
    }

    fn read(&self, _: &Arc<Shared>, raw: Raw, _: &Receipts) -> Result<Wakeup, Refusal> {
        envelope::read(Kind::Wakeup, &raw.data).map_err(|why| refused(raw, why))
    }
}
