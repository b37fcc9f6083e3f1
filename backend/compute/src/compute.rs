//! The compute domain's part of a process: what it keeps between calls, around a call's context.

use std::ops::Deref;

use cumulet_core::RequestContext;
use cumulet_scheduler::Scheduler;

use crate::{KeyForge, instances::InstanceCache};

/// See the module. Cheap to clone; a context by itself wherever one is taken.
#[derive(Clone, Debug)]
pub struct Compute {
    /// The call.
    pub cx: RequestContext,
    /// Instances that were looked up lately.
    pub instances: InstanceCache,
    /// Makes key pairs.
    pub keys: KeyForge,
    /// Says whether a launch could be placed.
    pub scheduler: Scheduler,
}

impl Compute {
    /// With nothing kept yet, and the scheduler as it is where nothing is configured.
    pub fn new(cx: RequestContext) -> Self {
        Compute {
            cx,
            instances: InstanceCache::default(),
            keys: KeyForge::default(),
            scheduler: Scheduler::default(),
        }
    }
}

impl Deref for Compute {
    type Target = RequestContext;

    fn deref(&self) -> &RequestContext {
        &self.cx
    }
}
