//! The HTTP server under every listener of the gateway, and the API's. There is one function that makes
//! servers ([`listen`]), so that whoever listens has the crowd control of [`crate::connection`], and one that has
//! requests answered ([`serve`]), so that each of them is known there while it is under way.

use std::{
    future::ready,
    io,
    net::{SocketAddr, TcpListener},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use actix_http::{
    HttpServiceBuilder, KeepAlive, Protocol, Request, Response, body::BoxBody, error::DispatchError,
};
use actix_service::{
    IntoServiceFactory as _, Service, ServiceFactory, ServiceFactoryExt as _, fn_service, map_config,
};
use actix_web::{
    App, HttpResponse,
    dev::{AppConfig, Server, ServerHandle},
    rt::net::TcpStream,
    web::{self, ServiceConfig},
};
use cumulet_backend::api::Cloud;
use futures::{FutureExt as _, future::LocalBoxFuture};

use crate::{
    auth::AuthConfig,
    connection::{Connection, Crowd},
    door::{BODY_MEMORY, Door},
    fences::RequestLimits,
    http,
    limits::Limits,
    under_way::{self, ForAnybody},
};

/// How the door is served.
#[derive(Debug)]
pub struct Gateway {
    /// Bound sockets, at least one.
    pub listeners: Vec<TcpListener>,
    /// Threads that serve.
    pub workers: usize,
    /// What connections may use.
    pub limits: Limits,
    /// Rules for signatures.
    pub auth: AuthConfig,
    /// What accounts may use.
    pub requests: RequestLimits,
    /// Bytes for the bodies of all requests, those aside that are small.
    pub body_memory: usize,
}

impl Gateway {
    /// A gateway on these sockets, with the defaults of everything else.
    pub fn new(listeners: Vec<TcpListener>) -> Self {
        Gateway {
            listeners,
            workers: 2,
            limits: Limits::default(),
            auth: AuthConfig::default(),
            requests: RequestLimits::default(),
            body_memory: BODY_MEMORY,
        }
    }

    /// Starts to serve `cloud`. Needs a Tokio runtime.
    ///
    /// # Errors
    /// When a socket can't be listened on.
    pub fn start(self, cloud: Cloud) -> io::Result<Running> {
        let door = web::Data::new(Door::with_limits(
            cloud,
            self.auth,
            self.requests,
            self.body_memory,
        ));
        let routes = move |app: &mut ServiceConfig| {
            app.app_data(door.clone())
                .route("/cumulet/health", web::get().to(health))
                .default_service(web::to(http::handle));
        };
        serve("api", self.listeners, self.workers, self.limits, Arc::new(routes))
    }
}

async fn health() -> HttpResponse {
    let mut answer = HttpResponse::Ok().body("ok\n");
    answer.extensions_mut().insert(ForAnybody);
    answer
}

/// What a listener answers.
pub(crate) type Routes = Arc<dyn Fn(&mut ServiceConfig) + Send + Sync>;

/// Starts a server on these sockets that answers requests. While one is under way its connection waits for the door, or
/// for the rest of a body, and not for its client; whatever the routes are, they need to do nothing for that.
pub(crate) fn serve(
    name: &'static str,
    listeners: Vec<TcpListener>,
    workers: usize,
    limits: Limits,
    routes: Routes,
) -> io::Result<Running> {
    listen(name, listeners, workers, limits, move |base| {
        let app = App::new()
            .configure(|app| routes(app))
            .wrap_fn(|mut request, next| {
                let under_way = under_way::begin(&mut request);
                let answer = next.call(request);
                async move {
                    let answer = answer.await;
                    if let Ok(answer) = &answer {
                        under_way.answered(answer);
                    }
                    answer
                }
            });
        let app = app
            .into_factory()
            .map_err(|e: actix_web::Error| e.error_response());
        base.http().finish(map_config(app, |()| AppConfig::default()))
    })
}

/// What all servers have in common, from which each goes on to what it answers.
pub(crate) struct Base {
    stopping: Rc<dyn Fn() -> LocalBoxFuture<'static, ()>>,
}

impl Base {
    /// HTTP on connections that keep to the limits.
    pub(crate) fn http<S>(&self) -> HttpServiceBuilder<Connection, S>
    where
        S: ServiceFactory<Request, Config = ()>,
        S::Error: Into<Response<BoxBody>> + 'static,
        S::InitError: std::fmt::Debug,
        <S::Service as Service<Request>>::Future: 'static,
    {
        let stopping = self.stopping.clone();
        HttpServiceBuilder::default()
            .graceful_shutdown_signal(move || stopping())
            // Times are the connection's: one clock, and not one that is half a second late.
            .keep_alive(KeepAlive::Os)
            .client_request_timeout(Duration::ZERO)
            .client_disconnect_timeout(Duration::from_secs(5))
            .on_connect_ext(|connection: &Connection, data| {
                data.insert(connection.member());
            })
    }
}

/// Starts a server on these sockets whose connections keep to the limits, the only way in which this crate
/// listens. It is what actix-web's `HttpServer` does, whose connections can't be other than bare sockets.
pub(crate) fn listen<M, F>(
    name: &'static str,
    listeners: Vec<TcpListener>,
    workers: usize,
    limits: Limits,
    make: M,
) -> io::Result<Running>
where
    M: Fn(Base) -> F + Clone + Send + 'static,
    F: ServiceFactory<Accepted, Config = (), Response = (), Error = DispatchError, InitError = ()> + 'static,
{
    let workers = workers.max(1);
    let most = limits.connections.div_ceil(workers);
    let mut server = Server::build()
        .workers(workers)
        // Only reached when that many are at work, since new connections take others' places.
        .max_concurrent_connections(most.saturating_mul(2).max(64))
        .shutdown_timeout(10)
        .disable_signals();
    let signal = server.graceful_shutdown_signal();
    for listener in listeners {
        let (make, signal) = (make.clone(), signal.clone());
        server = server.listen(name, listener, move || {
            let signal = signal.clone();
            let stopping = Rc::new(move || {
                let signal = signal.clone();
                async move { signal.notified().await }.boxed_local()
            });
            let crowd = Crowd::new(most, limits);
            fn_service(move |socket| ready(Ok::<_, DispatchError>(accept(socket, &crowd))))
                .and_then(make(Base { stopping }))
        })?;
    }
    let server = server.run();
    let handle = server.handle();
    let task = tokio::spawn(server);
    Ok(Running { handle, task })
}

/// A new connection.
pub(crate) type Accepted = (Connection, Protocol, Option<SocketAddr>);

fn accept(socket: TcpStream, crowd: &Rc<Crowd>) -> Accepted {
    // actix does not set this; without it a small streamed answer waits for the client's
    // acknowledgement, some 40 ms now and then.
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY could not be set");
    }
    let peer = socket.peer_addr().ok();
    (Connection::new(socket, crowd.clone()), Protocol::Http1, peer)
}

/// A gateway that serves.
#[derive(Debug)]
pub struct Running {
    handle: ServerHandle,
    task: tokio::task::JoinHandle<io::Result<()>>,
}

impl Running {
    /// Ends, and what is under way with it.
    ///
    /// # Errors
    /// What the server died of.
    pub(crate) async fn cut(self) -> io::Result<()> {
        self.handle.stop(false).await;
        self.task.await.map_err(io::Error::other)?
    }

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
