//! The placement request: what an instance needs of a host.

use std::{collections::HashMap, sync::Arc, time::Duration};

use cumulet_domain::{placement::Policy, time::Timestamp};

use super::fleet::Pairs;

/// A host that was not heard of for this long gets nothing new.
pub const SILENCE: Duration = Duration::from_secs(30);

/// A host that was not heard of after this moment is silent by now.
pub fn heard_after(now: Timestamp) -> Timestamp {
    let silence = i64::try_from(SILENCE.as_millis()).unwrap_or(i64::MAX);
    Timestamp(now.0.saturating_sub(silence))
}

/// Some of a fleet's hosts, by their places.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostSet {
    bits: Vec<u64>,
    count: usize,
}

impl HostSet {
    /// Whether the host at this place is one.
    #[inline]
    pub fn contains(&self, at: u32) -> bool {
        self.bits
            .get((at >> 6) as usize)
            .is_some_and(|word| word >> (at & 63) & 1 == 1)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl FromIterator<u32> for HostSet {
    fn from_iter<I: IntoIterator<Item = u32>>(places: I) -> Self {
        let mut set = HostSet::default();
        for at in places {
            let word = (at >> 6) as usize;
            if set.bits.len() <= word {
                set.bits.resize(word + 1, 0);
            }
            if !set.contains(at) {
                set.count += 1;
                set.bits[word] |= 1 << (at & 63);
            }
        }
        set
    }
}

/// Members of a group on a host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// How many.
    pub count: i64,
    /// The partition that the host is in; 0 where there are none.
    pub partition: u32,
}

/// The group that an instance is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// How its members are to be placed.
    pub policy: Policy,
    /// Where they are, by the places of hosts in the fleet.
    pub members: HashMap<u32, Member>,
    /// There are members, wherever they are.
    pub populated: bool,
}

/// What an instance needs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    /// The zone that it must be in.
    pub availability_zone: String,
    /// Virtual CPUs.
    pub vcpus: i64,
    /// Memory in MiB.
    pub memory_mib: i64,
    /// Disk in GiB.
    pub disk_gib: i64,
    /// Volumes come with it that are in the pool which hosts share.
    pub needs_pool: bool,
    /// A host is alive that was heard of after this, in milliseconds.
    pub heard_after: i64,
    /// The account, as its 12 digits.
    pub account: String,
    /// The image's architecture.
    pub architecture: Option<String>,
    /// The hypervisor that the image wants.
    pub hypervisor_type: Option<String>,
    /// The instance type's extra specifications.
    pub extra_specs: Arc<Pairs>,
    /// Hosts where this launch has failed.
    pub tried: HostSet,
    /// The group that it is in.
    pub group: Option<Group>,
    /// Hosts that it must not be on.
    pub different_host: HostSet,
    /// Hosts of which it must be on one; `None` where it need not.
    pub same_host: Option<HostSet>,
}

impl Request {
    /// The same at a time: what was not heard of for long is not alive.
    #[must_use]
    pub fn at(mut self, now: Timestamp) -> Self {
        self.heard_after = heard_after(now).0;
        self
    }

    /// For how long nothing was heard of a host at the request's time.
    pub(super) fn silent_for(&self, last_seen: i64) -> Duration {
        SILENCE + Timestamp(self.heard_after).since(Timestamp(last_seen))
    }
}
