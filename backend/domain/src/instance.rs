//! The life of an instance: a state, an intent, and the one function that moves between states.
//!
//! ```text
//!              launched                stop asked, or the guest powered off
//!   pending ─────────────▶ running ────────────────────────▶ stopping ──▶ stopped
//!      │  ▲                   │                                 │            │  │
//!      │  └───────────────────┼───── start asked ───────────────┼────────────┘  │
//!      │                      │                                 │               │
//!      └── failed or ─────────┴───── terminate asked ───────────┴───────────────┘
//!          terminate asked    ▼
//!                       shutting-down ──▶ terminated
//! ```
//!
//! A user causes the edges named "asked"; the conductor causes the others from what a host reported
//! or from a deadline. A start that fails goes back to `stopped`. `terminated` is final.

use serde::{Deserialize, Serialize};

use crate::named;

named! {
    /// Where an instance is, in EC2's terms. The name is what EC2 shows and the database keeps.
    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    State {
        Pending = "pending",
        Running = "running",
        ShuttingDown = "shutting-down",
        Terminated = "terminated",
        Stopping = "stopping",
        Stopped = "stopped",
    }
}

impl State {
    /// The code that EC2 shows beside the name (API reference, `InstanceState`).
    pub const fn code(self) -> u8 {
        match self {
            State::Pending => 0,
            State::Running => 16,
            State::ShuttingDown => 32,
            State::Terminated => 48,
            State::Stopping => 64,
            State::Stopped => 80,
        }
    }

    /// Not settled: an operation is on its way and has a deadline.
    pub const fn is_transient(self) -> bool {
        matches!(self, State::Pending | State::ShuttingDown | State::Stopping)
    }
}

named! {
    /// What the user wants an instance to be.
    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    Intent {
        Running = "running",
        Stopped = "stopped",
        Terminated = "terminated",
    }
}

/// What happens to an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Event {
    /// A host reports the guest's process running.
    Launched,
    /// A first launch failed for good.
    LaunchFailed,
    /// A start of a stopped instance failed for good.
    StartFailed,
    /// The user asks for it to run.
    StartAsked,
    /// The user asks for it to stop, or the guest powered itself off and is to be stopped.
    StopAsked,
    /// A host reports that no guest runs.
    Halted,
    /// The user asks for its end, or the guest powered itself off and is to be terminated.
    TerminateAsked,
    /// A host reports that nothing of the guest is left, or none ever had it.
    Destroyed,
}

impl Event {
    /// Every event.
    pub const ALL: [Event; 8] = [
        Event::Launched,
        Event::LaunchFailed,
        Event::StartFailed,
        Event::StartAsked,
        Event::StopAsked,
        Event::Halted,
        Event::TerminateAsked,
        Event::Destroyed,
    ];
}

/// An event that can't happen in a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{event:?} does not happen to an instance that is {}", state.name())]
pub struct Illegal {
    /// The state it was in.
    pub state: State,
    /// What was tried.
    pub event: Event,
}

/// The state after `event`; the same state where the event changes nothing.
///
/// # Errors
/// [`Illegal`] where the event has no place in the state.
pub const fn transition(state: State, event: Event) -> Result<State, Illegal> {
    use {Event as E, State as S};
    Ok(match (state, event) {
        (S::Pending | S::Running, E::Launched) => S::Running,
        (S::Pending, E::LaunchFailed) => S::ShuttingDown,
        (S::Pending, E::StartFailed) => S::Stopped,
        (S::Stopped, E::StartAsked) => S::Pending,
        (S::Pending | S::Running, E::StartAsked) => state,
        (S::Running, E::StopAsked) => S::Stopping,
        (S::Stopping | S::Stopped, E::StopAsked) => state,
        (S::Stopping | S::Stopped, E::Halted) => S::Stopped,
        (S::Pending | S::Running | S::Stopping | S::Stopped | S::ShuttingDown, E::TerminateAsked) => {
            S::ShuttingDown
        }
        (S::Terminated, E::TerminateAsked | E::Destroyed) => S::Terminated,
        (S::ShuttingDown, E::Destroyed) => S::Terminated,
        _ => return Err(Illegal { state, event }),
    })
}

named! {
    /// What an instance does when its guest powers itself off.
    #[derive(Default, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    ShutdownBehavior {
        #[default]
        Stop = "stop",
        Terminate = "terminate",
    }
}

/// Why an instance is in its state: EC2's `StateReason`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StateReason {
    /// For instance `Client.UserInitiatedShutdown` or `Server.InternalError`.
    pub code: String,
    /// The code, a colon and an explanation.
    pub message: String,
}

impl StateReason {
    /// The code of an instance that went on without a public address, since its account has all it may have.
    pub const ADDRESS_QUOTA: &str = "Client.AddressLimitExceeded";
    /// The code of an instance that went on without a public address, since none was free.
    pub const NO_ADDRESS: &str = "Server.InsufficientAddressCapacity";

    /// The codes of reasons that are still some when the instance runs.
    pub const OUTLIVING: [&str; 2] = [Self::ADDRESS_QUOTA, Self::NO_ADDRESS];

    /// A reason whose message is "code: text", as EC2 writes them.
    pub fn new(code: &str, text: impl std::fmt::Display) -> Self {
        StateReason {
            code: code.into(),
            message: format!("{code}: {text}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_state_and_event() {
        use {Event as E, State as S};
        let legal = [
            (S::Pending, E::Launched, S::Running),
            (S::Pending, E::LaunchFailed, S::ShuttingDown),
            (S::Pending, E::StartFailed, S::Stopped),
            (S::Pending, E::StartAsked, S::Pending),
            (S::Pending, E::TerminateAsked, S::ShuttingDown),
            (S::Running, E::Launched, S::Running),
            (S::Running, E::StartAsked, S::Running),
            (S::Running, E::StopAsked, S::Stopping),
            (S::Running, E::TerminateAsked, S::ShuttingDown),
            (S::Stopping, E::StopAsked, S::Stopping),
            (S::Stopping, E::Halted, S::Stopped),
            (S::Stopping, E::TerminateAsked, S::ShuttingDown),
            (S::Stopped, E::StartAsked, S::Pending),
            (S::Stopped, E::StopAsked, S::Stopped),
            (S::Stopped, E::Halted, S::Stopped),
            (S::Stopped, E::TerminateAsked, S::ShuttingDown),
            (S::ShuttingDown, E::TerminateAsked, S::ShuttingDown),
            (S::ShuttingDown, E::Destroyed, S::Terminated),
            (S::Terminated, E::TerminateAsked, S::Terminated),
            (S::Terminated, E::Destroyed, S::Terminated),
        ];
        for state in State::ALL {
            for event in Event::ALL {
                let expected = legal
                    .iter()
                    .find(|row| row.0 == state && row.1 == event)
                    .map(|row| row.2);
                assert_eq!(transition(state, event).ok(), expected, "{state:?} {event:?}");
            }
        }
    }

    #[test]
    fn nothing_leaves_terminated() {
        for event in Event::ALL {
            assert!(matches!(
                transition(State::Terminated, event),
                Ok(State::Terminated) | Err(_)
            ));
        }
    }

    #[test]
    fn codes() {
        assert_eq!(State::ALL.map(State::code), [0, 16, 32, 48, 64, 80]);
    }
}
