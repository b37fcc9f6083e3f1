//! Decides what a command that has come is: news, a repetition, or out of date. Pure.

use crate::record::{Kind, Record};

/// What a command is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// To be carried out (perhaps again, after it failed or was cut off).
    Do,
    /// It was carried out already: only its outcome is told again. A guest that went off by itself since
    /// is not started by a message that came twice.
    Done,
    /// Something newer was seen: it is dropped.
    Stale,
}

/// Judges a command of `generation` for an instance with this record, or whose record was destroyed at
/// generation `tombstone`.
pub(crate) fn judge(record: Option<&Record>, tombstone: Option<u64>, generation: u64, kind: Kind) -> Verdict {
    let newest = record.map_or(0, |r| r.generation).max(tombstone.unwrap_or(0));
    if generation < newest {
        return Verdict::Stale;
    }
    match record {
        Some(record) if generation == record.applied && kind.wants_power() => Verdict::Done,
        // A destruction that was cut off still has its record and is done again.
        None if tombstone == Some(generation) && kind == Kind::Destroy => Verdict::Done,
        _ if tombstone == Some(generation) && kind != Kind::Destroy => Verdict::Stale,
        _ => Verdict::Do,
    }
}

#[cfg(test)]
mod tests {
    use cumulet_domain::{
        id::{InstanceId, VpcId},
        message::Power,
    };
    use proptest::prelude::*;

    use super::*;

    fn record(generation: u64, applied: u64) -> Record {
        Record {
            instance: InstanceId::new(1 << 40),
            generation,
            applied,
            wants_power: true,
            power: Power::On,
            off_reason: None,
            pending: None,
            vpc: VpcId::new(1 << 40),
            interfaces: vec![],
        }
    }

    #[test]
    fn verdicts() {
        const STOP: Kind = Kind::Stop { force: false };
        for (seen, tombstone, generation, kind, verdict) in [
            (None, None, 1, Kind::Run, Verdict::Do),
            (Some((2, 2)), None, 1, Kind::Run, Verdict::Stale),
            (Some((2, 2)), None, 1, Kind::Destroy, Verdict::Stale),
            (Some((2, 2)), None, 2, Kind::Run, Verdict::Done),
            (Some((2, 2)), None, 2, Kind::Reboot, Verdict::Done),
            (Some((2, 2)), None, 2, STOP, Verdict::Do),
            (Some((2, 1)), None, 2, Kind::Run, Verdict::Do),
            (Some((2, 1)), None, 1, Kind::Run, Verdict::Stale),
            (Some((2, 2)), None, 3, Kind::Run, Verdict::Do),
            (None, Some(3), 2, Kind::Run, Verdict::Stale),
            (None, Some(3), 3, Kind::Run, Verdict::Stale),
            (None, Some(3), 3, Kind::Destroy, Verdict::Done),
            (None, Some(3), 4, Kind::Run, Verdict::Do),
        ] {
            let record = seen.map(|(g, a)| record(g, a));
            assert_eq!(
                judge(record.as_ref(), tombstone, generation, kind),
                verdict,
                "{seen:?} {tombstone:?} {generation} {kind:?}"
            );
        }
    }

    proptest! {
        /// Whatever comes in whatever order, a newer thing is never undone by an older one.
        #[test]
        fn older_commands_never_act(commands in prop::collection::vec((1_u64..20, 0_u8..4), 1..60)) {
            let (mut seen, mut tombstone): (Option<Record>, Option<u64>) = (None, None);
            let mut newest = 0;
            for (generation, kind) in commands {
                let kind = [Kind::Run, Kind::Stop { force: false }, Kind::Reboot, Kind::Destroy][usize::from(kind)];
                let verdict = judge(seen.as_ref(), tombstone, generation, kind);
                if generation < newest {
                    prop_assert_eq!(verdict, Verdict::Stale);
                }
                if verdict == Verdict::Do {
                    prop_assert!(generation >= newest);
                    newest = generation;
                    if kind == Kind::Destroy {
                        (seen, tombstone) = (None, Some(generation));
                    } else {
                        seen = Some(record(generation, generation));
                    }
                }
            }
        }
    }
}
