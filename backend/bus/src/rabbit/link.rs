//! The broker connection, made again whenever it is lost.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use lapin::{
    Channel, Connection, ConnectionBuilder, ConnectionProperties, Event, tcp::OwnedTLSConfig, uri::AMQPUri,
};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, interval, sleep, timeout},
};

use crate::{BusError, counters::Tally};

/// How long a connection may take to make.
const CONNECT: Duration = Duration::from_secs(10);

/// The pauses between attempts.
const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(10);

/// How long a connection that is being made again is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often it is looked whether the connection stands.
const LOOK: Duration = Duration::from_millis(250);

type Live = Option<Arc<Connection>>;

/// One connection to the broker.
#[derive(Debug)]
pub(super) struct Link {
    live: watch::Receiver<Live>,
    keeper: JoinHandle<()>,
}

/// How the broker is reached.
#[derive(Clone)]
pub(super) struct Address {
    pub(super) uri: AMQPUri,
    pub(super) tls: OwnedTLSConfig,
    pub(super) name: String,
}

impl Link {
    /// Connects for the first time. Who is patient has a link also while there is no broker.
    pub(super) async fn open(address: Address, tally: Arc<Tally>, patient: bool) -> Result<Link, BusError> {
        let first = match connect(&address).await {
            Ok(connection) => Some(Arc::new(connection)),
            Err(error) if patient => {
                tracing::warn!(%error, connection = address.name, "no connection to the broker yet");
                None
            }
            Err(error) => return Err(error),
        };
        let (sender, live) = watch::channel(first);
        let keeper = tokio::spawn(keep(address, sender, tally));
        Ok(Link { live, keeper })
    }

    /// The connection, when it stands.
    pub(super) async fn standing(&self) -> Arc<Connection> {
        let mut live = self.live.clone();
        match live.wait_for(Option::is_some).await.map(|found| found.clone()) {
            Ok(Some(connection)) => connection,
            // The keeper has ended, and with it the process.
            _ => std::future::pending().await,
        }
    }

    /// The connection, if it stands or comes back soon.
    pub(super) async fn soon(&self) -> Result<Arc<Connection>, BusError> {
        let away = |_| BusError::Unavailable("the broker is away".into());
        timeout(PATIENCE, self.standing()).await.map_err(away)
    }

    /// A new channel, when the connection stands.
    pub(super) async fn channel(&self) -> lapin::Result<Channel> {
        self.standing().await.create_channel().await
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

async fn connect(address: &Address) -> Result<Connection, BusError> {
    let properties = ConnectionProperties::default().with_connection_name(address.name.clone().into());
    let failed = |error: lapin::Error| BusError::Unavailable(error.to_string());
    let builder = ConnectionBuilder::new()
        .map_err(failed)?
        .with_uri(address.uri.clone())
        .with_tls_config(address.tls.clone())
        .with_properties(properties);
    match timeout(CONNECT, builder.connect()).await {
        Ok(made) => made.map_err(failed),
        Err(_) => Err(BusError::Unavailable("the broker does not answer".into())),
    }
}

async fn keep(address: Address, live: watch::Sender<Live>, tally: Arc<Tally>) {
    loop {
        let standing = live.borrow().clone();
        if let Some(connection) = standing {
            watch_over(&connection, &tally).await;
            tally
                .is_blocked
                .store(false, std::sync::atomic::Ordering::Relaxed);
            tracing::warn!(connection = address.name, "the connection to the broker is lost");
        }
        live.send_replace(None);
        let mut pause = FIRST;
        loop {
            // Between half and all of it, so that not everybody comes back at once.
            sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
            match connect(&address).await {
                Ok(connection) => {
                    Tally::one(&tally.reconnects);
                    tracing::info!(connection = address.name, "connected to the broker again");
                    live.send_replace(Some(Arc::new(connection)));
                    break;
                }
                Err(error) => tracing::debug!(%error, "the broker is still away"),
            }
            pause = (pause * 2).min(LONGEST);
        }
    }
}

/// Returns when the connection is lost.
async fn watch_over(connection: &Connection, tally: &Tally) {
    use std::sync::atomic::Ordering::Relaxed;
    let mut events = Box::pin(connection.events_listener());
    let mut timer = interval(LOOK);
    let began = Instant::now();
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(Event::ConnectionBlocked(reason)) => {
                    Tally::one(&tally.blocked);
                    tally.is_blocked.store(true, Relaxed);
                    tracing::warn!(reason, "the broker asks to wait");
                }
                Some(Event::ConnectionUnblocked) => {
                    tally.is_blocked.store(false, Relaxed);
                    tracing::info!("the broker goes on");
                }
                Some(Event::Error(error)) => tracing::debug!(%error, "an error of the connection"),
                Some(_) => {}
                None => return,
            },
            _ = timer.tick() => {}
        }
        if !connection.status().connected() {
            tracing::debug!(lasted = ?began.elapsed(), "the connection has ended");
            return;
        }
    }
}
