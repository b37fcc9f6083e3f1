//! The message envelope: JSON, `{"v": 1, "kind": "command", "body": …}`.
//!
//! `v` is higher where an old program could misread what a new one writes; such a message is refused there. It is
//! that of the message and not of the program: what always could be said is still of version 1, so that old and new
//! programs understand each other while a cloud is upgraded. Within a version, fields are only added, with defaults:
//! unknown ones are skipped. A variant of an enumeration that is not known is refused, as it can't be obeyed.

use cumulet_domain::message::NEWEST_VERSION;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// The version of what every program understands.
pub(super) const FIRST: u32 = 1;

/// The newest version that is understood here.
const NEWEST: u32 = NEWEST_VERSION;

/// What is read at the most.
const LIMIT: usize = 16 << 20;

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Command,
    Query,
    Report,
    Wakeup,
}

impl Kind {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Kind::Command => "command",
            Kind::Query => "query",
            Kind::Report => "report",
            Kind::Wakeup => "tap",
        }
    }

    fn from_name(name: &str) -> Option<Kind> {
        [Kind::Command, Kind::Query, Kind::Report, Kind::Wakeup]
            .into_iter()
            .find(|kind| kind.name() == name)
    }
}

/// Why a message can't be understood.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unreadable {
    #[error("it is of version {0}, and no more than {NEWEST} is understood here")]
    Version(u32),
    #[error("it is of kind {0:?}, which is not known here")]
    Kind(String),
    #[error("it is {0} bytes long")]
    Long(usize),
    #[error("{0}")]
    Text(String),
}

#[derive(Serialize)]
struct Written<'a, T> {
    v: u32,
    kind: &'a str,
    body: &'a T,
}

#[derive(Deserialize)]
struct Head {
    v: u32,
    kind: String,
}

#[derive(Deserialize)]
struct Body<T> {
    body: T,
}

/// Writes a message that takes this version to understand.
pub(super) fn write<T: Serialize>(kind: Kind, v: u32, body: &T) -> serde_json::Result<Vec<u8>> {
    let kind = kind.name();
    serde_json::to_vec(&Written { v, kind, body })
}

/// What kind of message this is, if its version is understood.
pub(super) fn kind(text: &[u8]) -> Result<Kind, Unreadable> {
    if text.len() > LIMIT {
        return Err(Unreadable::Long(text.len()));
    }
    let head: Head = serde_json::from_slice(text).map_err(|e| Unreadable::Text(e.to_string()))?;
    if !(FIRST..=NEWEST).contains(&head.v) {
        return Err(Unreadable::Version(head.v));
    }
    let short: String = head.kind.chars().take(64).collect();
    Kind::from_name(&head.kind).ok_or(Unreadable::Kind(short))
}

/// Reads a message of a kind that has been looked at.
pub(super) fn body<T: DeserializeOwned>(text: &[u8]) -> Result<T, Unreadable> {
    let read: Body<T> = serde_json::from_slice(text).map_err(|e| Unreadable::Text(e.to_string()))?;
    Ok(read.body)
}

/// Reads a message that has to be of this kind.
pub(super) fn read<T: DeserializeOwned>(wanted: Kind, text: &[u8]) -> Result<T, Unreadable> {
    match kind(text)? {
        found if found == wanted => body(text),
        other => Err(Unreadable::Kind(other.name().into())),
    }
}

#[cfg(test)]
mod tests {
    use cumulet_domain::message::{Action, Command, Query, Report, ReportContent};

    use super::*;
    use crate::Wakeup;

    /// What version 1 looks like: one message a line. Never changed; new shapes get new lines.
    const VECTORS: &str = include_str!("../../tests/vectors/v1.jsonl");

    /// And what only version 2 says.
    const VECTORS_2: &str = include_str!("../../tests/vectors/v2.jsonl");

    /// And only version 3.
    const VECTORS_3: &str = include_str!("../../tests/vectors/v3.jsonl");

    /// And only version 4.
    const VECTORS_4: &str = include_str!("../../tests/vectors/v4.jsonl");

    /// And only version 5.
    const VECTORS_5: &str = include_str!("../../tests/vectors/v5.jsonl");

    /// And only version 6.
    const VECTORS_6: &str = include_str!("../../tests/vectors/v6.jsonl");

    #[test]
    fn every_message_that_version_1_ever_wrote_is_understood() {
        let mut seen = 0;
        for line in VECTORS.lines() {
            let text = line.as_bytes();
            match kind(text).unwrap() {
                Kind::Command => drop(body::<Command>(text).unwrap()),
                Kind::Query => drop(body::<Query>(text).unwrap()),
                Kind::Report => drop(body::<Report>(text).unwrap()),
                Kind::Wakeup => assert_eq!(body::<Wakeup>(text).unwrap(), Wakeup::Work),
            }
            seen += 1;
        }
        assert!(seen >= 10, "{seen}");
    }

    /// A run that names disks and interfaces, beside what they were before: its version is the lowest that says it.
    #[test]
    fn a_run_is_of_the_lowest_version_that_says_it() {
        let mut seen = Vec::new();
        for line in [VECTORS, VECTORS_2, VECTORS_3].iter().flat_map(|all| all.lines()) {
            if kind(line.as_bytes()).unwrap() != Kind::Command {
                continue;
            }
            let command: Command = body(line.as_bytes()).unwrap();
            if let Action::Run { spec, .. } = &command.action {
                let written = write(Kind::Command, command.version(), &command).unwrap();
                assert_eq!(read::<Command>(Kind::Command, &written).unwrap(), command);
                let head: Head = serde_json::from_slice(&written).unwrap();
                let came: Head = serde_json::from_str(line).unwrap();
                assert_eq!((head.v, came.v), (command.version(), command.version()));
                seen.push((head.v, spec.disks.len(), spec.nics.len()));
            }
        }
        assert_eq!(seen, [(1, 1, 1), (1, 1, 1), (2, 2, 1), (3, 2, 1)]);
    }

