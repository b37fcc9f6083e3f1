//! Requests' bodies: read within bounds, into memory that grows by what has come, and that all bodies of a
//! process have one budget of. The head has been judged before: what a stranger can make the process keep is
//! a small body for each connection. Of one that is read piece by piece, what is in flight counts.
//!
//! Whoever knows the id of an access key can send a head that names it, so before the signature is verified
//! a large body counts as its client's address', and only then as the account's. Either may hold as much of
//! the budget as is still free (the dynamic threshold of switches' shared buffers): one alone half of it, and
//! each of many about the same, so that none of them uses it up for the others.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    ops::Deref,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use cumulet_domain::account::AccountId;
use futures::{Stream, StreamExt as _};

/// The largest body: no request of these services comes near it.
pub(crate) const MAX_BODY: usize = 1 << 20;

/// Bytes of each body that the budget does not count, and the most that a stranger may send: connections bound
/// how many there are. All but launches with user data and lists of a thousand ids are smaller.
pub(crate) const SMALL_BODY: usize = 16 << 10;

/// Why a body is not read.
pub(crate) type Refusal = (&'static str, u16, &'static str);

/// It is larger than any may be.
pub(crate) const TOO_LARGE: Refusal = (
    "RequestEntityTooLarge",
    413,
    "The request's body is larger than it may be.",
);

/// It has not come in its time.
pub(crate) const LATE: Refusal = (
    "RequestTimeout",
    408,
    "The request's body did not arrive in time.",
);

/// It has come to an end before its end.
pub(crate) const BROKEN: Refusal = ("InvalidRequest", 400, "The request's body could not be read.");

const FULL: Refusal = (
    "Unavailable",
    503,
    "Too many large requests are being received. Please try again shortly.",
);

/// Whom memory is held for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Holder {
    /// A client that has proven nothing yet, by its address; of IPv6 the network, since a client has all of it.
    Client(IpAddr),
    /// Who has signed the request.
    Account(AccountId),
}

impl Holder {
    /// The client at an address.
    pub(crate) fn client(address: IpAddr) -> Self {
        Holder::Client(match address.to_canonical() {
            IpAddr::V6(address) => {
                let network = u128::from(address) >> 64 << 64;
                IpAddr::V6(Ipv6Addr::from(network))
            }
            address => address,
        })
    }
}

/// The memory of all bodies of a process. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Bodies(Arc<Memory>);

#[derive(Debug)]
struct Memory {
    most: usize,
    used: Mutex<Used>,
}

#[derive(Debug, Default)]
struct Used {
    all: usize,
    /// Of each who holds some.
    by: HashMap<Holder, usize>,
}

/// A body, and its part of the budget.
#[derive(Debug)]
pub(crate) struct Body {
    pub(crate) bytes: Bytes,
    /// Given back with this.
    held: Option<Held>,
}

/// A piece of a body, with its part of the budget until it is dropped.
#[derive(Debug)]
pub(crate) struct Piece {
    bytes: Bytes,
    _held: Held,
}

impl Deref for Piece {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

#[derive(Debug)]
struct Held {
    memory: Arc<Memory>,
    holder: Holder,
    bytes: usize,
}

/// One that nothing is counted of.
impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Body { bytes, held: None }
    }
}

impl Body {
    /// From now on it counts as the account's, which has signed it.
    ///
    /// # Errors
    /// Where the account holds its share already.
    pub(crate) fn belongs_to(&mut self, account: AccountId) -> Result<(), Refusal> {
        match &mut self.held {
            Some(held) => held.pass_to(Holder::Account(account)),
            None => Ok(()),
        }
    }
}

impl Bodies {
    /// So many bytes for all bodies, what is counted of them.
    pub(crate) fn new(most: usize) -> Self {
        let used = Mutex::default();
        Bodies(Arc::new(Memory { most, used }))
    }

    /// What is in use.
    #[cfg(test)]
    pub(crate) fn used(&self) -> usize {
        self.0.used().all
    }

    /// Reads a client's body of at most so many bytes, which may take so long. No more than that is ever held of the
    /// budget for it, in whatever pieces it comes.
    ///
    /// # Errors
    /// What the client is told.
    pub(crate) async fn read<S, E>(
        &self,
        parts: S,
        client: IpAddr,
        most: usize,
        time: Duration,
    ) -> Result<Body, Refusal>
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin,
    {
        let mut whole = pin!(self.gather(parts, client, most));
        // Nearly always it is at hand, and costs no timer.
        if let Poll::Ready(read) = futures::poll!(whole.as_mut()) {
            return read;
        }
        tokio::time::timeout(time, whole).await.unwrap_or(Err(LATE))
    }

