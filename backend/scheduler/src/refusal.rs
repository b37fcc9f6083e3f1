//! Refusals: why no host is good enough, as a tenant reads it. What is the matter with hosts comes first, then what was
//! wanted of one; the filters' names and numbers are for the log.

use std::fmt;

use super::filters;

/// So many hosts are told of by name at the most.
pub(super) const NAMED: usize = 3;

/// What one filter has removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removed {
    /// The filter's name.
    pub filter: &'static str,
    /// What it wants, to be read after "no host".
    pub wants: String,
    /// How many hosts it removed of those that the filters before it left.
    pub hosts: usize,
}

/// Why no host is good enough. It reads as a sentence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusal {
    /// How many hosts there were.
    pub hosts: usize,
    /// What the filters removed, in their order, without the idle ones. The numbers add up to `hosts`.
    pub removed: Vec<Removed>,
    /// What is the matter with the first of them, where that is more than not being what is wanted.
    pub explained: Vec<String>,
}

impl Refusal {
    /// Nothing is wrong with the request; the hosts are silent or not ready, or don't hear of the volumes' store, which may
    /// pass.
    pub fn may_pass(&self) -> bool {
        let passing = [filters::compute::NAME, filters::volume_store::NAME];
        self.hosts == 0
            || self
                .removed
                .iter()
                .any(|removed| passing.contains(&removed.filter))
    }

    /// The same after hosts on which a launch has failed were named: what is the matter with the others.
    pub fn of_others(&self) -> String {
        let mut others = self.clone();
        others
            .removed
            .retain(|removed| removed.filter != filters::retry::NAME);
        match others.removed.is_empty() {
            true => "there is no other host that could take it".into(),
            false => format!("{}no other host {}", others.told(), others.wanted()),
        }
    }

    /// Which filter has removed how many hosts, for the log.
    pub fn filters(&self) -> String {
        let told = |one: &Removed| format!("{} removed {} of {}", one.filter, one.hosts, self.hosts);
        self.removed.iter().map(told).collect::<Vec<_>>().join(", ")
    }

    /// What is the matter with hosts, to be read before the rest.
    fn told(&self) -> String {
        let mut told: String = self.explained.iter().map(|one| format!("{one}; ")).collect();
        let compute = |removed: &&Removed| removed.filter == filters::compute::NAME;
        let not_ready = self
            .removed
            .iter()
            .find(compute)
            .map_or(0, |removed| removed.hosts);
        let more = not_ready.saturating_sub(self.explained.len());
        if more > 0 {
            let hosts = if more == 1 { "host is" } else { "hosts are" };
            told.push_str(&format!("{more} more {hosts} not ready; "));
        }
        told
    }

    /// All that was wanted, to be read after "no host".
    fn wanted(&self) -> String {
        let mut wanted = self
            .removed
            .iter()
            .map(|one| one.wants.as_str())
            .collect::<Vec<_>>();
        let last = wanted.pop().unwrap_or_default();
        match wanted.is_empty() {
            true => last.into(),
            false => format!("{} and {last}", wanted.join(", ")),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.removed.is_empty() {
            true => f.write_str("there is no host"),
            false => write!(f, "{}no host {}", self.told(), self.wanted()),
        }
    }
}
