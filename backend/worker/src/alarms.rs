//! Alarms about security policies: VPCs whose policy could not be enforced as it was last told. They are counted, told
//! with each heartbeat, and over with the next success; such a policy is never reported as applied.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use cumulet_domain::id::VpcId;

/// A complaint in an alarm at the most, in characters.
const COMPLAINT: usize = 300;

/// The policies that are not enforced.
#[derive(Debug, Default)]
pub(crate) struct Alarms {
    failures: AtomicU64,
    failing: Mutex<BTreeMap<VpcId, String>>,
}

impl Alarms {
    /// Notes how it went to bring a VPC to its policy.
    pub(crate) fn noted<T, E: std::fmt::Display>(&self, vpc: VpcId, done: Result<T, E>) -> Result<T, E> {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        match &done {
            Ok(_) => {
                if failing.remove(&vpc).is_some() {
                    tracing::warn!(%vpc, "the policy is enforced again");
                }
            }
            Err(error) => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                let text: String = error.to_string().chars().take(COMPLAINT).collect();
                tracing::error!(%vpc, error = text, "ALARM: a policy is not enforced: a revoked rule may be open");
                failing.insert(vpc, text);
            }
        }
        done
    }

    /// The VPCs that are not as they should be now.
    pub(crate) fn failing(&self) -> Vec<VpcId> {
        let failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        failing.keys().copied().collect()
    }

    /// Failures since the start, and VPCs that are not as they should be now.
    pub(crate) fn read(&self) -> (u64, usize) {
        let failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        (self.failures.load(Ordering::Relaxed), failing.len())
    }

    /// The same in words.
    pub(crate) fn sentences(&self) -> Vec<String> {
        let failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        let sentence = |(vpc, why): (&VpcId, &String)| format!("the policy of {vpc} is not enforced: {why}");
        failing.iter().map(sentence).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_stands_until_the_policy_is_enforced() {
        let (alarms, vpc) = (Alarms::default(), VpcId::new(7));
        let fails = |why: &str| alarms.noted(vpc, Err::<(), _>(why.to_owned()));
        assert!(fails("nft failed").is_err() && fails(&"x".repeat(9000)).is_err());
        assert_eq!(alarms.read(), (2, 1));
        let told = alarms.sentences();
        assert!(
            told.len() == 1 && told[0].contains("is not enforced") && told[0].len() < 500,
            "{told:?}"
        );
        assert_eq!(alarms.noted(vpc, Ok::<_, String>(3)), Ok(3));
        assert_eq!((alarms.read(), alarms.sentences()), ((2, 0), Vec::new()));
    }
}