    async fn gather<S, E>(&self, mut parts: S, client: IpAddr, most: usize) -> Result<Body, Refusal>
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin,
    {
        let mut held = self.none(Holder::client(client));
        let mut body = Vec::new();
        while let Some(part) = parts.next().await {
            let part = part.map_err(|_| BROKEN)?;
            let length = body.len() + part.len();
            if length > most {
                return Err(TOO_LARGE);
            }
            let room = grown(body.capacity(), length).min(most);
            held.grow(room)?;
            body.reserve_exact(room - body.len());
            body.extend_from_slice(&part);
        }
        let (bytes, held) = (body.into(), Some(held));
        Ok(Body { bytes, held })
    }

    /// A piece of a body that an account has signed. So many bytes of it are not counted.
    ///
    /// # Errors
    /// Where the account holds its share already.
    pub(crate) fn piece(&self, account: AccountId, bytes: Bytes, free: usize) -> Result<Piece, Refusal> {
        let mut held = self.none(Holder::Account(account));
        held.take(bytes.len().saturating_sub(free))?;
        Ok(Piece { bytes, _held: held })
    }

    /// Nothing yet of the budget.
    fn none(&self, holder: Holder) -> Held {
        Held {
            memory: self.0.clone(),
            holder,
            bytes: 0,
        }
    }
}

/// What a buffer takes when so much is in it.
fn grown(capacity: usize, length: usize) -> usize {
    if length <= capacity {
        capacity
    } else {
        length.max(capacity * 2)
    }
}

impl Memory {
    fn used(&self) -> MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Used {
    /// Whether a holder may have so much more of so many bytes: no more than is free then.
    fn take(&mut self, holder: Holder, more: usize, most: usize) -> bool {
        let held = self.by.get(&holder).copied().unwrap_or(0) + more;
        let fits = self.all + more + held <= most;
        if fits {
            self.all += more;
            self.by.insert(holder, held);
        }
        fits
    }

    fn give_back(&mut self, holder: Holder, bytes: usize) {
        self.all -= bytes;
        if let Some(held) = self.by.get_mut(&holder) {
            *held -= bytes;
            if *held == 0 {
                self.by.remove(&holder);
            }
        }
    }
}

impl Held {
    /// Makes it so many bytes, of which the first ones are not counted.
    fn grow(&mut self, bytes: usize) -> Result<(), Refusal> {
        self.take(bytes.saturating_sub(SMALL_BODY).saturating_sub(self.bytes))
    }

    /// Takes so many bytes more.
    fn take(&mut self, more: usize) -> Result<(), Refusal> {
        if more == 0 {
            return Ok(());
        }
        let memory = &self.memory;
        if !memory.used().take(self.holder, more, memory.most) {
            return Err(FULL);
        }
        self.bytes += more;
        Ok(())
    }

    fn pass_to(&mut self, holder: Holder) -> Result<(), Refusal> {
        if self.bytes == 0 {
            return Ok(());
        }
        let mut used = self.memory.used();
        used.give_back(self.holder, self.bytes);
        if used.take(holder, self.bytes, self.memory.most) {
            self.holder = holder;
            return Ok(());
        }
        self.bytes = 0;
        Err(FULL)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.memory.used().give_back(self.holder, self.bytes);
        }
    }
}

/// Lets a small body come and keeps nothing of it, so that the answer to its head is read: a connection that
/// is closed while something comes in loses its answer.
pub(crate) async fn discard<S, E>(mut parts: S, time: Duration)
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
{
    let mut count = 0;
    let all = async {
        while let Some(Ok(part)) = parts.next().await {
            count += part.len();
            if count > SMALL_BODY {
                break;
            }
        }
    };
    drop(tokio::time::timeout(time, all).await);
}

#[cfg(test)]
mod tests {
    use std::{io, net::Ipv4Addr};

