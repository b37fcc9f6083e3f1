//! Witnesses of a simulated hypervisor: each is told of what comes to pass at the moment when it does, before any event
//! of it can have been read. A simulator checks what must never happen with one.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use cumulet_domain::id::InstanceId;

use super::Guest;

/// What has come to pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A guest's process is there.
    On(InstanceId),
    /// Its CPUs run, which stood still.
    Runs(InstanceId),
    /// A guest that ran starts over.
    StartsOver(InstanceId),
    /// A guest's process is there no more.
    Off(InstanceId),
    /// A call for a guest is not waited for any longer.
    Late(InstanceId),
    /// A call that changes a guest has failed, as the plan says.
    Failed(InstanceId),
}

/// Whoever is told. It must not ask the hypervisor anything.
pub trait Witness: Send + Sync + 'static {
    /// This has come to pass.
    fn saw(&self, what: Seen);
}

/// The one witness that a hypervisor may have.
#[derive(Default)]
pub(super) struct Watched(OnceLock<Arc<dyn Witness>>);

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watched").finish_non_exhaustive()
    }
}

impl Watched {
    pub(super) fn by(&self, witness: Arc<dyn Witness>) {
        drop(self.0.set(witness));
    }

    pub(super) fn tell(&self, what: Seen) {
        if let Some(witness) = self.0.get() {
            witness.saw(what);
        }
    }

    /// Tells what a change of a guest is.
    pub(super) fn changed(&self, id: InstanceId, was: How, is: How) {
        if was.on && !is.on {
            self.tell(Seen::Off(id));
        }
        if !was.on && is.on {
            self.tell(Seen::On(id));
        }
        if is.on && !is.paused && (was.paused || !was.on) {
            self.tell(Seen::Runs(id));
        }
        if was.on && is.on && was.boots != is.boots {
            self.tell(Seen::StartsOver(id));
        }
    }
}

/// As much of a guest as a witness is told of.
#[derive(Clone, Copy, Default)]
pub(super) struct How {
    pub(super) on: bool,
    paused: bool,
    boots: u32,
}

impl How {
    pub(super) fn of(guest: Option<&Guest>) -> How {
        guest.map_or_else(How::default, |guest| How {
            on: guest.on,
            paused: guest.paused,
            boots: guest.boots,
        })
    }
}
