//! Calls of libvirt: they block, so each has a thread and a connection of its own and a deadline. A call
//! that does not come back keeps both, is flagged, and holds up nothing but its own guest.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use cumulet_domain::id::InstanceId;
use tokio::sync::{Semaphore, oneshot};
use virt::{
    connect::Connect,
    error::{Error as LibvirtError, ErrorNumber},
};

use crate::{Error, Result};

/// Calls at once, the hung ones included.
const CALLS: usize = 64;

/// Connections that are kept for the next call.
const IDLE: usize = 8;

/// Connections to one libvirt, and the calls that are made over them.
pub(super) struct Pool {
    uri: String,
    idle: Mutex<Vec<Connect>>,
    hung: Mutex<HashSet<InstanceId>>,
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
            hung: Mutex::default(),
            calls: Arc::new(Semaphore::new(CALLS)),
        })
    }

    /// Makes a call for a guest, or for the host. It may be made twice, if the first time the connection
    /// turns out to be gone.
    pub(super) async fn call<T: Send + 'static>(
        self: &Arc<Self>,
        instance: Option<InstanceId>,
        deadline: Duration,
        work: impl Fn(&Connect) -> Result<T, LibvirtError> + Send + 'static,
    ) -> Result<T> {
        if let Some(id) = instance.filter(|id| lock(&self.hung).contains(id)) {
            return Err(Error::Hung(id));
        }
        let (sender, receiver) = oneshot::channel();
        let (this, calls) = (self.clone(), self.calls.clone());
        let called = async {
            // The permit goes with the thread, not with whoever waits for it.
            let permit = calls.acquire_owned().await;
            let body = move || {
                let _permit = permit;
                let result = this.make(&work);
                if sender.send(result).is_err()
                    && let Some(id) = instance
                    && lock(&this.hung).remove(&id)
                {
                    tracing::info!(instance = %id, "a call that hung has come back");
                }
            };
            let thread = std::thread::Builder::new().name("libvirt".into()).spawn(body);
            thread.map_err(|e| Error::Unavailable(format!("no thread: {e}")))?;
            let gone = |_| Error::Unavailable("a libvirt call broke off".into());
            let result = receiver.await.map_err(gone)?;
            result.map_err(|e| translate(&e, instance))
        };
        tokio::time::timeout(deadline, called).await.unwrap_or_else(|_| {
            tracing::error!(?instance, ?deadline, "a libvirt call does not come back");
            if let Some(id) = instance {
                lock(&self.hung).insert(id);
            }
            Err(Error::Late(deadline))
        })
    }

    fn make<T>(&self, work: &impl Fn(&Connect) -> Result<T, LibvirtError>) -> Result<T, LibvirtError> {
        let idle = lock(&self.idle).pop();
        if let Some(connection) = idle.filter(is_alive) {
            let result = work(&connection);
            if is_alive(&connection) {
                self.give_back(connection);
                return result;
            }
            // libvirtd was started anew meanwhile.
            lock(&self.idle).clear();
        }
        let connection = Connect::open(Some(&self.uri))?;
        let result = work(&connection);
        self.give_back(connection);
        result
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