    /// What a newer version alone says is never said as an older one, and is understood here.
    #[test]
    fn what_only_a_version_says_is_never_said_as_less() {
        let said = |action: &Action| match action {
            Action::Run { .. } => "run",
            Action::Change { .. } => "change",
            Action::DeleteVolume { .. } => "delete-volume",
            Action::TakeSnapshots(_) => "take-snapshots",
            Action::Destroy { .. } => "destroy",
            _ => "something else",
        };
        let take = "take-snapshots";
        let versions = [
            (2, VECTORS_2, vec!["run", "change", "delete-volume"]),
            (3, VECTORS_3, vec!["run", "change", take, take]),
            (4, VECTORS_4, vec!["run", take]),
            (5, VECTORS_5, vec!["destroy", "destroy"]),
            (6, VECTORS_6, vec!["run", "change", "delete-volume", take]),
        ];
        assert_eq!(versions.last().map(|(version, ..)| *version), Some(NEWEST));
        for (version, vectors, expected) in versions {
            let mut seen = Vec::new();
            for line in vectors.lines() {
                if kind(line.as_bytes()).unwrap() == Kind::Report {
                    // What answers it is said by those alone who were told it.
                    drop(body::<Report>(line.as_bytes()).unwrap());
                    continue;
                }
                let head: Head = serde_json::from_str(line).unwrap();
                let command: Command = body(line.as_bytes()).unwrap();
                assert_eq!((head.v, command.version()), (version, version), "{line}");
                let written = write(Kind::Command, command.version(), &command).unwrap();
                assert_eq!(read::<Command>(Kind::Command, &written).unwrap(), command);
                seen.push(said(&command.action));
            }
            assert_eq!(seen, expected, "version {version}");
        }
    }

    /// Workers learnt to tell more as time went on; those that have not are understood.
    #[test]
    fn a_heartbeat_of_an_older_worker_tells_nothing_of_what_its_host_is() {
        let lines = VECTORS.lines().filter(|line| line.contains("\"heartbeat\""));
        let heartbeats: Vec<_> = lines
            .map(|line| match body::<Report>(line.as_bytes()).unwrap().content {
                ReportContent::Heartbeat(heartbeat) => *heartbeat,
                other => panic!("{other:?}"),
            })
            .collect();
        let [old, new] = heartbeats.as_slice() else {
            panic!("{heartbeats:?}");
        };
        assert_eq!((&old.profile, old.metrics.len()), (&None, 0));
        let profile = new.profile.as_deref().unwrap();
        assert_eq!(profile.architecture.as_deref(), Some("x86_64"));
        assert_eq!(profile.capabilities["hypervisor_type"], "QEMU");
        assert_eq!(new.metrics["cpu.percent"], 3);
        assert_eq!(old.resources, new.resources);
    }

    /// What a host reaches it may always tell: whoever does not know of it has nothing to go by.
    #[test]
    fn a_heartbeat_tells_of_the_pool_that_its_host_reaches() {
        let told = |vectors: &str| {
            let line = vectors
                .lines()
                .rfind(|line| line.contains("\"heartbeat\""))
                .unwrap();
            match body::<Report>(line.as_bytes()).unwrap().content {
                ReportContent::Heartbeat(heartbeat) => heartbeat.rbd,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(told(VECTORS), None);
        let pool = "8a3c1f0e-1111-4222-8333-0123456789ab/cumulet";
        assert_eq!(told(VECTORS_6).as_deref(), Some(pool));
    }

    #[test]
    fn what_is_written_is_read_and_unknown_fields_are_skipped() {
        let text = write(Kind::Wakeup, FIRST, &Wakeup::Hosts).unwrap();
        assert_eq!(text, br#"{"v":1,"kind":"tap","body":"hosts"}"#);
        assert_eq!(read::<Wakeup>(Kind::Wakeup, &text), Ok(Wakeup::Hosts));
        let more = br#"{"trace":[1],"v":1,"kind":"tap","body":"work"}"#;
        assert_eq!(read::<Wakeup>(Kind::Wakeup, more), Ok(Wakeup::Work));
    }

    #[test]
    fn what_can_not_be_understood_is_refused() {
        let read = |text: &str| read::<Wakeup>(Kind::Wakeup, text.as_bytes());
        assert_eq!(
            read(r#"{"v":7,"kind":"tap","body":{"new":"shape"}}"#),
            Err(Unreadable::Version(7))
        );
        assert_eq!(
            read(r#"{"v":0,"kind":"tap","body":"work"}"#),
            Err(Unreadable::Version(0))
        );
        assert_eq!(
            read(r#"{"v":1,"kind":"song","body":1}"#),
            Err(Unreadable::Kind("song".into()))
        );
        assert_eq!(
            read(r#"{"v":1,"kind":"query","body":1}"#),
            Err(Unreadable::Kind("query".into()))
        );
        let variant = read(r#"{"v":1,"kind":"tap","body":"louder"}"#).unwrap_err();
        assert!(
            variant.to_string().contains("unknown variant `louder`"),
            "{variant}"
        );
        assert!(matches!(read("{"), Err(Unreadable::Text(_))));
        assert!(matches!(kind(&vec![b' '; LIMIT + 1]), Err(Unreadable::Long(_))));
    }
}
