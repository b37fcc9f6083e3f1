//! User numbers of guests: each instance of the host has one of its own, out of a range that nobody else uses, so that
//! a guest that gets out of its emulator is nobody to its neighbours. Kept in the instance's record, derived from its
//! id, and free again when nothing of the instance is left.

use std::{
    collections::HashMap,
    ops::RangeInclusive,
    sync::{Mutex, PoisonError},
};

use cumulet_domain::id::InstanceId;

use crate::record::Record;

/// The numbers of a host's instances.
#[derive(Debug)]
pub(crate) struct Uids {
    /// `None`: guests run as the hypervisor's own user.
    range: Option<RangeInclusive<u32>>,
    taken: Mutex<HashMap<u32, InstanceId>>,
}

impl Uids {
    /// The numbers that the instances have which are there.
    pub(crate) fn new<'r>(
        range: Option<RangeInclusive<u32>>,
        records: impl IntoIterator<Item = &'r Record>,
    ) -> Uids {
        let taken = records
            .into_iter()
            .filter_map(|record| Some((record.uid?, record.instance)));
        Uids {
            taken: Mutex::new(taken.collect()),
            range,
        }
    }

    /// The instance's number: the one that it has, if that is in the range yet and its alone, or else the first free
    /// one from where its id points to. `Ok(None)` where guests have none of their own.
    ///
    /// # Errors
    /// That all are taken, in words.
    pub(crate) fn assign(&self, id: InstanceId, has: Option<u32>) -> Result<Option<u32>, String> {
        let Some(range) = &self.range else { return Ok(None) };
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let its =
            |taken: &HashMap<u32, InstanceId>, uid: u32| taken.get(&uid).is_none_or(|other| *other == id);
        if let Some(uid) = has.filter(|uid| range.contains(uid) && its(&taken, *uid)) {
            taken.insert(uid, id);
            return Ok(Some(uid));
        }
        let (first, count) = (*range.start(), u64::from(*range.end() - *range.start()) + 1);
        // Multiplied by 2^64 over the golden ratio: neighbours come to lie apart.
        let start = id.number().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let mut places = (0..count).filter_map(|n| u32::try_from((start + n) % count).ok());
        let uid = places.find_map(|place| Some(first + place).filter(|uid| its(&taken, *uid)));
        let uid = uid.ok_or_else(|| format!("all {count} user numbers of guests are taken"))?;
        taken.insert(uid, id);
        Ok(Some(uid))
    }

    /// Nothing of the instance is left.
    pub(crate) fn free(&self, id: InstanceId) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.retain(|_, owner| *owner != id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::instance;

    #[test]
    fn each_instance_has_a_number_of_its_own_and_keeps_it() {
        let uids = Uids::new(Some(1000..=1003), []);
        let mut seen: Vec<u32> = (0..4)
            .map(|n| uids.assign(instance(n), None).unwrap().unwrap())
            .collect();
        let again: Vec<u32> = (0..4)
            .map(|n| {
                uids.assign(instance(n), Some(seen[usize::from(n)]))
                    .unwrap()
                    .unwrap()
            })
            .collect();
        assert_eq!(again, seen);
        assert!(uids.assign(instance(9), None).is_err(), "a fifth of four");
        uids.free(instance(2));
        assert_eq!(uids.assign(instance(9), None), Ok(Some(seen[2])));
        seen.sort_unstable();
        assert_eq!(seen, [1000, 1001, 1002, 1003]);
        // What another has by now, or what is not in the range any more, is not kept.
        let other = uids.assign(instance(3), Some(1000)).unwrap();
        assert!(other.is_some());
        assert!(
            Uids::new(Some(5..=6), [])
                .assign(instance(1), Some(1000))
                .unwrap()
                .is_some_and(|uid| uid < 7)
        );
        assert_eq!(Uids::new(None, []).assign(instance(1), Some(1000)), Ok(None));
    }

    #[test]
    fn the_same_id_points_to_the_same_number() {
        let of = |n| Uids::new(Some(7..=70_000), []).assign(instance(n), None);
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
    }
}
