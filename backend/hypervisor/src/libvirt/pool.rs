//! The pool of blocking libvirt calls: each has a thread and a connection of its own and a deadline. A call
//! that does not come back keeps both, is outstanding, and holds up nothing but its own guest.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use cumulet_domain::id::InstanceId;
use tokio::{
    sync::{Semaphore, oneshot},
    time::{Instant, timeout_at},
};
use virt::{
    connect::Connect,
    error::{Error as LibvirtError, ErrorNumber},
};

use crate::{
    Error, Result,
    outstanding::{For, Outstanding},
};

/// Calls at once, the hung ones included.
const CALLS: usize = 64;

/// Connections that are kept for the next call.
const IDLE: usize = 8;

/// Connections to one libvirt, and the calls that are made over them.
pub(super) struct Pool {
    uri: String,
    idle: Mutex<Vec<Connect>>,
    pub(super) outstanding: Arc<Outstanding>,
    calls: Arc<Semaphore>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    pub(super) fn new(uri: String) -> Arc<Pool> {
        Arc::new(Pool {
            uri,
            idle: Mutex::default(),
            outstanding: Arc::default(),
            calls: Arc::new(Semaphore::new(CALLS)),
        })
    }

    /// Makes a call, after those of the same guest that were given up have come back. It may be made twice, if the
    /// first time the connection turns out to be gone.
    pub(super) async fn call<T: Send + 'static>(
        self: &Arc<Self>,
        whom: For,
        deadline: Duration,
        work: impl Fn(&Connect) -> Result<T, LibvirtError> + Send + 'static,
    ) -> Result<T> {
        let (instance, end) = (whom.instance(), Instant::now() + deadline);
        self.outstanding.turn(whom, end).await?;
        let (sender, receiver) = oneshot::channel();
        let (this, calls) = (self.clone(), self.calls.clone());
        let called = async {
            // The permit goes with the thread, not with the caller that waits for it.
            let permit = calls.acquire_owned().await;
            let (_caller, callee) = this.outstanding.begin(whom);
            let body = move || {
                let _permit = permit;
                let result = this.make(&work);
                // Before the answer: the caller that has it may call again at once.
                drop(callee);
                drop(sender.send(result));
            };
            let thread = std::thread::Builder::new().name("libvirt".into()).spawn(body);
            thread.map_err(|e| Error::Unavailable(format!("no thread: {e}")))?;
            let gone = |_| Error::Unavailable("a libvirt call broke off".into());
            receiver
                .await
                .map_err(gone)?
                .map_err(|failure| failure.of(instance))
        };
        timeout_at(end, called).await.unwrap_or_else(|_| {
            tracing::warn!(?instance, ?deadline, "a libvirt call has not come back");
            Err(Error::Late(deadline))
        })
    }

    fn make<T>(&self, work: &impl Fn(&Connect) -> Result<T, LibvirtError>) -> Result<T, Failed> {
        let idle = lock(&self.idle).pop();
        if let Some(connection) = idle.filter(is_alive) {
            let result = work(&connection);
            if is_alive(&connection) {
                self.give_back(connection);
                return result.map_err(Failed::Call);
            }
            // libvirtd was started anew meanwhile.
            lock(&self.idle).clear();
        }
        let connection = Connect::open(Some(&self.uri)).map_err(Failed::Connection)?;
        let result = work(&connection);
        if !is_alive(&connection) {
            return result.map_err(Failed::Connection);
        }
        self.give_back(connection);
        result.map_err(Failed::Call)
    }

    fn give_back(&self, connection: Connect) {
        let mut idle = lock(&self.idle);
        if idle.len() < IDLE {
            idle.push(connection);
        }
    }
}

fn is_alive(connection: &Connect) -> bool {
    connection.is_alive().unwrap_or(false)
}

/// What went wrong with a call.
enum Failed {
    /// There is no libvirtd to be reached, or it went away meanwhile.
    Connection(LibvirtError),
    /// libvirtd has answered with it.
    Call(LibvirtError),
}

impl Failed {
    fn of(self, instance: Option<InstanceId>) -> Error {
        match self {
            Failed::Connection(error) => Error::Away(error.message().to_owned()),
            Failed::Call(error) => translate(&error, instance),
        }
    }
}

/// What a libvirt error means here.
fn translate(error: &LibvirtError, instance: Option<InstanceId>) -> Error {
    let is = |number: ErrorNumber| error.code().is_known_and(|known| known == number);
    match instance {
        Some(id) if is(ErrorNumber::NoDomain) => Error::NotFound(id),
        _ if [
            ErrorNumber::XmlError,
            ErrorNumber::XmlDetail,
            ErrorNumber::ConfigUnsupported,
            ErrorNumber::InvalidArg,
        ]
        .into_iter()
        .any(is) =>
        {
            Error::Refused(error.message().to_owned())
        }
        _ => Error::Unavailable(error.message().to_owned()),
    }
}
