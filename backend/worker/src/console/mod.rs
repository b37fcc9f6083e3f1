//! The console server of a host, for the console role: a client sends a line with a token, hears in a line
//! whether it is taken, and has the console's bytes after that. Tokens are verified with the cloud's public
//! key, so that neither a database nor a broker is asked, and each is taken once.

mod crowd;
mod pump;
mod tickets;

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use cumulet_certs::ConsoleVerifier;
use cumulet_domain::{
    console::{ConsoleGrant, ConsoleKind, ConsoleRefusal, MAX_LINE},
    time::Clock,
};
use cumulet_hypervisor::{ConsoleStream, Error};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream},
    net::TcpListener,
    sync::watch,
    task::JoinSet,
};

use crate::{Worker, boxed};
use crowd::Crowd;
use tickets::{Seat, Tickets};

/// How long the first line may take to come, and the answer to go.
const LINE: Duration = Duration::from_secs(10);

/// How long the hypervisor may take: less than the console role waits.
const OPEN: Duration = Duration::from_secs(8);

/// Connections whose token is not known yet.
const STRANGERS: usize = 64;

/// What an in-process connection holds.
const BUFFER: usize = 16 * 1024;

/// How much may go on at once, and how long nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsoleLimits {
    /// Open consoles of the host.
    pub sessions: usize,
    /// For how long no byte may go either way.
    pub idle: Duration,
}

/// The consoles of this process's hosts.
pub struct ConsoleHost {
    workers: Vec<Arc<Worker>>,
    verifier: ConsoleVerifier,
    clock: Arc<dyn Clock>,
    limits: ConsoleLimits,
    tickets: Arc<Mutex<Tickets>>,
    strangers: Arc<Crowd>,
}

impl ConsoleHost {
    /// The consoles of what these workers run.
    pub fn new(
        workers: Vec<Arc<Worker>>,
        verifier: ConsoleVerifier,
        clock: Arc<dyn Clock>,
        limits: ConsoleLimits,
    ) -> Arc<Self> {
        let tickets = Tickets::new(clock.now(), limits.sessions);
        Arc::new(ConsoleHost {
            workers,
            verifier,
            clock,
            limits,
            tickets: Arc::new(Mutex::new(tickets)),
            strangers: Crowd::new(STRANGERS),
        })
    }

    /// Takes connections until `shutdown` is true; consoles that are open then end.
    ///
    /// # Errors
    /// Never for one connection.
    #[boxed]
    pub async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        mut shutdown: watch::Receiver<bool>,
    ) -> io::Result<()> {
        let mut open = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = shutdown.wait_for(|stop| *stop) => break,
                Some(_) = open.join_next() => continue,
            };
            match accepted {
                Ok((socket, _)) => {
                    drop(socket.set_nodelay(true));
                    let this = self.clone();
                    open.spawn(async move { this.attend(socket).await });
                }
                Err(error) => {
                    tracing::warn!(%error, "a console connection can't be taken");
                    // Out of descriptors, most likely: others have to end first.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        open.shutdown().await;
        Ok(())
    }

    /// A connection from within this process.
    pub fn connect(self: &Arc<Self>) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(BUFFER);
        let this = self.clone();
        tokio::spawn(async move { this.attend(ours).await });
        theirs
    }

    /// One connection from its first line to its end.
    async fn attend<S: ConsoleStream>(&self, stream: S) {
        let mut place = self.strangers.admit();
        let mut stream = BufReader::with_capacity(MAX_LINE, stream);
        let token = tokio::select! {
            token = tokio::time::timeout(LINE, line(&mut stream)) => token,
            () = place.lost() => return tracing::debug!("a console connection gives way to another"),
        };
        let Ok(Some(token)) = token else {
            return tracing::debug!("a console connection sent no token");
        };
        drop(place);
        let (answer, opened) = match self.open(&token).await {
            Ok(opened) => (Ok(()), Some(opened)),
            Err(refusal) => {
                tracing::info!(%refusal, "a console is not opened");
                (Err(refusal), None)
            }
        };
        let answer = format!("{}\n", ConsoleRefusal::line(answer));
        let sent = tokio::time::timeout(LINE, stream.write_all(answer.as_bytes())).await;
        if let (Ok(Ok(())), Some((grant, seat, console))) = (sent, opened) {
            let (instance, kind) = (grant.instance, grant.kind);
            tracing::info!(%instance, %kind, "a console is open");
            let end = pump::pump(stream, console, self.limits.idle).await;
            tracing::info!(%instance, %kind, ?end, "a console is closed");
            drop(seat);
        }
    }

    /// What a token opens. It is used up by that, also where the console then can't be had.
    async fn open(
        &self,
        token: &str,
    ) -> Result<(ConsoleGrant, Seat, Box<dyn ConsoleStream>), ConsoleRefusal> {
        let now = self.clock.now();
        let grant = self.verifier.verify(token, now)?;
        let here = |worker: &&Arc<Worker>| {
            let record = worker.slots.record(grant.instance);
            record.is_some_and(|record| record.wants_power)
        };
        let worker = self.workers.iter().find(here);
        let worker = worker.ok_or(ConsoleRefusal::NoInstance)?;
        let seat = Tickets::take(&self.tickets, &grant, now)?;
        let opening = worker.deps.hypervisor.open_console(grant.instance, grant.kind);
        match tokio::time::timeout(OPEN, opening).await {
            Ok(Ok(console)) => Ok((grant, seat, console)),
            Ok(Err(error)) => {
                tracing::warn!(instance = %grant.instance, kind = %grant.kind, %error, "no console");
                Err(match error {
                    Error::NotFound(_) | Error::Foreign(_) => ConsoleRefusal::NoInstance,
                    Error::NoConsole(..) => ConsoleRefusal::Unsupported,
                    _ => ConsoleRefusal::Away,
                })
            }
            Err(_) => Err(ConsoleRefusal::Away),
        }
    }
}

impl std::fmt::Debug for ConsoleHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConsoleHost").finish_non_exhaustive()
    }
}

/// A line of text, without its end; `None` when it is too long, is not text or does not end.
async fn line<S: ConsoleStream>(stream: &mut BufReader<S>) -> Option<String> {
    let mut bytes = Vec::new();
    let mut limited = stream.take(MAX_LINE as u64);
    limited.read_until(b'\n', &mut bytes).await.ok()?;
    if bytes.pop() != Some(b'\n') {
        return None;
    }
    String::from_utf8(bytes).ok()
}

/// How many of one instance's consoles may be open: a serial port has one reader, a screen may be shared.
const fn per_instance(kind: ConsoleKind) -> usize {
    match kind {
        ConsoleKind::Serial => 1,
        ConsoleKind::Vnc => 4,
    }
}

/// A lock that a panic elsewhere does not take away.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
