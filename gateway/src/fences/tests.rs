//! Shares of accounts and keys.

use cumulet_domain::account::Role;

use super::*;

const NOW: Timestamp = Timestamp(1_767_323_045_000);

fn who(account: u64, key: &str) -> Principal {
    Principal {
        account: AccountId(account),
        user_id: "AIDAX".into(),
        user_name: "admin".into(),
        access_key_id: key.into(),
        role: Role::Administrator,
    }
}

fn share(in_flight: u32, per_second: u32, burst: u32) -> Share {
    Share {
        in_flight,
        rate: Rate { per_second, burst },
    }
}

fn admitted(fences: &Fences, who: &Principal, cost: u32, now: Timestamp) -> usize {
    (0..1000)
        .filter(|_| fences.admit(who, 1, cost, now).is_ok())
        .count()
}

#[test]
fn an_account_has_its_rate_whatever_keys_it_uses_and_takes_nothing_of_others() {
    let fences = Fences::new(RequestLimits {
        account: share(0, 10, 100),
        key: share(0, 10, 60),
    });
    assert_eq!(admitted(&fences, &who(1, "a"), 1, NOW), 60);
    assert_eq!(admitted(&fences, &who(1, "b"), 1, NOW), 40);
    // What the account refused was not taken from the key.
    let later = Timestamp(NOW.0 + 1000);
    assert_eq!(admitted(&fences, &who(1, "b"), 1, later), 10);
    assert_eq!(admitted(&fences, &who(2, "a"), 2, NOW), 30);
    let fault = fences.admit(&who(2, "a"), 1, 1, NOW).unwrap_err().answer();
    assert_eq!(
        (&*fault.code, fault.status, &*fault.message),
        ("RequestLimitExceeded", 503, "Request limit exceeded.")
    );
}

#[test]
fn so_much_is_in_flight_at_once() {
    let fences = Fences::new(RequestLimits {
        account: share(30, 0, 0),
        key: share(20, 0, 0),
    });
    let (a, b) = (who(1, "a"), who(1, "b"));
    let admit = |who: &Principal, weight| fences.admit(who, weight, 1, NOW);
    let first = admit(&a, 15).unwrap();
    assert!(admit(&a, 6).is_err());
    let second = admit(&a, 5).unwrap();
    assert!(admit(&b, 11).is_err());
    let third = admit(&b, 10).unwrap();
    drop(first);
    assert!(admit(&a, 15).is_ok());
    drop((second, third));
    // What weighs more than there may be goes alone.
    let heavy = admit(&a, 1000).unwrap();
    assert!(admit(&b, 1).is_err());
    drop(heavy);
    assert!(admit(&b, 1).is_ok());
}

#[test]
fn work_is_charged_afterwards() {
    let fences = Fences::new(RequestLimits {
        account: share(0, 10, 100),
        key: share(0, 10, 100),
    });
    let admission = fences.admit(&who(1, "a"), 1, 1, NOW).unwrap();
    admission.meter().charge(99, NOW);
    assert!(fences.admit(&who(1, "a"), 1, 1, NOW).is_err());
    assert!(fences.admit(&who(1, "b"), 1, 1, NOW).is_err());
    assert!(fences.admit(&who(1, "b"), 1, 1, Timestamp(NOW.0 + 100)).is_ok());
}

#[test]
fn accounts_at_rest_are_forgotten() {
    let fences = Fences::new(RequestLimits::default());
    let later = Timestamp(NOW.0 + 60_000);
    for n in 0..(SHARDS * MANY * 2) as u64 {
        let now = if n < (SHARDS * MANY) as u64 { NOW } else { later };
        fences.admit(&who(n, "a"), 1, 1, now).unwrap();
    }
    let kept: usize = fences.shards.iter().map(|shard| lock(shard).len()).sum();
    assert!(kept <= SHARDS * MANY, "{kept}");
}
