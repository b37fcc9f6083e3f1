//! Per-account version counters that invalidate cached reads. One grows with every commit that may have
//! changed what is its account's, before the commit is answered. The writer raises them; the instances' cache
//! compares them.

use std::sync::atomic::{AtomicU64, Ordering};

use cumulet_domain::account::AccountId;

/// So many counters. Accounts that share one invalidate each other: that costs a read, never a stale answer.
const SLOTS: usize = 256;

/// Whose instances, and what is shown with them (interfaces, groups, tags, images), a transaction may
/// change. One that declares nothing is taken to change everybody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invalidates {
    /// Those of every account.
    Everything,
    /// Those of one account.
    Account(AccountId),
    /// Nobody's: hosts, operations, the audit log.
    Nothing,
}

#[derive(Debug)]
pub(super) struct Versions([AtomicU64; SLOTS]);

impl Versions {
    pub(super) fn new() -> Self {
        Versions([const { AtomicU64::new(0) }; SLOTS])
    }

    /// The number of an account.
    pub(super) fn of(&self, account: AccountId) -> u64 {
        self.slot(account).load(Ordering::Acquire)
    }

    /// To be called after the commit and before its callers are answered.
    pub(super) fn bump(&self, invalidates: Invalidates) {
        match invalidates {
            Invalidates::Nothing => {}
            Invalidates::Account(account) => grow(self.slot(account)),
            Invalidates::Everything => self.0.iter().for_each(grow),
        }
    }

    fn slot(&self, account: AccountId) -> &AtomicU64 {
        let at = account.to_db().cast_unsigned() % SLOTS as u64;
        // Below the number of slots, so it is a usize.
        &self.0[at as usize]
    }
}

fn grow(slot: &AtomicU64) {
    slot.fetch_add(1, Ordering::Release);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_hears_of_its_own_changes_and_of_undeclared_ones() {
        let versions = Versions::new();
        let (one, other) = (AccountId(1), AccountId(2));
        for (invalidates, expected) in [
            (Invalidates::Nothing, (0, 0)),
            (Invalidates::Account(one), (1, 0)),
            (Invalidates::Everything, (2, 1)),
            (Invalidates::Account(other), (2, 2)),
        ] {
            versions.bump(invalidates);
            assert_eq!(
                (versions.of(one), versions.of(other)),
                expected,
                "{invalidates:?}"
            );
        }
    }
}
