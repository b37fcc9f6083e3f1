//! Console types: the kinds of consoles, what a token grants, and the answer of a host to a client that
//! presents one.

use std::{fmt, str::FromStr};

use crate::{id::InstanceId, time::Timestamp};

/// What of an instance is shown and typed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConsoleKind {
    /// The first serial port: bytes as the guest writes them.
    Serial,
    /// Screen, keyboard and mouse: the RFB protocol.
    Vnc,
}

impl ConsoleKind {
    /// Every kind.
    pub const ALL: [ConsoleKind; 2] = [ConsoleKind::Serial, ConsoleKind::Vnc];

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            ConsoleKind::Serial => "serial",
            ConsoleKind::Vnc => "vnc",
        }
    }
}

impl fmt::Display for ConsoleKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ConsoleKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = ConsoleKind::ALL.into_iter().find(|kind| kind.name() == text);
        found.ok_or_else(|| format!("{text:?} is not a console; expecting serial or vnc"))
    }
}

/// What a token says: one connection to one console, within a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsoleGrant {
    /// Whose console.
    pub instance: InstanceId,
    /// Which.
    pub kind: ConsoleKind,
    /// Where its host takes console connections, as the operator has confirmed it.
    pub address: String,
    /// When it was made.
    pub issued: Timestamp,
    /// From when on it is good for nothing.
    pub expires: Timestamp,
    /// Tells two tokens apart, so that each is taken once.
    pub nonce: [u8; 16],
}

/// The address of a host whose console role is in the same process: no socket is needed.
pub const IN_PROCESS: &str = "local";

/// The longest address of a host.
pub const MAX_ADDRESS: usize = 255;

/// The longest line that is sent before a console's bytes, a token or an answer.
pub const MAX_LINE: usize = 1024;

/// Why a console is not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ConsoleRefusal {
    /// Not a token of this cloud.
    #[error("the token is not valid")]
    Invalid,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// It was used, or may have been before the host's process started.
    #[error("the token has been used")]
    Used,
    /// There is no guest of the instance.
    #[error("the instance does not run on its host")]
    NoInstance,
    /// The guest has no such console.
    #[error("the instance has no console of this kind")]
    Unsupported,
    /// As many sessions as there may be.
    #[error("the console is in use, or too many are")]
    Busy,
    /// The host or its hypervisor does not answer.
    #[error("the instance's host is away")]
    Away,
}

impl ConsoleRefusal {
    const ALL: [ConsoleRefusal; 7] = [
        ConsoleRefusal::Invalid,
        ConsoleRefusal::Expired,
        ConsoleRefusal::Used,
        ConsoleRefusal::NoInstance,
        ConsoleRefusal::Unsupported,
        ConsoleRefusal::Busy,
        ConsoleRefusal::Away,
    ];

    const fn code(self) -> &'static str {
        match self {
            ConsoleRefusal::Invalid => "invalid",
            ConsoleRefusal::Expired => "expired",
            ConsoleRefusal::Used => "used",
            ConsoleRefusal::NoInstance => "no-instance",
            ConsoleRefusal::Unsupported => "unsupported",
            ConsoleRefusal::Busy => "busy",
            ConsoleRefusal::Away => "away",
        }
    }

    /// A host's answer as a line without its end.
    pub fn line(answer: Result<(), ConsoleRefusal>) -> String {
        match answer {
            Ok(()) => "OK".into(),
            Err(refusal) => format!("NO {}", refusal.code()),
        }
    }

    /// Reads a host's answer. What can't be read is a host that is not there.
    pub fn read(line: &str) -> Result<(), ConsoleRefusal> {
        if line == "OK" {
            return Ok(());
        }
        let code = line.strip_prefix("NO ").unwrap_or_default();
        let known = ConsoleRefusal::ALL.into_iter().find(|one| one.code() == code);
        Err(known.unwrap_or(ConsoleRefusal::Away))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_read_back() {
        assert_eq!(ConsoleRefusal::read(&ConsoleRefusal::line(Ok(()))), Ok(()));
        for refusal in ConsoleRefusal::ALL {
            let line = ConsoleRefusal::line(Err(refusal));
            assert_eq!(ConsoleRefusal::read(&line), Err(refusal));
        }
        for other in ["", "OK ", "NO", "NO ", "ok", "NO what", "HTTP/1.1 200 OK"] {
            assert_eq!(ConsoleRefusal::read(other), Err(ConsoleRefusal::Away), "{other}");
        }
    }

    #[test]
    fn kinds_read_back() {
        for kind in ConsoleKind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        assert!("spice".parse::<ConsoleKind>().is_err());
    }
}
