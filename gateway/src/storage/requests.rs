//! A request of a host: its grant, the numbers in it, and its turn.

use std::{
    collections::HashMap,
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
};

use actix_web::{HttpRequest, http::header};
use cumulet_certs::storage_grant::{self, GrantRefusal};
use cumulet_domain::{
    id::HostId,
    storage::{PIECE, StorageGrant},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Shared, refusal::Refusal};
use crate::connection::Member;

/// Requests that are worked on or answered at once: a piece of each is in memory.
const AT_WORK: usize = 64;

/// Of these, one host's.
const OF_ONE_HOST: usize = 4;

/// Requests of one host that are worked on or wait for it.
const WAITING: usize = 32;

/// The grant that a request carries. Whoever has one is no stranger.
pub(super) fn granted(shared: &Shared, request: &HttpRequest) -> Result<StorageGrant, Refusal> {
    let given = request.headers().get(header::AUTHORIZATION);
    let text = given.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let text = text.ok_or(GrantRefusal::Invalid)?;
    let grant = storage_grant::open(&shared.sealer, text, shared.clock.now())?;
    if let Some(member) = request.conn_data::<Rc<Member>>() {
        member.is_known();
    }
    Ok(grant)
}

/// The part of a file that is asked for, in bytes: where it begins, and how many at the most.
pub(super) fn range(request: &HttpRequest) -> Result<(u64, u64), Refusal> {
    let wanted = || {
        let right = format!("expecting Range: bytes=FIRST-LAST, with {PIECE} bytes at the most");
        Refusal::Malformed(right)
    };
    let given = request.headers().get(header::RANGE);
    let text = given.and_then(|value| value.to_str().ok()).ok_or_else(wanted)?;
    let (first, last) = text
        .strip_prefix("bytes=")
        .and_then(|range| range.split_once('-'))
        .ok_or_else(wanted)?;
    let (first, last): (u64, u64) = match (first.parse(), last.parse()) {
        (Ok(first), Ok(last)) if first <= last && last - first < PIECE => (first, last),
        _ => return Err(wanted()),
    };
    Ok((first, last - first + 1))
}

/// Whose turn it is: each host has its share, and all together what memory is for.
pub(super) struct Turns {
    work: Arc<Semaphore>,
    hosts: Arc<Mutex<Hosts>>,
}

type Hosts = HashMap<HostId, Host>;

/// A host with requests.
struct Host {
    requests: usize,
    work: Arc<Semaphore>,
}

impl Default for Turns {
    fn default() -> Self {
        Turns {
            work: Arc::new(Semaphore::new(AT_WORK)),
            hosts: Arc::default(),
        }
    }
}

/// A request's turn, until it is dropped.
pub(super) struct Turn {
    _all: OwnedSemaphorePermit,
    _own: OwnedSemaphorePermit,
    _place: Place,
}

/// A request of a host that waits or is worked on.
struct Place {
    hosts: Arc<Mutex<Hosts>>,
    host: HostId,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(host) = hosts.get_mut(&self.host) {
            host.requests -= 1;
            if host.requests == 0 {
                hosts.remove(&self.host);
            }
        }
    }
}

impl Turns {
    /// Waits for a host's turn. Its own share comes first, so that a host which takes no answers keeps no other one
    /// waiting.
    ///
    /// # Errors
    /// `Busy` where it waits for as many as it may.
    pub(super) async fn wait(&self, host: &HostId) -> Result<Turn, Refusal> {
        let (place, own) = self.place(host)?;
        let own = own.acquire_owned().await.map_err(|_| Refusal::Busy)?;
        let all = self.work.clone().acquire_owned().await;
        Ok(Turn {
            _all: all.map_err(|_| Refusal::Busy)?,
            _own: own,
            _place: place,
        })
    }

    fn place(&self, host: &HostId) -> Result<(Place, Arc<Semaphore>), Refusal> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let found = hosts.entry(host.clone()).or_insert_with(|| Host {
            requests: 0,
            work: Arc::new(Semaphore::new(OF_ONE_HOST)),
        });
        if found.requests >= WAITING {
            return Err(Refusal::Busy);
        }
        found.requests += 1;
        let place = Place {
            hosts: self.hosts.clone(),
            host: host.clone(),
        };
        Ok((place, found.work.clone()))
    }
}

/// Does what blocks on a thread for that.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Refusal::Files(std::io::Error::other(error))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_host_takes_no_other_ones_turns() {
        let turns = Turns::default();
        let [a, b] = ["a", "b"].map(|name| HostId(name.into()));
        let mut taken = Vec::new();
        for _ in 0..OF_ONE_HOST {
            taken.push(turns.wait(&a).await.unwrap());
        }
        // What it has more waits, up to a bound, and others do not.
        let mut waiting: Vec<_> = (OF_ONE_HOST..WAITING).map(|_| Box::pin(turns.wait(&a))).collect();
        for wait in &mut waiting {
            assert!(futures::poll!(wait.as_mut()).is_pending());
        }
        assert!(matches!(turns.wait(&a).await, Err(Refusal::Busy)));
        drop(turns.wait(&b).await.unwrap());
        taken.pop();
        drop(waiting.remove(0).await.unwrap());
        drop((taken, waiting));
        drop(turns.wait(&a).await.unwrap());
        assert!(turns.hosts.lock().unwrap().is_empty());
    }
}