    use futures::stream;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);
    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn parts(count: usize, each: usize) -> impl Stream<Item = io::Result<Bytes>> + Unpin {
        stream::iter((0..count).map(move |_| Ok(Bytes::from(vec![b'x'; each]))))
    }

    fn client(last: u8) -> IpAddr {
        Ipv4Addr::new(192, 0, 2, last).into()
    }

    /// What clients at these addresses get, who send bodies of a million bytes until they are refused.
    async fn fill(bodies: &Bodies, clients: impl Iterator<Item = u8>) -> Vec<Vec<Body>> {
        let mut all = Vec::new();
        for last in clients {
            let mut kept = Vec::new();
            let refused = loop {
                match bodies
                    .read(parts(100, 10_000), client(last), MAX_BODY, LONG)
                    .await
                {
                    Ok(body) => kept.push(body),
                    Err(refusal) => break refusal,
                }
            };
            assert_eq!(refused, FULL);
            all.push(kept);
        }
        all
    }

    #[tokio::test]
    async fn the_memory_of_all_bodies_is_bounded_and_given_back() {
        let bodies = Bodies::new(16 * MAX_BODY);
        let kept = fill(&bodies, 1..=50).await;
        assert!((11 * MAX_BODY..=16 * MAX_BODY).contains(&bodies.used()));
        assert_eq!(kept[0][0].bytes.len(), 1_000_000);
        // Small ones are read all the same.
        assert!(bodies.read(parts(16, 1024), HERE, MAX_BODY, LONG).await.is_ok());
        drop(kept);
        assert_eq!(bodies.used(), 0);
        assert!(bodies.0.used().by.is_empty());
        assert!(
            bodies
                .read(parts(100, 10_000), HERE, MAX_BODY, LONG)
                .await
                .is_ok()
        );
    }

    /// A body that has its client's part of the budget to itself fits, in whatever pieces it comes.
    #[tokio::test]
    async fn a_body_takes_no_more_than_it_has_however_it_comes() {
        const LENGTH: usize = 400_000;
        let bodies = Bodies::new(2 * LENGTH);
        for each in [
            1000, 7, 33_333, 65_536, 100_000, 133_333, 199_999, 200_000, 399_999, LENGTH,
        ] {
            let rest = stream::iter([Ok(Bytes::from(vec![b'x'; LENGTH % each]))]);
            let pieces = parts(LENGTH / each, each).chain(rest);
            let body = bodies.read(pieces, HERE, LENGTH, LONG).await;
            assert_eq!(body.map(|body| body.bytes.len()), Ok(LENGTH), "pieces of {each}");
            assert_eq!(bodies.used(), 0);
        }
    }

    #[tokio::test]
    async fn none_uses_it_up_for_the_others() {
        let bodies = Bodies::new(16 * MAX_BODY);
        let _kept = fill(&bodies, 1..=1).await;
        assert!((6 * MAX_BODY..=8 * MAX_BODY).contains(&bodies.used()));
        let _more = fill(&bodies, 2..=3).await;
        assert!(bodies.used() <= 14 * MAX_BODY);
        assert!(bodies.read(parts(60, 10_000), HERE, MAX_BODY, LONG).await.is_ok());
        // Nor does an account, from however many addresses it sends.
        let (bodies, mut kept) = (Bodies::new(16 * MAX_BODY), Vec::new());
        let refused = loop {
            let from = client(kept.len() as u8);
            let mut body = bodies
                .read(parts(100, 10_000), from, MAX_BODY, LONG)
                .await
                .unwrap();
            match body.belongs_to(AccountId(1)) {
                Ok(()) => kept.push(body),
                Err(refusal) => break refusal,
            }
        };
        assert_eq!(refused, FULL);
        assert!((6 * MAX_BODY..=8 * MAX_BODY).contains(&bodies.used()));
        let mut others = bodies
            .read(parts(100, 10_000), client(0), MAX_BODY, LONG)
            .await
            .unwrap();
        assert_eq!(others.belongs_to(AccountId(2)), Ok(()));
        drop((kept, others));
        assert_eq!(bodies.used(), 0);
    }

    #[test]
    fn a_client_is_an_address_or_a_network_of_ipv6() {
        let client = |text: &str| Holder::client(text.parse().unwrap());
        for (one, other, same) in [
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("2001:db8::1", "2001:db8::ffff:1", true),
            ("2001:db8:0:1::1", "2001:db8::1", false),
        ] {
            assert_eq!(client(one) == client(other), same, "{one} {other}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_too_late_or_is_too_much_holds_nothing() {
        let bodies = Bodies::new(2 * MAX_BODY);
        let silent = parts(3, 100_000).chain(stream::pending());
        let late = bodies.read(silent, HERE, MAX_BODY, LONG).await;
        assert_eq!(late.unwrap_err(), LATE);
        let large = bodies.read(parts(3, 6000), HERE, SMALL_BODY, LONG).await;
        assert_eq!(large.unwrap_err(), TOO_LARGE);
        let broken = parts(1, 50_000).chain(stream::iter([Err(io::ErrorKind::Other.into())]));
        assert_eq!(
            bodies.read(broken, HERE, MAX_BODY, LONG).await.unwrap_err(),
            BROKEN
        );
        assert_eq!(bodies.used(), 0);
        discard(parts(1, 10).chain(stream::pending()), LONG).await;
        discard(parts(1_000_000, 10_000), LONG).await;
    }
}
