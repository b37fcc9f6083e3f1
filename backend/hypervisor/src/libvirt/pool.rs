//! Calls of libvirt: they block, so each has a thread and a connection of its own and a deadline. A call
//! that does not come back keeps both, is flagged, and holds up nothing but its own guest.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
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
    /// How many calls for a guest have not come back.
    hung: Mutex<HashMap<InstanceId, u32>>,
    calls: Arc<Semaphore>,
}

/// For whom a call is, and what it needs.
#[derive(Clone, Copy, Debug)]
pub(super) enum For {
    /// The host.
    Host,
    /// A guest, whose own process need not answer: looking at it and ending it.
    Guest(InstanceId),
    /// A guest, whose process has to answer.
    Process(InstanceId),
}

impl For {
    const fn instance(self) -> Option<InstanceId> {
        match self {
            For::Host => None,
            For::Guest(id) | For::Process(id) => Some(id),
        }
    }

    /// How many calls may hang before this one is not made.
    const fn patience(self) -> u32 {
        match self {
            For::Host => u32::MAX,
            For::Guest(_) => 4,
            For::Process(_) => 1,
        }
    }
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

    /// Makes a call. It may be made twice, if the first time the connection turns out to be gone.
    pub(super) async fn call<T: Send + 'static>(
        self: &Arc<Self>,
        whom: For,
        deadline: Duration,
        work: impl Fn(&Connect) -> Result<T, LibvirtError> + Send + 'static,
    ) -> Result<T> {
        let instance = whom.instance();
        if let Some(id) = instance
            && lock(&self.hung).get(&id).is_some_and(|n| *n >= whom.patience())
        {
            return Err(Error::Hung(id));
        }
        let (sender, receiver) = oneshot::channel();
        let (this, calls) = (self.clone(), self.calls.clone());
        let has_ended = Arc::new(AtomicBool::new(false));
        let ended = has_ended.clone();
        let called = async {
            // The permit goes with the thread, not with whoever waits for it.
            let permit = calls.acquire_owned().await;
            let body = move || {
                let _permit = permit;
                let result = this.make(&work);
                ended.store(true, Ordering::SeqCst);
                if sender.send(result).is_err()
                    && let Some(id) = instance
                {
                    this.came_back(id);
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
                *lock(&self.hung).entry(id).or_default() += 1;
                // It may have ended just now, and have found nothing to take back.
                if has_ended.load(Ordering::SeqCst) {
                    self.came_back(id);
                }
            }
            Err(Error::Late(deadline))
        })
    }

    /// A call that was given up has ended after all.
    fn came_back(&self, instance: InstanceId) {
        let mut hung = lock(&self.hung);
        if let Some(calls) = hung.get_mut(&instance) {
            *calls = calls.saturating_sub(1);
            if *calls == 0 {
                hung.remove(&instance);
                tracing::info!(%instance, "the calls that hung have come back");
            }
        }
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
