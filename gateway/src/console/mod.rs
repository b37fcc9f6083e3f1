//! The console proxy: a WebSocket whose bytes are an instance's console, as noVNC and serial consoles in
//! browsers want it. It verifies tokens by itself and connects only where they say, so that no client can
//! make it connect to what is not a console of this cloud; the host verifies them again.
//!
//! ```text
//! client ═ WebSocket ═ this door ═ TCP: token, answer, bytes ═ the instance's host
//! ```

mod relay;
mod request;

use std::{convert::Infallible, io, net::TcpListener, sync::Arc, time::Duration};

use actix_http::{KeepAlive, Request};
use actix_service::fn_service;
use async_trait::async_trait;
use cumulet_certs::ConsoleVerifier;
use cumulet_domain::time::Clock;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Semaphore, watch},
};

use crate::{limits::Limits, server};

/// Connections beside the open consoles: requests that are refused, or wait for a host. Who says nothing gives
/// way to others.
const SPARE: usize = 64;

/// A connection to a host.
pub trait HostStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> HostStream for T {}

/// The way to hosts' consoles.
#[async_trait]
pub trait Hosts: Send + Sync + 'static {
    /// Connects to the address of a verified token.
    async fn connect(&self, address: &str) -> io::Result<Box<dyn HostStream>>;
}

/// How much may go on at once, and how long nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsoleLimits {
    /// Open consoles.
    pub sessions: usize,
    /// For how long no byte may go either way.
    pub idle: Duration,
}

/// The door.
pub struct ConsoleDoor {
    /// What verifies tokens.
    pub verifier: ConsoleVerifier,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The way to hosts.
    pub hosts: Arc<dyn Hosts>,
    /// What clients may use.
    pub limits: ConsoleLimits,
}

impl std::fmt::Debug for ConsoleDoor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConsoleDoor").finish_non_exhaustive()
    }
}

/// What all connections share.
struct Shared {
    door: ConsoleDoor,
    sessions: Arc<Semaphore>,
}

impl ConsoleDoor {
    /// Serves until `shutdown` is true; open consoles then end. Needs a Tokio runtime.
    ///
    /// # Errors
    /// When the socket can't be listened on; what the server died of.
    pub async fn serve(self, listener: TcpListener, mut shutdown: watch::Receiver<bool>) -> io::Result<()> {
        let sessions = self.limits.sessions;
        let shared = Arc::new(Shared {
            sessions: Arc::new(Semaphore::new(sessions)),
            door: self,
        });
        let limits = Limits {
            connections: sessions + SPARE,
            ..Limits::default()
        };
        // Bytes are passed on, and little else: one thread.
        let mut running = server::listen("console", vec![listener], 1, limits, move |base| {
            let shared = shared.clone();
            base.http()
                .keep_alive(KeepAlive::Disabled)
                .upgrade(fn_service(move |(request, framed)| {
                    relay::upgrade(shared.clone(), request, framed)
                }))
                .finish(fn_service(|request: Request| async move {
                    Ok::<_, Infallible>(request::no_upgrade(request.head()))
                }))
        })?;
        tokio::select! {
            ended = running.ended() => return ended,
            _ = shutdown.wait_for(|stop| *stop) => {}
        }
        // Consoles have no end that could be waited for.
        running.cut().await
    }
}

#[cfg(test)]
mod tests;
