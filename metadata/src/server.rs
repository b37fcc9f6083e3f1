//! The server's threads: each has its own accept loop on every listener and its own HTTP service.

use std::{
    cell::RefCell,
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
        mpsc as sync_mpsc,
    },
    time::Duration,
};

use actix_http::{HttpService, KeepAlive, Request, Response, error::DispatchError};
use actix_rt::{net::TcpStream, task::JoinHandle};
use actix_service::{Service, ServiceFactory, fn_service};
use bytes::Bytes;
use cumulet_domain::{id::VpcId, time::Clock};
use rand::rngs::StdRng;
use tokio::{net::TcpListener, sync::mpsc, task::JoinSet};

use crate::{
    answer::{Answer, answer},
    config::Config,
    counters::Cell,
    http,
    instance::{GuestAddress, Instance},
    registry::Registry,
    stream::{GuestStream, NextTtl},
};

/// Connections at once from addresses that belong to no instance; more are closed unanswered.
const STRANGERS: u32 = 64;

/// The time for a request's head to arrive.
pub(crate) const HEAD_TIME: Duration = Duration::from_secs(10);

/// What all threads share.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) registry: Registry,
    /// Of callers that are no instance.
    pub(crate) strangers: Cell,
    pub(crate) open_strangers: AtomicU32,
}

/// What a thread is told. It answers when it is done.
pub(crate) enum Command {
    Serve(VpcId, std::net::TcpListener, sync_mpsc::Sender<io::Result<()>>),
    Stop(VpcId, sync_mpsc::Sender<io::Result<()>>),
}

/// A thread's life; ends when the sender of its commands is dropped.
pub(crate) async fn run(shared: Arc<Shared>, rng: StdRng, mut commands: mpsc::UnboundedReceiver<Command>) {
    let rng = Rc::new(RefCell::new(rng));
    let handler = shared.clone();
    let factory = HttpService::build()
        // Times are the connection's: one clock, and not one that is half a second late.
        .keep_alive(KeepAlive::Os)
        .client_request_timeout(Duration::ZERO)
        .on_connect_ext(move |stream: &GuestStream, data: &mut actix_http::Extensions| {
            data.insert(stream.next_ttl());
            data.insert(stream.guest());
        })
        .h1(fn_service(move |request: Request| {
            let response = handle(&handler, &request, &mut rng.borrow_mut());
            async move { Ok::<_, Infallible>(response) }
        }));
    let Ok(service) = factory.new_service(()).await else {
        tracing::error!("the metadata service's HTTP service did not start");
        return;
    };
    let service = Rc::new(service);
    let mut loops: Vec<(VpcId, JoinHandle<()>)> = Vec::new();
    while let Some(command) = commands.recv().await {
        match command {
            Command::Serve(vpc, listener, done) => {
                end(&mut loops, vpc).await;
                let listener = TcpListener::from_std(listener);
                let outcome = listener.map(|listener| {
                    let accepting = accept(vpc, listener, shared.clone(), service.clone());
                    loops.push((vpc, actix_rt::spawn(accepting)));
                });
                let _ = done.send(outcome);
            }
            Command::Stop(vpc, done) => {
                end(&mut loops, vpc).await;
                let _ = done.send(Ok(()));
            }
        }
    }
    for (_, accepting) in loops {
        accepting.abort();
        let _ = accepting.await;
    }
}

/// Ends the accept loop of a VPC, and with it its connections.
async fn end(loops: &mut Vec<(VpcId, JoinHandle<()>)>, vpc: VpcId) {
    if let Some(index) = loops.iter().position(|(of, _)| *of == vpc) {
        let (_, accepting) = loops.swap_remove(index);
        accepting.abort();
        let _ = accepting.await;
    }
}

