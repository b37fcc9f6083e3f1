//! The domain's one error enum. It has fields and no sentences of a protocol: each door has one table from
//! these variants to its own codes.

use std::time::Duration;

use crate::id::ResourceKind;

/// What the domain answers.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A quota or a fixed limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Limit {
    Instances,
    Vcpus,
    SecurityGroups,
    RulesPerSecurityGroup,
    SecurityGroupsPerInterface,
    Tags,
    KeyPairs,
    PlacementGroups,
    Images,
    PublicAddresses,
    Volumes,
    VolumeStorage,
    VolumesPerInstance,
    Snapshots,
    PendingSnapshots,
    PendingSnapshotsPerVolume,
    PendingSnapshotCopies,
    AccountsPerImage,
    AccountsPerSnapshot,
}

/// What a call does to an instance, as the sentences about it have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Effect {
    Started,
    Stopped,
    Rebooted,
    Terminated,
}

/// Where a volume was taken to be attached.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Attachment {
    pub instance: String,
    pub device: Option<String>,
}

impl std::fmt::Display for Attachment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.instance)?;
        match &self.device {
            Some(device) => write!(f, " as {device}"),
            None => Ok(()),
        }
    }
}

impl Effect {
    /// The participle.
    pub const fn name(self) -> &'static str {
        match self {
            Effect::Started => "started",
            Effect::Stopped => "stopped",
            Effect::Rebooted => "rebooted",
            Effect::Terminated => "terminated",
        }
    }
}

impl Limit {
    /// Every one.
    pub const ALL: [Limit; 19] = [
        Limit::Instances,
        Limit::Vcpus,
        Limit::SecurityGroups,
        Limit::RulesPerSecurityGroup,
        Limit::SecurityGroupsPerInterface,
        Limit::Tags,
        Limit::KeyPairs,
        Limit::PlacementGroups,
        Limit::Images,
        Limit::PublicAddresses,
        Limit::Volumes,
        Limit::VolumeStorage,
        Limit::VolumesPerInstance,
        Limit::Snapshots,
        Limit::PendingSnapshots,
        Limit::PendingSnapshotsPerVolume,
        Limit::PendingSnapshotCopies,
        Limit::AccountsPerImage,
        Limit::AccountsPerSnapshot,
    ];
}

