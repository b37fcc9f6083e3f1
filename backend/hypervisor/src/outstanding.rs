//! Outstanding calls for guests: those that were given up and have not come back. A new call for the same guest waits
//! for them, so that what comes of them is known before anything more is asked, and no calls pile up.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use cumulet_domain::id::InstanceId;
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use crate::{Error, Result};

/// For whom a call is, and what it needs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum For {
    /// The host.
    Host,
    /// A guest, whose own process need not answer: looking at it and ending it.
    Guest(InstanceId),
    /// A guest, whose process has to answer.
    Process(InstanceId),
}

impl For {
    pub(crate) const fn instance(self) -> Option<InstanceId> {
        match self {
            For::Host => None,
            For::Guest(id) | For::Process(id) => Some(id),
        }
    }

    /// How many outstanding calls are too many for this one to be made beside them.
    const fn most(self) -> u32 {
        match self {
            For::Host => u32::MAX,
            For::Guest(_) => 4,
            For::Process(_) => 1,
        }
    }
}

/// The outstanding calls of one host.
#[derive(Debug, Default)]
pub(crate) struct Outstanding {
    calls: Mutex<HashMap<InstanceId, u32>>,
    /// Told whenever one comes back, in the order in which it is waited for.
    returns: Notify,
}

impl Outstanding {
    fn calls(&self) -> MutexGuard<'_, HashMap<InstanceId, u32>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether no call for the guest is outstanding: none that could still start it.
    pub(crate) fn is_clear(&self, guest: InstanceId) -> bool {
        !self.calls().contains_key(&guest)
    }

    /// Waits until a call may be made beside those that are outstanding.
    ///
    /// # Errors
    /// [`Error::Hung`], when there are too many until `end`.
    pub(crate) async fn turn(&self, whom: For, end: Instant) -> Result<()> {
        let Some(guest) = whom.instance() else {
            return Ok(());
        };
        let few = || self.calls().get(&guest).copied().unwrap_or(0) < whom.most();
        if few() {
            return Ok(());
        }
        loop {
            let returned = self.returns.notified();
            if few() {
                return Ok(());
            }
            timeout_at(end, returned).await.map_err(|_| Error::Hung(guest))?;
        }
    }

    /// The two ends of a call that begins now.
    pub(crate) fn begin(self: &Arc<Self>, whom: For) -> (Caller, Callee) {
        let call = Arc::new(Call {
            all: self.clone(),
            guest: whom.instance(),
            ends: Mutex::default(),
        });
        (Caller(call.clone()), Callee(call))
    }
}

#[derive(Debug)]
struct Call {
    all: Arc<Outstanding>,
    guest: Option<InstanceId>,
    ends: Mutex<Ends>,
}

#[derive(Debug, Default)]
struct Ends {
    given_up: bool,
    back: bool,
}

impl Call {
    fn ends(&self) -> MutexGuard<'_, Ends> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Held by the caller that waits for a call: dropped before it has come back, the call is outstanding.
#[derive(Debug)]
pub(crate) struct Caller(Arc<Call>);

impl Drop for Caller {
    fn drop(&mut self) {
        let Some(guest) = self.0.guest else { return };
        // Both locks are held: the call comes back before all of this, or after it.
        let mut ends = self.0.ends();
        ends.given_up = true;
        if !ends.back {
            *self.0.all.calls().entry(guest).or_default() += 1;
        }
    }
}

/// Held by the thread that makes a call: dropped when it has come back, whatever came of it.
#[derive(Debug)]
pub(crate) struct Callee(Arc<Call>);

impl Drop for Callee {
    fn drop(&mut self) {
        let Some(guest) = self.0.guest else { return };
        let mut ends = self.0.ends();
        ends.back = true;
        if !ends.given_up {
            return;
        }
        drop(ends);
        let mut calls = self.0.all.calls();
        if let Some(count) = calls.get_mut(&guest) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                calls.remove(&guest);
                tracing::info!(instance = %guest, "the calls that were given up have come back");
            }
        }
        drop(calls);
        self.0.all.returns.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const ONE: InstanceId = InstanceId::new(1 << 44);
    const TWO: InstanceId = InstanceId::new(2 << 44);

    #[tokio::test(start_paused = true)]
    async fn a_call_that_was_given_up_is_waited_for_and_one_that_came_back_is_not() {
        let all = Arc::new(Outstanding::default());
        let turn = async |whom| all.turn(whom, Instant::now() + Duration::from_secs(9)).await;
        let (caller, callee) = all.begin(For::Process(ONE));
        drop(callee);
        drop(caller);
        assert_eq!(turn(For::Process(ONE)).await, Ok(()));
        let (caller, callee) = all.begin(For::Process(ONE));
        assert_eq!(turn(For::Process(ONE)).await, Ok(()), "it is not given up");
        drop(caller);
        for whom in [For::Process(TWO), For::Guest(ONE), For::Host] {
            assert_eq!(turn(whom).await, Ok(()), "{whom:?}");
        }
        let began = Instant::now();
        assert_eq!(turn(For::Process(ONE)).await, Err(Error::Hung(ONE)));
        assert_eq!(began.elapsed(), Duration::from_secs(9));
        let back = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            drop(callee);
        };
        let (waited, ()) = tokio::join!(turn(For::Process(ONE)), back);
        assert_eq!(waited, Ok(()));
        assert!(all.calls().is_empty());
    }
}
