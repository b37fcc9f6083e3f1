//! The states of snapshots, in EC2's terms, and what is said of their data.

use serde::{Deserialize, Serialize};

use crate::{
    Error, Result,
    id::{SnapshotId, VolumeId},
    named,
};

/// Characters of a description at the most, as on EC2.
const MAX_DESCRIPTION: usize = 255;

/// The volume of a copy: none. (On EC2, too, it is an arbitrary one.)
pub const NO_VOLUME: VolumeId = VolumeId::new(0xffff_ffff);

named! {
    /// Where a snapshot is in its life.
    SnapshotState {
        Pending = "pending",
        Completed = "completed",
        Error = "error",
    }
}

/// The most that is told of a snapshot which is not whole, in per cent.
pub const MAX_PROGRESS: u8 = 99;

impl SnapshotState {
    /// How far a snapshot has come, as EC2 shows it, where its host has told so many per cent.
    pub fn progress(self, told: Option<u8>) -> String {
        let percent = match self {
            SnapshotState::Completed => 100,
            SnapshotState::Pending | SnapshotState::Error => told.unwrap_or(0).min(MAX_PROGRESS),
        };
        format!("{percent}%")
    }
}

/// How far a host has come with the taking of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotProgress {
    /// Which snapshot.
    pub id: SnapshotId,
    /// In per cent, [`MAX_PROGRESS`] at the most.
    pub percent: u8,
}

/// A snapshot's data, as a host finds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotRef {
    /// Which snapshot.
    pub id: SnapshotId,
    /// The SHA-256 of its manifest, in 64 lower-case hexadecimal digits.
    pub manifest: String,
}

/// A snapshot that a host has taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenSnapshot {
    /// Which snapshot.
    pub id: SnapshotId,
    /// The SHA-256 of the manifest.
    pub manifest: String,
    /// The bytes of the snapshot's blocks that were not kept before.
    pub fresh_bytes: u64,
    /// The bytes of all of its blocks.
    pub bytes: u64,
}

/// Whether a text is a SHA-256 in 64 lower-case hexadecimal digits.
pub fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Checks the description of a snapshot.
///
/// # Errors
/// `InvalidParameter`.
pub fn check_description(text: &str) -> Result<()> {
    if text.chars().count() <= MAX_DESCRIPTION {
        return Ok(());
    }
    let reason = format!("a description has {MAX_DESCRIPTION} characters at the most");
    Err(Error::invalid("Description", text, reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_is_not_longer_than_on_ec2() {
        for (text, good) in [
            ("", true),
            ("ä".repeat(255).as_str(), true),
            ("a".repeat(256).as_str(), false),
        ] {
            assert_eq!(check_description(text).is_ok(), good, "{}", text.len());
        }
    }

    #[test]
    fn digests() {
        for (text, good) in [
            ("a".repeat(64), true),
            ("A".repeat(64), false),
            ("a".repeat(63), false),
            ("g".repeat(64), false),
            ("../".repeat(22), false),
        ] {
            assert_eq!(is_digest(&text), good, "{text}");
        }
    }
}
