//! The cloud as a door has it: the domains' parts of this process, for one call or for all of them.

use std::{ops::Deref, sync::Arc};

use cumulet_bus::Bus;
use cumulet_compute::Compute;
use cumulet_core::{CloudConfig, Parts, Presence, RequestContext, Spent, Wake, audit_log::Note};
use cumulet_identity::accounts::CredentialCache;
use cumulet_scheduler::Scheduler;
use cumulet_store::authority::Authoriser;

/// See the module. Cheap to clone. No domain's function takes it: each takes its own part, which a cloud is wherever one
/// is taken.
#[derive(Clone, Debug)]
pub struct Cloud {
    /// Compute's, with the call's context in it.
    pub compute: Compute,
    /// Credentials that were looked up lately.
    pub credentials: CredentialCache,
}

impl Cloud {
    /// A cloud over these parts.
    pub fn new(parts: Parts, wake: Wake, bus: Arc<dyn Bus>, config: CloudConfig) -> Self {
        Cloud {
            compute: Compute::new(RequestContext::new(parts, wake, bus, config)),
            credentials: CredentialCache::default(),
        }
    }

    /// The same with a configured scheduler.
    #[must_use]
    pub fn with_scheduler(mut self, scheduler: Scheduler) -> Self {
        self.compute.scheduler = scheduler;
        self
    }

    /// The same under another authoriser.
    #[must_use]
    pub fn with_authoriser(self, authoriser: Arc<dyn Authoriser>) -> Self {
        self.over(|cx| cx.with_authoriser(authoriser))
    }

    /// For one call, whose changes take the call's entry in the audit log along.
    #[must_use]
    pub fn noting(&self, note: Arc<Note>) -> Self {
        self.clone().over(|cx| cx.noting(note))
    }

    /// For a client who may go: what takes long is then not begun.
    #[must_use]
    pub fn for_client(self, presence: Presence) -> Self {
        self.over(|cx| cx.for_client(presence))
    }

    /// The same, counting the time which its changes take.
    #[must_use]
    pub fn counting(self, spent: Spent) -> Self {
        self.over(|cx| cx.counting(spent))
    }

    /// The same cloud where every change is checked and carried out and then undone, and nobody is woken:
    /// what DryRun calls.
    #[must_use]
    pub fn rehearsal(&self) -> Self {
        self.clone().over(RequestContext::rehearsal)
    }

    /// The same over another context.
    fn over(mut self, change: impl FnOnce(RequestContext) -> RequestContext) -> Self {
        self.compute.cx = change(self.compute.cx);
        self
    }
}

impl Deref for Cloud {
    type Target = Compute;

    fn deref(&self) -> &Compute {
        &self.compute
    }
}
