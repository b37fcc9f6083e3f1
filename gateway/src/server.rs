//! The HTTP server in front of the door.

use std::{any::Any, io, net::TcpListener, time::Duration};

use actix_web::{
    App, HttpResponse, HttpServer,
    dev::{Extensions, ServerHandle},
    rt::net::TcpStream,
    web,
};
use cumulet_backend::api::Cloud;

use crate::{auth::AuthConfig, door::Door, http};

/// How the door is served.
#[derive(Debug)]
pub struct Gateway {
    /// Bound sockets, at least one.
    pub listeners: Vec<TcpListener>,
    /// Threads that serve.
    pub workers: usize,
    /// Connections of one worker at the most.
    pub max_connections: usize,
    /// Rules for signatures.
    pub auth: AuthConfig,
}

impl Gateway {
    /// A gateway on these sockets, with the defaults of everything else.
    pub fn new(listeners: Vec<TcpListener>) -> Self {
        Gateway {
            listeners,
            workers: 2,
            max_connections: 10_000,
            auth: AuthConfig::default(),
        }
    }

    /// Starts to serve `cloud`. Needs a Tokio runtime.
    ///
    /// # Errors
    /// When a socket can't be listened on.
    pub fn start(self, cloud: Cloud) -> io::Result<Running> {
        let door = web::Data::new(Door::new(cloud, self.auth));
        let mut server = HttpServer::new(move || {
            App::new()
                .app_data(door.clone())
                .route(
                    "/cumulet/health",
                    web::get().to(|| async { HttpResponse::Ok().body("ok\n") }),
                )
                .default_service(web::to(http::handle))
        })
        .workers(self.workers.max(1))
        .max_connections(self.max_connections)
        .keep_alive(Duration::from_secs(60))
        // A client that dribbles its headers is cut off.
        .client_request_timeout(Duration::from_secs(10))
        .client_disconnect_timeout(Duration::from_secs(5))
        .shutdown_timeout(10)
        .disable_signals()
        .on_connect(no_delay);
        for listener in self.listeners {
            server = server.listen(listener)?;
        }
        let server = server.run();
        let handle = server.handle();
        let task = tokio::spawn(server);
        Ok(Running { handle, task })
    }
}

/// A gateway that serves.
#[derive(Debug)]
pub struct Running {
    handle: ServerHandle,
    task: tokio::task::JoinHandle<io::Result<()>>,
}

impl Running {
    /// Takes no more requests, finishes those under way, and ends.
    ///
    /// # Errors
    /// What the server died of.
    pub async fn stop(self) -> io::Result<()> {
        self.handle.stop(true).await;
        self.task.await.map_err(io::Error::other)?
    }

    /// Waits until the server ends by itself, which it does only when it dies.
    ///
    /// # Errors
    /// What the server died of.
    pub async fn ended(&mut self) -> io::Result<()> {
        (&mut self.task).await.map_err(io::Error::other)?
    }
}

/// actix-web does not set this; without it a small streamed answer waits for the client's
/// acknowledgement, some 40 ms now and then.
fn no_delay(connection: &dyn Any, _: &mut Extensions) {
    if let Some(stream) = connection.downcast_ref::<TcpStream>()
        && let Err(error) = stream.set_nodelay(true)
    {
        tracing::debug!(%error, "TCP_NODELAY could not be set");
    }
}
