//! The metadata service of a simulated host: which snapshot each of its guests reads. It is the worker's process's, and
//! gone with it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::TcpListener,
    sync::{Mutex, MutexGuard, PoisonError},
};

use cumulet_domain::{
    id::{InstanceId, VpcId},
    metadata::InstanceMetadata,
};
use cumulet_worker::MetadataSink;

#[derive(Default)]
pub(super) struct Served(Mutex<State>);

#[derive(Default)]
struct State {
    revisions: BTreeMap<InstanceId, u64>,
    /// Nothing is served to these, whatever comes, until they end.
    left_out: BTreeSet<InstanceId>,
}

impl Served {
    /// A service that was broken on purpose: nothing is served to guests that were there before it.
    pub(super) fn but(left_out: BTreeSet<InstanceId>) -> Self {
        Served(Mutex::new(State {
            left_out,
            ..State::default()
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The revision that each guest reads.
    pub(super) fn revisions(&self) -> BTreeMap<InstanceId, u64> {
        self.state().revisions.clone()
    }
}

impl MetadataSink for Served {
    fn put(&self, snapshot: &InstanceMetadata) {
        let mut state = self.state();
        if !state.left_out.contains(&snapshot.instance) {
            let served = state.revisions.entry(snapshot.instance).or_default();
            *served = snapshot.revision.max(*served);
        }
    }

    fn remove(&self, instance: InstanceId) {
        let mut state = self.state();
        state.revisions.remove(&instance);
        state.left_out.remove(&instance);
    }

    fn serve(&self, _: VpcId, _: TcpListener) -> Result<(), String> {
        Ok(())
    }

    fn stop(&self, _: VpcId) {}

    fn registered(&self) -> Vec<InstanceId> {
        self.state().revisions.keys().copied().collect()
    }
}
