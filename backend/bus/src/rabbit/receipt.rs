//! Acknowledgements on their way to the broker. They are given where nothing can be awaited, so a task sends
//! them.

use std::sync::Arc;

use lapin::{
    Acker, Channel,
    options::{BasicAckOptions, BasicNackOptions},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Duration, sleep, timeout},
};

/// How long receipts that are on their way are waited for at the end of a channel.
const FLUSH: Duration = Duration::from_secs(1);

use crate::delivered::{DELIVERY_LIMIT, Origin, pause};

/// What is to be told of one delivery.
enum Told {
    Acked(Acker),
    Back(Acker, u32),
    /// All before it has been sent.
    Flush(oneshot::Sender<()>),
}

/// Where the receipts of one channel go.
#[derive(Clone)]
pub(super) struct Receipts(mpsc::UnboundedSender<Told>);

impl Receipts {
    /// Sends receipts until the channel has ended or nobody can give one any more.
    pub(super) fn start() -> Receipts {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(told) = receiver.recv().await {
                match told {
                    Told::Acked(acker) => log(acker.ack(BasicAckOptions::default()).await),
                    Told::Flush(done) => drop(done.send(())),
                    Told::Back(acker, times) => {
                        // In a task of its own: others are not to wait for this pause.
                        tokio::spawn(async move {
                            let last = times >= DELIVERY_LIMIT;
                            if !last {
                                sleep(pause(times)).await;
                            }
                            let options = BasicNackOptions {
                                multiple: false,
                                requeue: !last,
                            };
                            log(acker.nack(options).await);
                        });
                    }
                }
            }
        });
        Receipts(sender)
    }

    /// Returns when all that was acknowledged is on its way.
    async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        if self.0.send(Told::Flush(done)).is_ok() {
            drop(timeout(FLUSH, flushed).await);
        }
    }

    /// The receipt of one delivery.
    pub(super) fn of(&self, acker: Acker) -> Arc<Receipt> {
        Arc::new(Receipt {
            acker,
            receipts: self.clone(),
        })
    }
}

/// One that comes too late finds its channel closed; the message comes again.
fn log(result: lapin::Result<bool>) {
    match result {
        Ok(true) => {}
        Ok(false) => tracing::debug!("a receipt came after its channel's end; the message comes again"),
        Err(error) => tracing::debug!(%error, "a receipt was not sent; the message comes again"),
    }
}

/// Closes a channel, and with it gives back all that was not acknowledged.
pub(super) async fn close(channel: &Channel, receipts: &Receipts) {
    receipts.flush().await;
    if channel.status().connected()
        && let Err(error) = channel.close(200, "done".into()).await
    {
        tracing::debug!(%error, "a channel was not closed");
    }
}

pub(super) struct Receipt {
    acker: Acker,
    receipts: Receipts,
}

impl<T> Origin<T> for Receipt {
    fn acked(&self, _: u64) {
        drop(self.receipts.0.send(Told::Acked(self.acker.clone())));
    }

    fn back(&self, _: u64, _: T, times: u32) {
        drop(self.receipts.0.send(Told::Back(self.acker.clone(), times)));
    }
}
