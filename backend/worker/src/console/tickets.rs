//! Used console tokens and open consoles.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use cumulet_domain::{
    console::{ConsoleGrant, ConsoleKind, ConsoleRefusal},
    id::InstanceId,
    time::Timestamp,
};

use super::{lock, per_instance};

/// Tokens that are remembered; beyond, none are taken until some have expired.
const REMEMBERED: usize = 65_536;

/// See the module.
#[derive(Debug)]
pub(super) struct Tickets {
    /// Nothing is known of what was used before.
    since: Timestamp,
    sessions: usize,
    used: HashMap<[u8; 16], Timestamp>,
    open: HashMap<(InstanceId, ConsoleKind), usize>,
}

impl Tickets {
    pub(super) fn new(since: Timestamp, sessions: usize) -> Self {
        Tickets {
            since,
            sessions,
            used: HashMap::new(),
            open: HashMap::new(),
        }
    }

    /// A place for what a token grants. The token is used up by it.
    pub(super) fn take(
        this: &Arc<Mutex<Self>>,
        grant: &ConsoleGrant,
        now: Timestamp,
    ) -> Result<Seat, ConsoleRefusal> {
        let mut tickets = lock(this);
        // Before this process started it may have been used.
        if grant.issued < tickets.since || tickets.used.contains_key(&grant.nonce) {
            return Err(ConsoleRefusal::Used);
        }
        let whose = (grant.instance, grant.kind);
        let of_it = tickets.open.get(&whose).copied().unwrap_or_default();
        let all: usize = tickets.open.values().sum();
        if of_it >= per_instance(grant.kind) || all >= tickets.sessions {
            return Err(ConsoleRefusal::Busy);
        }
        if tickets.used.len() >= REMEMBERED {
            tickets.used.retain(|_, expires| *expires > now);
        }
        if tickets.used.len() >= REMEMBERED {
            return Err(ConsoleRefusal::Busy);
        }
        tickets.used.insert(grant.nonce, grant.expires);
        *tickets.open.entry(whose).or_default() += 1;
        Ok(Seat {
            tickets: this.clone(),
            whose,
        })
    }
}

/// An open console's place, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    tickets: Arc<Mutex<Tickets>>,
    whose: (InstanceId, ConsoleKind),
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut tickets = lock(&self.tickets);
        if let Some(count) = tickets.open.get_mut(&self.whose) {
            *count -= 1;
            if *count == 0 {
                tickets.open.remove(&self.whose);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(nonce: u8, instance: u64, kind: ConsoleKind) -> ConsoleGrant {
        ConsoleGrant {
            instance: InstanceId::new(instance),
            kind,
            address: String::new(),
            issued: Timestamp(1_000),
            expires: Timestamp(2_000),
            nonce: [nonce; 16],
        }
    }

    fn tickets(since: i64, sessions: usize) -> Arc<Mutex<Tickets>> {
        Arc::new(Mutex::new(Tickets::new(Timestamp(since), sessions)))
    }

    const NOW: Timestamp = Timestamp(1_500);

    #[test]
    fn a_token_is_taken_once_and_not_if_it_is_older_than_the_process() {
        let all = tickets(1_000, 9);
        let one = grant(1, 7, ConsoleKind::Serial);
        drop(Tickets::take(&all, &one, NOW).unwrap());
        assert_eq!(Tickets::take(&all, &one, NOW).unwrap_err(), ConsoleRefusal::Used);
        let again = tickets(1_001, 9);
        assert_eq!(
            Tickets::take(&again, &one, NOW).unwrap_err(),
            ConsoleRefusal::Used
        );
    }

    #[test]
    fn a_console_has_so_many_places_and_gives_them_back() {
        let all = tickets(0, 9);
        let seat = Tickets::take(&all, &grant(1, 7, ConsoleKind::Serial), NOW).unwrap();
        let second = grant(2, 7, ConsoleKind::Serial);
        assert_eq!(
            Tickets::take(&all, &second, NOW).unwrap_err(),
            ConsoleRefusal::Busy
        );
        // Refused for want of a place, the token is still good.
        drop(seat);
        drop(Tickets::take(&all, &second, NOW).unwrap());
        assert!(lock(&all).open.is_empty());
        let vnc: Vec<_> = (10..14)
            .map(|n| Tickets::take(&all, &grant(n, 7, ConsoleKind::Vnc), NOW).unwrap())
            .collect();
        let more = Tickets::take(&all, &grant(20, 7, ConsoleKind::Vnc), NOW);
        assert_eq!(more.unwrap_err(), ConsoleRefusal::Busy);
        drop(vnc);
    }

    #[test]
    fn a_host_has_so_many_places() {
        let all = tickets(0, 2);
        let serial = |n: u8| Tickets::take(&all, &grant(n, n.into(), ConsoleKind::Serial), NOW);
        let (_one, _two) = (serial(1).unwrap(), serial(2).unwrap());
        assert_eq!(serial(3).unwrap_err(), ConsoleRefusal::Busy);
    }

    #[test]
    fn what_has_expired_is_forgotten_when_there_is_much() {
        let all = tickets(0, 2);
        let later = Timestamp(5_000);
        {
            let mut tickets = lock(&all);
            for n in 0..REMEMBERED {
                let mut nonce = [0; 16];
                nonce[..8].copy_from_slice(&n.to_be_bytes());
                nonce[15] = 1;
                tickets.used.insert(nonce, Timestamp(2_000));
            }
        }
        let one = grant(9, 7, ConsoleKind::Serial);
        assert_eq!(Tickets::take(&all, &one, NOW).unwrap_err(), ConsoleRefusal::Busy);
        drop(Tickets::take(&all, &one, later).unwrap());
        assert_eq!(lock(&all).used.len(), 1);
    }
}