/// Why a request was not done. Nothing has changed when one of these is answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    #[error("{} {id:?} does not exist", kind.resource_type())]
    NotFound { kind: ResourceKind, id: String },
    #[error("invalid id {id:?} (expecting {}-0123456789abcdef0)", kind.prefix())]
    Malformed { kind: ResourceKind, id: String },
    #[error("{text:?} is no resource's id")]
    NoId { text: String },
    #[error("the request must contain the parameter {name}")]
    MissingParameter { name: String },
    #[error("value ({value}) for parameter {name} is invalid: {reason}")]
    InvalidParameter {
        name: String,
        value: String,
        reason: String,
    },
    #[error("{reason}")]
    InvalidCombination { reason: String },
    #[error("the parameter {parameter} requires the parameter {needs} to be set")]
    ParameterDependency {
        parameter: &'static str,
        needs: &'static str,
    },
    /// What is made of a snapshot is as encrypted as that, and says nothing of it.
    #[error("whether a disk is encrypted can't be said where it is made of a snapshot")]
    EncryptionOfSnapshot,
    /// What has the data can't be given to others: its key is the account's own.
    #[error("{} {id} is encrypted with its account's own key", kind.resource_type())]
    AccountsKey { kind: ResourceKind, id: String },
    #[error("{} {name:?} exists already", kind.resource_type())]
    Duplicate { kind: ResourceKind, name: String },
    #[error("the image's name {name:?} is {by}'s")]
    ImageNameTaken { name: String, by: String },
    #[error("an image can't be named {name:?}")]
    ImageName { name: String },
    /// Who may launch it may not read the snapshots that it is made of.
    #[error("{image} is made of snapshots of another account")]
    ImageStorage { image: String },
    #[error("a rule for {rule} exists already")]
    DuplicateRule { rule: String },
    #[error("the same permission must not appear multiple times")]
    RepeatedRule,
    #[error("the rule {rule} does not exist in this security group")]
    RuleNotFound { rule: String },
    #[error("{} {id} is in use by {by}", kind.resource_type())]
    InUse {
        kind: ResourceKind,
        id: String,
        by: String,
    },
    #[error("{id} is {state}; this needs it to be {expected}")]
    IncorrectState {
        kind: ResourceKind,
        id: String,
        state: String,
        expected: String,
    },
    #[error("{id} is {state} and can't be {}", effect.name())]
    CannotBe {
        id: String,
        effect: Effect,
        state: String,
    },
    #[error("{id}: {reason}")]
    Protected { id: String, reason: String },
    /// An attribute of an instance keeps it from what would happen to it.
    #[error("{id} may not be {}: its attribute {attribute} says so", effect.name())]
    MayNotBe {
        id: String,
        effect: Effect,
        attribute: &'static str,
    },
    #[error("no instances were named")]
    NoInstances,
    #[error("there is no instance type {name:?}")]
    UnknownInstanceType { name: String },
    #[error("there are no instance types {}", names.join(", "))]
    UnknownInstanceTypes { names: Vec<String> },
    #[error("there is no availability zone {name:?}")]
    UnknownZone { name: String },
    /// A zone that is named to make something in.
    #[error("the zone {name:?} does not exist")]
    NoZone { name: String },
    #[error("{device:?} is no device's name")]
    NoDeviceName { device: String },
    #[error("the device {device} is in use")]
    DeviceInUse { device: String },
    #[error("{volume} is already attached to an instance")]
    AlreadyAttached { volume: String },
    /// To this instance, or as this device.
    #[error("{volume} is not attached to {to}")]
    NotAttached { volume: String, to: Attachment },
    #[error("{volume} is not in the zone of {instance}")]
    ZoneMismatch { volume: String, instance: String },
    #[error("{volume} has its data on another machine than {instance}")]
    DataElsewhere { volume: String, instance: String },
    #[error("{volume} is in a store that the machine of {instance} does not reach")]
    OutOfReach { volume: String, instance: String },
    #[error("{volume} is being modified")]
    Modifying { volume: String },
    #[error("{volume} was modified less than {} s ago", least.as_secs())]
    ModifiedLately { volume: String, least: Duration },
    #[error("{volumes} was never modified")]
    NeverModified { volumes: String },
    #[error("{volume} is the root volume of {instance}")]
    RootVolume { volume: String, instance: String },
    #[error("{instance} is not running")]
    NotRunning { instance: String },
    #[error("no device is mapped at {device:?}")]
    NoDevice { device: String },
    /// Instances can't read a tag with this key, and are meant to read all of theirs.
    #[error("a tag with the key {key:?} can't be read by its instance")]
    UnreadableTagKey { key: String },
    #[error("you are not authorized to perform {action}")]
    Unauthorized { action: String },
    #[error("the limit of {max} is reached ({limit:?})")]
    LimitExceeded { limit: Limit, max: u64 },
    #[error("{reason}")]
    InsufficientCapacity { reason: String },
    #[error("{subnet} has {free} free addresses and {wanted} are wanted")]
    InsufficientAddresses { subnet: String, free: u64, wanted: u64 },
    #[error("{free} public addresses are free and {wanted} are wanted")]
    InsufficientPublicAddresses { free: u64, wanted: u64 },
    #[error("address {address} is in use")]
    AddressInUse { address: String },
    #[error("the client token {token:?} was used with other parameters")]
    IdempotentParameterMismatch { token: String },
    #[error("the pagination token is not valid for this request")]
    InvalidPaginationToken,
    #[error("{reason}")]
    MalformedUserData { reason: String },
    #[error("{reason}")]
    InvalidKeyFormat { reason: String },
    #[error("the account has no default VPC")]
    NoDefaultVpc,
    #[error("a volume of {gib} GiB is smaller than its image, which has {least} GiB")]
    VolumeTooSmall { gib: u64, least: u64 },
    /// What a launch or an image says of its disks can't be, in EC2's own words.
    #[error("{reason}")]
    InvalidMapping { reason: String },
    #[error("{} {id} is {state}", kind.resource_type())]
    Unusable {
        kind: ResourceKind,
        id: String,
        state: String,
    },
    #[error("{what} is not supported")]
    Unsupported { what: String },
    /// Nobody waits for the answer any more, so it was not begun.
    #[error("whoever asked has gone")]
    Abandoned,
    /// Try again later. The text is for the log.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// A bug or a broken host. The text is for the log and never shown.
    #[error("internal error: {0}")]
    Internal(String),
}

impl Error {
    /// An internal error with the whole chain of its causes, for the log.
    pub fn internal(error: &(dyn std::error::Error + 'static)) -> Self {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        Error::Internal(text)
    }

    /// A zone that the cloud has not; a long name is cut.
    pub fn unknown_zone(name: &str) -> Self {
        Error::UnknownZone {
            name: name.chars().take(128).collect(),
        }
    }

    /// An invalid parameter; long values are cut.
    pub fn invalid(name: &str, value: &str, reason: impl Into<String>) -> Self {
        Error::InvalidParameter {
            name: name.into(),
            value: value.chars().take(128).collect(),
            reason: reason.into(),
        }
    }
}
