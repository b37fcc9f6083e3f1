//! How far the taking of a snapshot has come, shared by who takes it and who tells.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

/// See the module. It never goes back. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    percent: Arc<AtomicU8>,
    /// What was done before this part of the work began, in per cent.
    before: u8,
}

impl Progress {
    /// The part of the work that is still to be done: its beginning is where this is now.
    #[must_use]
    pub fn rest(&self) -> Progress {
        Progress {
            percent: self.percent.clone(),
            before: self.percent(),
        }
    }

    /// How far it has come, in whole per cent of all the work.
    pub fn percent(&self) -> u8 {
        self.percent.load(Ordering::Relaxed)
    }

    /// So much of this part is done, which is so many per cent of all the work. Of nothing, all is done.
    pub fn done(&self, done: u64, of: u64, percent: u8) {
        let part = u64::from(percent.min(100).saturating_sub(self.before));
        let come = match of {
            0 => part,
            of => u64::try_from(u128::from(done.min(of)) * u128::from(part) / u128::from(of)).unwrap_or(part),
        };
        let percent = u8::try_from(come).unwrap_or(100).saturating_add(self.before);
        self.percent.fetch_max(percent, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_follow_each_other_and_nothing_goes_back() {
        let all = Progress::default();
        let mut seen = Vec::new();
        for (done, of) in [(0, 8), (4, 8), (2, 8), (8, 8), (u64::MAX, 8)] {
            all.done(done, of, 50);
            seen.push(all.percent());
        }
        let rest = all.rest();
        for (done, of) in [(0, u64::MAX), (u64::MAX / 2, u64::MAX), (0, 0)] {
            rest.done(done, of, 100);
            seen.push(all.percent());
        }
        assert_eq!(seen, [0, 25, 25, 50, 50, 50, 74, 100]);
    }
}