async fn accept<S>(vpc: VpcId, listener: TcpListener, shared: Arc<Shared>, service: Rc<S>)
where
    S: Service<(GuestStream, Option<SocketAddr>), Response = (), Error = DispatchError> + 'static,
{
    // Dropped together with this loop, it ends the connections, which would keep the VPC's network
    // namespace alive.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((socket, peer)) => {
                    if let Some(stream) = admit(&shared, vpc, socket, peer) {
                        connections.spawn_local(service.call((stream, Some(peer))));
                    }
                }
                Err(error) => {
                    tracing::warn!(%vpc, %error, "no connection accepted");
                    if !transient(&error) {
                        // Out of descriptors, most likely: some have to be closed first.
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }
            },
            Some(ended) = connections.join_next() => {
                if let Ok(Err(error)) = ended {
                    tracing::trace!(%vpc, %error, "connection ended");
                }
            }
        }
    }
}

fn transient(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

/// Who is at the other end of a connection.
pub(crate) struct Guest {
    address: Option<GuestAddress>,
    instance: Option<Arc<Instance>>,
    /// One connection too many: reads are put off.
    crowded: bool,
    shared: Arc<Shared>,
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.open().fetch_sub(1, Ordering::AcqRel);
    }
}

impl Guest {
    /// A request was refused before anything of it was understood.
    pub(crate) fn is_refused(&self) {
        let counters = match &self.instance {
            Some(instance) => &instance.counters,
            None => &self.shared.strangers,
        };
        counters.count(Answer::BadRequest.event());
    }

    fn open(&self) -> &AtomicU32 {
        match &self.instance {
            Some(instance) => &instance.open,
            None => &self.shared.open_strangers,
        }
    }
}

/// Finds out who connects; `None` closes the connection.
fn admit(shared: &Arc<Shared>, vpc: VpcId, socket: TcpStream, peer: SocketAddr) -> Option<GuestStream> {
    let address = match peer.ip().to_canonical() {
        IpAddr::V4(address) => Some((vpc, address)),
        IpAddr::V6(_) => None,
    };
    let instance = address.and_then(|address| shared.registry.find(&address));
    let limits = shared.config.limits;
    let mut guest = Guest {
        address,
        instance,
        crowded: false,
        shared: shared.clone(),
    };
    let open = guest.open().fetch_add(1, Ordering::AcqRel) + 1;
    let most = match guest.instance {
        Some(_) => limits.connections.saturating_mul(2),
        None => STRANGERS,
    };
    if open > most {
        let instance = guest.instance.as_ref().map(|instance| instance.id.to_string());
        tracing::debug!(%vpc, %peer, instance, "too many connections");
        return None;
    }
    guest.crowded = guest.instance.is_some() && open > limits.connections;
    // Without it a response of two segments stalls on the guest's delayed acknowledgement.
    socket.set_nodelay(true).ok()?;
    Some(GuestStream::new(socket, Rc::new(guest), limits.head, limits.idle))
}

/// One request. The instance is looked up again each time: an address may have changed hands while
/// the connection was open, and its previous owner must not be shown to the new one, nor the reverse.
fn handle(shared: &Shared, request: &Request, rng: &mut StdRng) -> Response<Bytes> {
    let guest = request.conn_data::<Rc<Guest>>();
    let instance = guest.and_then(|guest| {
        let now = shared.registry.find(&guest.address?)?;
        let then = guest.instance.as_ref()?;
        Arc::ptr_eq(&now, then).then_some((now, guest.crowded))
    });
    let Some((instance, crowded)) = instance else {
        shared.strangers.count(Answer::NotFound.event());
        return http::response(Answer::NotFound, true);
    };
    if http::head_length(request) > shared.config.limits.head {
        instance.counters.count(Answer::BadRequest.event());
        return http::head_too_long();
    }
    let now = shared.clock.now();
    instance.contacted(now);
    let parts = http::request(request, crowded);
    let answer = answer(&parts, &instance, &shared.config, now, rng);
    instance.counters.count(answer.event());
    if let (Answer::Token { hop_limit, .. }, Some(ttl)) = (&answer, request.conn_data::<NextTtl>()) {
        ttl.set(Some(*hop_limit));
    }
    http::response(answer, crowded)
}
