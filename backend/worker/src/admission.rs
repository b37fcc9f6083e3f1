//! Admission of commands: whether one is new, repeated, or out of date. Pure.

use crate::{
    record::{CommandKind, Record},
    tombstones::Tombstone,
};

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

/// Judges a command of `generation` for an instance with this record, or with this tombstone in its place.
pub(crate) fn judge(
    record: Option<&Record>,
    tombstone: Option<Tombstone>,
    generation: u64,
    kind: CommandKind,
) -> Verdict {
    let tombstoned = tombstone.map_or(0, |stone| stone.generation);
    let newest = record.map_or(0, |r| r.generation).max(tombstoned);
    if generation < newest {
        return Verdict::Stale;
    }
    match record {
        // A change starts no guest. Done again it is the same again, and what came between may have been of the same
        // generation and without its devices.
        Some(record) if generation == record.applied && kind.wants_power() && !kind.is_change() => {
            Verdict::Done
        }
        _ => match tombstone.filter(|stone| stone.generation == generation) {
            // A destruction that was cut off still has its record and is done again.
            Some(stone) if stone.destroyed && kind == CommandKind::Destroy && record.is_none() => {
                Verdict::Done
            }
            Some(stone) if stone.destroyed && kind != CommandKind::Destroy => Verdict::Stale,
            // Stopped: to be told again, and not to be run.
            Some(_) if kind.wants_power() => Verdict::Stale,
            _ => Verdict::Do,
        },
    }
}

#[cfg(test)]
mod tests {
    use cumulet_domain::{
        id::{InstanceId, VpcId},
        message::{Change, Power},
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
            uid: None,
        }
    }

    fn stone(generation: u64, destroyed: bool) -> Tombstone {
        Tombstone {
            generation,
            destroyed,
        }
    }

    #[test]
    fn verdicts() {
        const STOP: CommandKind = CommandKind::Stop { force: false };
        const CHANGE: CommandKind = CommandKind::Change(Change::AttachVolume);
        for (seen, tombstone, generation, kind, verdict) in [
            (None, None, 1, CommandKind::Run, Verdict::Do),
            (Some((2, 2)), None, 1, CommandKind::Run, Verdict::Stale),
            (Some((2, 2)), None, 1, CommandKind::Destroy, Verdict::Stale),
            (Some((2, 2)), None, 2, CommandKind::Run, Verdict::Done),
            (Some((2, 2)), None, 2, CommandKind::Reboot, Verdict::Done),
            (Some((2, 2)), None, 2, CHANGE, Verdict::Do),
            (Some((2, 2)), None, 1, CHANGE, Verdict::Stale),
            (None, Some((3, true)), 3, CHANGE, Verdict::Stale),
            (None, Some((3, false)), 3, CHANGE, Verdict::Stale),
            (Some((2, 2)), None, 2, STOP, Verdict::Do),
            (Some((2, 1)), None, 2, CommandKind::Run, Verdict::Do),
            (Some((2, 1)), None, 1, CommandKind::Run, Verdict::Stale),
            (Some((2, 2)), None, 3, CommandKind::Run, Verdict::Do),
            (None, Some((3, true)), 2, CommandKind::Run, Verdict::Stale),
            (None, Some((3, true)), 3, CommandKind::Run, Verdict::Stale),
            (None, Some((3, true)), 3, STOP, Verdict::Stale),
            (None, Some((3, true)), 3, CommandKind::Destroy, Verdict::Done),
            (
                Some((3, 2)),
                Some((3, true)),
                3,
                CommandKind::Destroy,
                Verdict::Do,
            ),
            (None, Some((3, true)), 4, CommandKind::Run, Verdict::Do),
            (None, Some((3, false)), 2, CommandKind::Run, Verdict::Stale),
            (None, Some((3, false)), 3, CommandKind::Run, Verdict::Stale),
            (None, Some((3, false)), 3, STOP, Verdict::Do),
            (None, Some((3, false)), 3, CommandKind::Destroy, Verdict::Do),
            (None, Some((3, false)), 4, CommandKind::Run, Verdict::Do),
            (None, Some((3, false)), 4, CommandKind::Destroy, Verdict::Do),
        ] {
            let record = seen.map(|(g, a)| record(g, a));
            let tombstone = tombstone.map(|(generation, destroyed)| stone(generation, destroyed));
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
            let (mut seen, mut tombstone): (Option<Record>, Option<Tombstone>) = (None, None);
            let mut newest = 0;
            for (generation, kind) in commands {
                let kind = [CommandKind::Run, CommandKind::Stop { force: false }, CommandKind::Reboot, CommandKind::Destroy][usize::from(kind)];
                let verdict = judge(seen.as_ref(), tombstone, generation, kind);
                if generation < newest {
                    prop_assert_eq!(verdict, Verdict::Stale);
                }
                if verdict == Verdict::Do {
                    prop_assert!(generation >= newest);
                    newest = generation;
                    if kind == CommandKind::Destroy {
                        (seen, tombstone) = (None, Some(stone(generation, true)));
                    } else if kind == (CommandKind::Stop { force: false }) && seen.is_none() {
                        tombstone = Some(stone(generation, false));
                    } else {
                        seen = Some(record(generation, generation));
                    }
                }
            }
        }
    }
}
