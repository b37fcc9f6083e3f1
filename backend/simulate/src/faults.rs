//! The fault mix of a run: which kinds of faults, and how often each.

use std::{fmt, str::FromStr};

use serde::Serialize;

use crate::dice::Dice;

/// The kinds of faults that are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FaultKinds {
    /// Nothing goes wrong.
    None,
    /// Some of all kinds, another choice for each seed.
    Default,
    /// These, in every run.
    These(Vec<FaultKind>),
}

macro_rules! kinds {
    ($($variant:ident $name:literal $doc:literal)*) => {
        /// A kind of fault.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum FaultKind {
            $(#[doc = $doc] $variant,)*
        }

        impl FaultKind {
            /// Every kind, with its name and what it is.
            pub const ALL: &'static [(FaultKind, &'static str, &'static str)] =
                &[$((FaultKind::$variant, $name, $doc),)*];
        }
    };
}

kinds! {
    Loss "loss" "Messages get lost."
    Repeat "repeat" "Messages come two to ten times."
    Reorder "reorder" "Messages overtake each other by seconds."
    Delay "delay" "Messages come minutes late, or an hour."
    Partition "partition" "Hosts are cut off for a while."
    Kill "kill" "API and conductor are killed: at any time, and at their crash points."
    Worker "worker" "Workers are killed, or stand still for a while."
    Host "host" "Hosts lose power and come back."
    Hypervisor "hypervisor" "Steps on hosts fail, for now or for good."
    Guest "guest" "Guests crash, power themselves off, or don't listen."
    Clock "clock" "All clocks are set by up to an hour; hosts' clocks differ by seconds."
    Database "database" "Transactions fail, or succeed and say that they have failed."
    Slow "slow" "Hypervisors are slow for a while, some from the start, never for as long as an operation may take."
}

impl fmt::Display for FaultKinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |kind: &FaultKind| {
            FaultKind::ALL
                .iter()
                .find(|(known, ..)| known == kind)
                .map_or("", |(_, name, _)| name)
        };
        match self {
            FaultKinds::None => f.write_str("none"),
            FaultKinds::Default => f.write_str("default"),
            FaultKinds::These(these) => f.write_str(&these.iter().map(name).collect::<Vec<_>>().join(",")),
        }
    }
}

impl FromStr for FaultKinds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "none" => return Ok(FaultKinds::None),
            "default" => return Ok(FaultKinds::Default),
            _ => {}
        }
        let named = |name: &str| {
            let kind = FaultKind::ALL.iter().find(|(_, known, _)| *known == name);
            let names: Vec<_> = FaultKind::ALL.iter().map(|(_, name, _)| *name).collect();
            kind.map(|(kind, ..)| *kind)
                .ok_or_else(|| format!("{name:?} is not one of none, default, {}", names.join(", ")))
        };
        text.split(',')
            .map(named)
            .collect::<Result<_, _>>()
            .map(FaultKinds::These)
    }
}

/// FaultKinds that are chosen after the others and their numbers, in the order in which they came to be: the runs that a seed
/// had without them are the same as before.
const LATER: [FaultKind; 1] = [FaultKind::Slow];

/// How often things go wrong: shares of all messages, steps or transactions, and times in an hour.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[allow(missing_docs)] // each is explained by its kind
pub struct Faults {
    pub loss: f64,
    pub repeat: f64,
    pub reorder: f64,
    pub delay: f64,
    pub partitions: u64,
    /// Share of crash points that kill, when they are passed.
    pub kill_at: f64,
    pub kills: u64,
    pub worker_kill_at: f64,
    pub freezes: u64,
    pub power_cuts: u64,
    pub step_fails: f64,
    pub step_refused: f64,
    pub guest_crashes: u64,
    pub deaf_guests: f64,
    pub clock_jumps: u64,
    pub clock_skew: u64,
    pub database_fails: f64,
    pub database_lies: f64,
    /// Share of hosts that have slow spells.
    pub slow_hosts: f64,
    /// Share of those whose first spell is there from the start.
    pub slow_at_start: f64,
}

