//! What a run is of, and what is broken in it on purpose, to see that the checks find it.

use crate::faults::FaultKinds;

/// What is to be run.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many hosts.
    pub hosts: usize,
    /// How many instances at a time.
    pub instances: usize,
    /// Decides everything else.
    pub seed: u64,
    /// What goes wrong.
    pub faults: FaultKinds,
    /// What is broken on purpose, to see that it is found.
    pub sabotage: Option<Sabotage>,
    /// Whether the trace is kept.
    pub trace: bool,
}

/// Something that is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// A command that is old is new to the worker that it comes to (I6, I7, I1).
    IgnoreGenerations,
    /// Hypervisors say that a guest is gone and leave it (I1).
    KeepGuests,
    /// No outcome that a worker tells of arrives (I2).
    Mute,
    /// What the scheduler claims of a host is not charged (I3).
    NoClaim,
    /// Client tokens are not kept (I4).
    ForgetTokens,
    /// Rows get lost (I5).
    LoseRows,
    /// Root volumes are attached to nothing (I1).
    LoseAttachments,
    /// Addresses are not given back (I1).
    KeepAddresses,
    /// Workers that come back do not serve again what they have served: nothing, as long as none of them dies (I1).
    NoRecovery,
    /// A call that does not come back in time passes for a refusal (I9).
    GiveUpWhatIsLate,
    /// What operations hold is not given free when they end (I10).
    KeepHolds,
    /// Which host has the data of a volume is forgotten (I11).
    ForgetVolumes,
}

impl Sabotage {
    /// What is done to the database.
    pub(crate) const fn triggers(self) -> &'static str {
        match self {
            Sabotage::NoClaim => {
                "CREATE TEMP TRIGGER free AFTER UPDATE OF vcpus_used ON main.hosts
                WHEN NEW.vcpus_used > OLD.vcpus_used
                BEGIN
                    UPDATE hosts SET vcpus_used = OLD.vcpus_used, memory_mib_used = OLD.memory_mib_used
                    WHERE id = NEW.id;
                END;"
            }
            Sabotage::ForgetTokens => {
                "CREATE TEMP TRIGGER forget AFTER INSERT ON main.client_tokens
                BEGIN
                    DELETE FROM client_tokens WHERE token = NEW.token;
                END;"
            }
            Sabotage::LoseRows => {
                "CREATE TEMP TRIGGER lose AFTER UPDATE OF state ON main.instances
                WHEN NEW.state = 'terminated'
                BEGIN
                    DELETE FROM instances WHERE id = NEW.id;
                END;"
            }
            Sabotage::KeepHolds => {
                "CREATE TEMP TRIGGER keep AFTER DELETE ON main.operation_holds
                BEGIN
                    INSERT INTO operation_holds VALUES (OLD.kind, OLD.resource, OLD.operation);
                END;"
            }
            Sabotage::ForgetVolumes => {
                "CREATE TEMP TRIGGER forget AFTER UPDATE OF made_at ON main.volumes
                WHEN NEW.made_at IS NOT NULL
                BEGIN
                    UPDATE volumes SET host = NULL WHERE id = NEW.id;
                END;"
            }
            Sabotage::LoseAttachments => {
                "CREATE TEMP TRIGGER loose AFTER INSERT ON main.volume_attachments
                BEGIN
                    DELETE FROM volume_attachments WHERE volume = NEW.volume;
                END;"
            }
            Sabotage::KeepAddresses => {
                "CREATE TEMP TRIGGER keep AFTER DELETE ON main.interface_addresses
                BEGIN
                    INSERT INTO interface_addresses
                        (subnet, address, interface, address_index, account, vpc, public_address)
                    VALUES (OLD.subnet, OLD.address, OLD.interface, OLD.address_index, OLD.account, OLD.vpc,
                        OLD.public_address);
                END;"
            }
            Sabotage::IgnoreGenerations
            | Sabotage::KeepGuests
            | Sabotage::Mute
            | Sabotage::NoRecovery
            | Sabotage::GiveUpWhatIsLate => "",
        }
    }
}
