//! The worker's record of an instance, beside the guest itself: small, in memory and in a file.

use cumulet_domain::{
    id::{InstanceId, NetworkInterfaceId, OperationId, VpcId},
    message::{Action, Change, Command, InstanceReport, KeptRoot, OffReason, Power},
    spec::InstanceSpec,
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

/// What was last commanded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum CommandKind {
    /// The guest shall run.
    Run,
    /// It shall not.
    Stop {
        /// It is not asked first.
        force: bool,
    },
    /// If it runs, it shall have the devices of its specification.
    Change(Change),
    /// It shall start over.
    Reboot,
    /// Nothing of it shall be left.
    Destroy,
}

impl CommandKind {
    /// The kind of an action about an instance.
    pub(crate) fn of(action: &Action) -> Option<CommandKind> {
        match action {
            Action::Run { .. } => Some(CommandKind::Run),
            Action::Change { what, .. } => Some(CommandKind::Change(*what)),
            Action::Stop { force, .. } => Some(CommandKind::Stop { force: *force }),
            Action::Reboot { .. } => Some(CommandKind::Reboot),
            Action::Destroy { .. } => Some(CommandKind::Destroy),
            Action::DeleteVolume { .. }
            | Action::TakeSnapshots(_)
            | Action::Network(_)
            | Action::Metadata(_)
            | Action::ReportAll => None,
        }
    }

    /// Whether the guest shall run when it is done.
    pub(crate) const fn wants_power(self) -> bool {
        matches!(
            self,
            CommandKind::Run | CommandKind::Change(_) | CommandKind::Reboot
        )
    }

    /// Whether it changes a guest that runs, and starts none.
    pub(crate) const fn is_change(self) -> bool {
        matches!(self, CommandKind::Change(_))
    }

    /// Whether it comes with a specification.
    pub(crate) const fn has_spec(self) -> bool {
        matches!(self, CommandKind::Run | CommandKind::Change(_))
    }

    /// Whether a command that waits for a guest to comply should stop waiting for this.
    pub(crate) const fn is_urgent(self) -> bool {
        matches!(self, CommandKind::Destroy | CommandKind::Stop { force: true })
    }
}

/// The header of a command, without what it carries: kept while it is under way, to resume it after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CommandHeader {
    /// Whose outcome is waited for, if it is.
    pub(crate) operation: Option<OperationId>,
    /// After this it is dropped unread.
    pub(crate) deadline: Timestamp,
    /// What is to be done.
    pub(crate) kind: CommandKind,
    /// What is left of an instance of which nothing else shall be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) kept: Option<KeptRoot>,
}

impl CommandHeader {
    /// The header of a command about an instance.
    pub(crate) fn of(command: &Command) -> Option<CommandHeader> {
        let kept = match &command.action {
            Action::Destroy { kept, .. } => *kept,
            _ => None,
        };
        Some(CommandHeader {
            operation: command.operation,
            deadline: command.deadline,
            kind: CommandKind::of(&command.action)?,
            kept,
        })
    }
}

/// What a worker remembers of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Which instance.
    pub(crate) instance: InstanceId,
    /// The newest generation seen.
    pub(crate) generation: u64,
    /// The newest generation carried out.
    pub(crate) applied: u64,
    /// Whether the guest shall run.
    pub(crate) wants_power: bool,
    /// What was last seen, and told, of the guest.
    pub(crate) power: Power,
    /// Why it is off.
    pub(crate) off_reason: Option<OffReason>,
    /// What was begun and not finished.
    pub(crate) pending: Option<CommandHeader>,
    /// Where its interfaces are.
    pub(crate) vpc: VpcId,
    /// Its interfaces.
    pub(crate) interfaces: Vec<NetworkInterfaceId>,
    /// The user number of its guest, where guests have their own.
    #[serde(default)]
    pub(crate) uid: Option<u32>,
}

impl Record {
    /// The record of an instance that nothing was done for.
    pub(crate) fn new(spec: &InstanceSpec) -> Record {
        Record {
            instance: spec.id,
            generation: 0,
            applied: 0,
            wants_power: false,
            power: Power::Absent,
            off_reason: None,
            pending: None,
            vpc: VpcId::new(0),
            interfaces: Vec::new(),
            uid: None,
        }
        .with_nics_of(spec)
    }

    /// The record with the interfaces of this specification, all of which are in one VPC.
    pub(crate) fn with_nics_of(self, spec: &InstanceSpec) -> Record {
        Record {
            vpc: spec.primary().map_or(self.vpc, |nic| nic.vpc),
            interfaces: spec.nics.iter().map(|nic| nic.interface.id).collect(),
            ..self
        }
    }

    /// A command has been begun.
    pub(crate) fn begin(&mut self, generation: u64, pending: CommandHeader) {
        self.generation = generation;
        self.wants_power = pending.kind.wants_power();
        self.pending = Some(pending);
    }

    /// The instance as it was last seen, at the newest generation that was carried out: while a command is
    /// in between, the report is an old one and decides nothing.
    pub(crate) fn report(&self) -> InstanceReport {
        InstanceReport {
            instance: self.instance,
            generation: self.applied,
            power: self.power,
            off_reason: self.off_reason.filter(|_| self.power == Power::Off),
        }
    }
}