impl Faults {
    /// A choice of these kinds; all of them where the operator has named them, and a choice where not.
    pub(crate) fn choose(kinds: &FaultKinds, dice: &Dice) -> Self {
        let mut faults = Faults::default();
        let wanted: Vec<FaultKind> = match kinds {
            FaultKinds::None => return faults,
            FaultKinds::These(these) => these.clone(),
            FaultKinds::Default => {
                let all = FaultKind::ALL.iter().map(|(kind, ..)| *kind);
                let first = all.filter(|kind| !LATER.contains(kind));
                first.filter(|_| dice.chance(0.4)).collect()
            }
        };
        for kind in wanted {
            faults.add(kind, dice);
        }
        if *kinds == FaultKinds::Default {
            for kind in LATER {
                if dice.chance(0.4) {
                    faults.add(kind, dice);
                }
            }
        }
        faults
    }

    /// Whether nothing goes wrong but that hypervisors are slow for a while.
    pub(crate) fn is_only_slow(&self) -> bool {
        let but_slow = Faults {
            slow_hosts: 0.0,
            slow_at_start: 0.0,
            ..self.clone()
        };
        self.slow_hosts > 0.0 && but_slow == Faults::default()
    }

    fn add(&mut self, kind: FaultKind, dice: &Dice) {
        #[allow(clippy::cast_precision_loss)] // small numbers
        let share = |per_mille: std::ops::Range<u64>| dice.number(per_mille) as f64 / 1000.0;
        match kind {
            FaultKind::Loss => self.loss = share(10..400),
            FaultKind::Repeat => self.repeat = share(10..500),
            FaultKind::Reorder => self.reorder = share(10..500),
            FaultKind::Delay => self.delay = share(5..50),
            FaultKind::Partition => self.partitions = dice.number(30..200),
            FaultKind::Kill => (self.kill_at, self.kills) = (share(1..60), dice.number(20..200)),
            FaultKind::Worker => (self.worker_kill_at, self.freezes) = (share(1..60), dice.number(20..100)),
            FaultKind::Host => self.power_cuts = dice.number(20..100),
            FaultKind::Hypervisor => (self.step_fails, self.step_refused) = (share(5..100), share(0..10)),
            FaultKind::Guest => {
                (self.guest_crashes, self.deaf_guests) = (dice.number(30..400), share(0..500))
            }
            FaultKind::Clock => {
                (self.clock_jumps, self.clock_skew) = (dice.number(20..60), dice.number(0..3000))
            }
            FaultKind::Slow => (self.slow_hosts, self.slow_at_start) = (share(300..1000), share(0..1000)),
            FaultKind::Database => (self.database_fails, self.database_lies) = (share(5..100), share(0..50)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_read_by_name() {
        assert_eq!("none".parse(), Ok(FaultKinds::None));
        assert_eq!("default".parse(), Ok(FaultKinds::Default));
        let these = "loss,host".parse();
        assert_eq!(
            these,
            Ok(FaultKinds::These(vec![FaultKind::Loss, FaultKind::Host]))
        );
        let wrong = "losses".parse::<FaultKinds>().unwrap_err();
        assert!(wrong.contains("loss, repeat"), "{wrong}");
    }

    #[test]
    fn only_slow_is_only_slow() {
        let choose = |kinds: &str| Faults::choose(&kinds.parse().unwrap(), &Dice::new(7));
        assert!(choose("slow").is_only_slow());
        for other in ["slow,loss", "loss", "none"] {
            assert!(!choose(other).is_only_slow(), "{other}");
        }
    }

    #[test]
    fn a_choice_depends_on_the_seed_alone() {
        let choose = |seed| Faults::choose(&FaultKinds::Default, &Dice::new(seed));
        assert_eq!(choose(7), choose(7));
        assert!((0..50).any(|seed| choose(seed) != choose(7)));
        assert_eq!(
            Faults::choose(&FaultKinds::None, &Dice::new(1)),
            Faults::default()
        );
    }
}
