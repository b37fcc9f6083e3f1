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

use actix_http::{HttpService, KeepAlive, Request};
use actix_service::fn_service;
use actix_web::dev::Server;
use async_trait::async_trait;
use cumulet_certs::ConsoleVerifier;
use cumulet_domain::time::Clock;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Semaphore, watch},
};

/// How long a request may take to arrive.
const HEAD: Duration = Duration::from_secs(10);

/// Connections beside the open consoles: requests that are refused, or wait for a host.
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
        let server = Server::build()
            // Bytes are passed on, and little else.
            .workers(1)
            .max_concurrent_connections(sessions + SPARE)
            .shutdown_timeout(1)
            .disable_signals()
            .listen("console", listener, move || {
                let shared = shared.clone();
                HttpService::build()
                    .keep_alive(KeepAlive::Disabled)
                    .client_request_timeout(HEAD)
                    .client_disconnect_timeout(Duration::from_secs(5))
                    .upgrade(fn_service(move |(request, framed)| {
                        relay::upgrade(shared.clone(), request, framed)
                    }))
                    .finish(fn_service(|request: Request| async move {
                        Ok::<_, Infallible>(request::no_upgrade(request.head()))
                    }))
                    .tcp()
            })?
            .run();
        let handle = server.handle();
        let mut task = tokio::spawn(server);
        tokio::select! {
            ended = &mut task => return ended.map_err(io::Error::other)?,
            _ = shutdown.wait_for(|stop| *stop) => {}
        }
        handle.stop(false).await;
        task.await.map_err(io::Error::other)?
    }
}

#[cfg(test)]
mod tests;
