//! EC2's error table: from the domain's errors to codes, statuses and sentences. EC2's spellings are
//! irregular; they are copied, not derived.

use cumulet_domain::{
    Error, ResourceKind,
    error::{Effect, Limit},
    instance::State,
    tag::looks_like_a_public_key,
    volume::VolumeState,
};

use super::kinds::codes;
use crate::fault::{Answer, Fault};

/// What EC2 answers to a fault.
pub(crate) fn words(fault: &Fault) -> Answer {
    match fault {
        Fault::Domain(error) => answer(error),
        Fault::Wire(error) => Answer::new(error.code(), 400, error.message()),
        Fault::Coded(answer) => answer.clone(),
        Fault::Unserved(operation) => {
            let message = format!("The operation {operation} is not supported by this cloud.");
            Answer::new("UnsupportedOperation", 400, message)
        }
        Fault::Throttled => Answer::new("RequestLimitExceeded", 503, "Request limit exceeded."),
    }
}

/// What EC2 answers to a domain error.
fn answer(error: &Error) -> Answer {
    let (code, status) = code(error);
    Answer::new(code, status, message(error))
}

/// An empty id is one that was not given, as EC2 has it.
fn code(error: &Error) -> (&'static str, u16) {
    let code = match error {
        Error::NotFound { kind, .. } => codes(*kind).not_found,
        Error::Malformed { id, .. } | Error::NoId { text: id } if id.is_empty() => "MissingParameter",
        Error::Malformed { kind, .. } => codes(*kind).malformed,
        Error::NoId { .. } => "InvalidID",
        Error::MissingParameter { .. } => "MissingParameter",
        Error::InvalidParameter { .. }
        | Error::UnknownInstanceType { .. }
        | Error::UnknownZone { .. }
        | Error::NoDeviceName { .. }
        | Error::DeviceInUse { .. }
        | Error::UnreadableTagKey { .. } => "InvalidParameterValue",
        Error::InvalidCombination { .. } | Error::NoInstances => "InvalidParameterCombination",
        Error::ParameterDependency { .. } => "InvalidParameterDependency",
        Error::EncryptionOfSnapshot | Error::AccountsKey { .. } => encryption_code(error),
        Error::UnknownInstanceTypes { .. } => "InvalidInstanceType",
        Error::NoDevice { .. } => "InvalidInstanceAttributeValue",
        Error::Duplicate { kind, .. } => codes(*kind).duplicate,
        Error::DuplicateRule { .. } | Error::RepeatedRule | Error::RuleNotFound { .. } => rule_code(error),
        Error::InUse { kind, .. } => codes(*kind).in_use,
        Error::IncorrectState {
            kind: ResourceKind::Instance,
            ..
        }
        | Error::CannotBe { .. } => "IncorrectInstanceState",
        Error::NoZone { .. } => "InvalidZone.NotFound",
        Error::AlreadyAttached { .. }
        | Error::NotAttached { .. }
        | Error::ZoneMismatch { .. }
        | Error::OutOfReach { .. }
        | Error::Modifying { .. }
        | Error::ModifiedLately { .. }
        | Error::NeverModified { .. } => volume_code(error),
        Error::Protected { id, .. } => protected(id),
        Error::MayNotBe { .. } | Error::RootVolume { .. } => "OperationNotPermitted",
        Error::Unauthorized { .. } => return ("UnauthorizedOperation", 403),
        Error::LimitExceeded { limit, .. } => limit_exceeded(*limit),
        Error::InsufficientCapacity { .. } => return ("InsufficientInstanceCapacity", 500),
        Error::InsufficientAddresses { .. } => "InsufficientFreeAddressesInSubnet",
        Error::InsufficientPublicAddresses { .. } => return ("InsufficientAddressCapacity", 500),
        Error::AddressInUse { .. } => "InvalidIPAddress.InUse",
        Error::IdempotentParameterMismatch { .. } => "IdempotentParameterMismatch",
        Error::InvalidPaginationToken => "InvalidNextToken",
        Error::MalformedUserData { .. } => "InvalidUserData.Malformed",
        Error::InvalidKeyFormat { .. } => "InvalidKey.Format",
        Error::NoDefaultVpc => "VPCIdNotSpecified",
        Error::VolumeTooSmall { .. } | Error::InvalidMapping { .. } => "InvalidBlockDeviceMapping",
        Error::ImageNameTaken { .. } | Error::ImageName { .. } | Error::ImageStorage { .. } => {
            image_code(error)
        }
        Error::Unusable { kind, .. } => unusable(*kind),
        Error::IncorrectState { .. } | Error::NotRunning { .. } => "IncorrectState",
        Error::Unsupported { .. } | Error::DataElsewhere { .. } => "UnsupportedOperation",
        Error::Abandoned => "ClientDisconnected", // nobody reads it but the audit log
        Error::Unavailable(_) => return ("Unavailable", 503),
        Error::Internal(_) => return ("InternalError", 500),
    };
    (code, 400)
}

const fn volume_code(error: &Error) -> &'static str {
    match error {
        Error::AlreadyAttached { .. } => "VolumeInUse",
        Error::OutOfReach { .. } => "UnsupportedOperation",
        Error::NotAttached { .. } => "InvalidAttachment.NotFound",
        Error::ZoneMismatch { .. } => "InvalidVolume.ZoneMismatch",
        Error::Modifying { .. } => "IncorrectModificationState",
        Error::ModifiedLately { .. } => "VolumeModificationRateExceeded",
        _ => "InvalidVolumeModification.NotFound",
    }
}

const fn rule_code(error: &Error) -> &'static str {
    match error {
        Error::DuplicateRule { .. } => "InvalidPermission.Duplicate",
        Error::RuleNotFound { .. } => "InvalidPermission.NotFound",
        _ => "InvalidParameterValue",
    }
}

const fn encryption_code(error: &Error) -> &'static str {
    match error {
        Error::AccountsKey {
            kind: ResourceKind::Snapshot,
            ..
        } => "OperationNotPermitted",
        _ => "InvalidParameter",
    }
}

const fn image_code(error: &Error) -> &'static str {
    match error {
        Error::ImageNameTaken { .. } => "InvalidAMIName.Duplicate",
        Error::ImageName { .. } => "InvalidAMIName.Malformed",
        _ => "InvalidRequest",
    }
}

const fn unusable(kind: ResourceKind) -> &'static str {
    match kind {
        ResourceKind::Image => "InvalidAMIID.Unavailable",
        _ => "IncorrectState",
    }
}

fn protected(id: &str) -> &'static str {
    match ResourceKind::of(id) {
        Some(ResourceKind::SecurityGroup) => "CannotDelete",
        _ => "OperationNotPermitted",
    }
}

const fn limit_exceeded(limit: Limit) -> &'static str {
    match limit {
        Limit::Instances => "InstanceLimitExceeded",
        Limit::Vcpus => "VcpuLimitExceeded",
        Limit::SecurityGroups => "SecurityGroupLimitExceeded",
        Limit::RulesPerSecurityGroup => "RulesPerSecurityGroupLimitExceeded",
        Limit::SecurityGroupsPerInterface => "SecurityGroupsPerInterfaceLimitExceeded",
        Limit::Tags => "TagLimitExceeded",
        Limit::PublicAddresses => "AddressLimitExceeded",
        Limit::PlacementGroups => "PlacementGroupLimitExceeded",
        Limit::KeyPairs => "KeyPairLimitExceeded",
        Limit::Images
        | Limit::PendingSnapshotCopies
        | Limit::AccountsPerImage
        | Limit::AccountsPerSnapshot => "ResourceLimitExceeded",
        Limit::Volumes | Limit::VolumeStorage => "VolumeLimitExceeded",
        Limit::VolumesPerInstance => "AttachmentLimitExceeded",
        Limit::Snapshots => "SnapshotLimitExceeded",
        Limit::PendingSnapshots => "PendingSnapshotLimitExceeded",
        Limit::PendingSnapshotsPerVolume => "ConcurrentSnapshotLimitExceeded",
    }
}

fn message(error: &Error) -> String {
    match error {
        Error::NotFound { kind, id } => does_not_exist(*kind, id),
        Error::Malformed { kind, id } => malformed_id(*kind, id),
        Error::NoId { text } if text.is_empty() => missing("ResourceId"),
        Error::NoId { text } => format!("The ID '{text}' is not valid"),
        Error::MissingParameter { name } => missing(name),
        Error::InvalidParameter { name, value, reason } => {
            format!(
                "Value ({value}) for parameter {name} is invalid. {}",
                sentence(reason)
            )
        }
        Error::Duplicate { kind, name } => format!("The {} '{name}' already exists", codes(*kind).noun),
        Error::DuplicateRule { rule } => format!("the specified rule \"{rule}\" already exists"),
        Error::RepeatedRule => "The same permission must not appear multiple times".into(),
        Error::RuleNotFound { .. } => "The specified rule does not exist in this security group.".into(),
        Error::InUse { kind, id, by } => in_use_by(*kind, id, by),
        Error::IncorrectState { .. } | Error::CannotBe { .. } | Error::MayNotBe { .. } => of_state(error),
        Error::Protected { id, reason } => format!("'{id}' is protected: {reason}."),
        Error::NoInstances => "No instances specified".into(),
        Error::UnknownInstanceType { name } => format!("Invalid value '{name}' for InstanceType."),
        Error::UnknownInstanceTypes { names } => {
            let names = names.join(", ");
            format!("The following supplied instance types do not exist: [{names}]")
        }
        Error::UnknownZone { name } => format!("Invalid availability zone: [{name}]"),
        Error::NoDevice { device } => format!("No device is currently mapped at {device}"),
        Error::UnreadableTagKey { key } => unreadable(key),
        Error::InsufficientAddresses { subnet, .. }
            if ResourceKind::of(subnet) == Some(ResourceKind::Subnet) =>
        {
            format!(
                "There are not enough free addresses in subnet '{subnet}' to satisfy the requested number of \
                 instances."
            )
        }
        Error::Unauthorized { action } => {
            format!("You are not authorized to perform this operation: {action}.")
        }
        Error::IdempotentParameterMismatch { token } => {
            format!("The client token '{token}' was used before in a request with other parameters.")
        }
        Error::InvalidPaginationToken => "The specified NextToken is not valid for this request.".into(),
        Error::LimitExceeded { limit, max } => of_limit(error, *limit, *max),
        Error::NoDefaultVpc => "No default VPC for this user.".into(),
        Error::Unusable {
            kind: ResourceKind::Image,
            id,
            state,
        } => format!("The image ID '{id}' is not available: {state}"),
        Error::Unavailable(_) => "The service is unavailable. Please try again shortly.".into(),
        Error::Internal(_) => "An internal error has occurred. The request id names it in the log.".into(),
        other => of_volume(other),
    }
}

/// EC2's own sentences about limits, where they are known, and others in their way.
fn of_limit(error: &Error, limit: Limit, max: u64) -> String {
    match limit {
        Limit::PublicAddresses => "The maximum number of addresses has been reached.".into(),
        Limit::PendingSnapshotsPerVolume => {
            "Maximum allowed in-progress snapshots for a single volume exceeded.".into()
        }
        Limit::PendingSnapshots => format!("Too many snapshots in progress. The limit is {max}."),
        Limit::PendingSnapshotCopies => {
            format!("Too many snapshot copies in progress. The limit is {max} for this destination region.")
        }
        Limit::AccountsPerImage => shared_with(max, "an image"),
        Limit::AccountsPerSnapshot => shared_with(max, "a snapshot"),
        _ => sentence(&error.to_string()),
    }
}

fn shared_with(max: u64, what: &str) -> String {
    format!("You have reached your quota of {max} for the number of accounts that {what} is shared with.")
}

fn missing(parameter: &str) -> String {
    format!("The request must contain the parameter {parameter}")
}

/// What is no id of the kind, or nothing at all.
fn malformed_id(kind: ResourceKind, id: &str) -> String {
    if id.is_empty() {
        return missing(codes(kind).parameter);
    }
    if ResourceKind::of_prefix(id) == Some(kind) {
        return format!("Invalid id: \"{id}\"");
    }
    format!("Invalid id: \"{id}\" (expecting \"{}-...\")", kind.prefix())
}

/// What is not there. Several are one text, with commas between them.
fn does_not_exist(kind: ResourceKind, id: &str) -> String {
    let (several, noun) = (id.contains(", "), codes(kind).noun);
    match (kind, several) {
        (ResourceKind::Image, false) => format!("The image id '[{id}]' does not exist"),
        (ResourceKind::Image, true) => format!("The image ids '[{id}]' do not exist"),
        (ResourceKind::PlacementGroup, _) => format!("The Placement Group '{id}' is unknown."),
        (_, false) => format!("The {noun} '{id}' does not exist"),
        (_, true) => format!("The {noun}s '{id}' do not exist"),
    }
}

fn in_use_by(kind: ResourceKind, id: &str, by: &str) -> String {
    match kind {
        ResourceKind::PlacementGroup => {
            format!("The placement group '{id}' is in use and may not be deleted.")
        }
        ResourceKind::Volume => format!("Volume {id} is currently attached to {by}"),
        ResourceKind::Snapshot => format!("The snapshot {id} is currently in use by {by}"),
        _ => format!("resource {id} has a dependent object: {by}"),
    }
}

/// What the state or an attribute of an instance keeps from being done. Tools look for the id in quotes, and
/// compare the sentences about protection as a whole.
fn of_state(error: &Error) -> String {
    match error {
        Error::MayNotBe {
            id,
            effect,
            attribute,
        } => format!(
            "The instance '{id}' may not be {}. Modify its '{attribute}' instance attribute and try again.",
            effect.name()
        ),
        Error::CannotBe {
            id,
            effect: Effect::Stopped,
            state,
        } if state == State::Pending.name() => {
            format!("Instance '{id}' cannot be stopped as it has never reached the 'running' state.")
        }
        Error::CannotBe { id, effect, .. } => format!(
            "The instance '{id}' is not in a state from which it can be {}.",
            effect.name()
        ),
        Error::IncorrectState {
            kind: ResourceKind::Instance,
            id,
            expected,
            ..
        } if State::from_name(expected).is_some() => {
            format!("The instance '{id}' is not in the '{expected}' state.")
        }
        Error::IncorrectState {
            kind: ResourceKind::Volume,
            id,
            state,
            expected,
        } => match expected.parse() {
            Ok(VolumeState::Available) => format!("{id} is not 'available'."),
            _ => format!("Volume '{id}' is in the '{state}' state."),
        },
        Error::IncorrectState {
            kind,
            id,
            state,
            expected,
        } => format!(
            "The {} '{id}' is not in a state from which it can do this: it is {state}, not {expected}.",
            codes(*kind).noun
        ),
        other => sentence(&other.to_string()),
    }
}

/// Volumes and where they are attached, of which tools look for parts.
fn of_volume(error: &Error) -> String {
    match error {
        Error::NoZone { name } => format!("The zone '{name}' does not exist."),
        Error::NoDeviceName { device } => format!(
            "Value ({device}) for parameter device is invalid. {device} is not a valid EBS device name."
        ),
        Error::DeviceInUse { device } => {
            format!("Invalid value '{device}' for unixDevice. Attachment point {device} is already in use")
        }
        Error::AlreadyAttached { volume } => format!("{volume} is already attached to an instance"),
        Error::NotAttached { volume, to } => {
            let device = to.device.as_ref();
            let device = device.map_or_else(String::new, |device| format!(" as device '{device}'"));
            format!(
                "The volume '{volume}' is not attached to instance '{}'{device}.",
                to.instance
            )
        }
        Error::ZoneMismatch { volume, instance } => {
            format!("The volume '{volume}' is not in the same availability zone as instance '{instance}'")
        }
        Error::DataElsewhere { volume, instance } => format!(
            "The volume '{volume}' has its data on another machine than the instance '{instance}', and volumes \
             can't move between machines yet."
        ),
        Error::OutOfReach { volume, instance } => format!(
            "The volume '{volume}' is in a store that the machine of the instance '{instance}' does not reach."
        ),
        Error::RootVolume { volume, instance } => {
            format!("Unable to detach root volume '{volume}' from instance '{instance}'")
        }
        Error::Modifying { volume } => {
            format!("Volume {volume} cannot be modified in modification state MODIFYING")
        }
        Error::ModifiedLately { least, .. } => format!(
            "You've reached the maximum modification rate per volume limit. Wait at least {} between modifications \
             per EBS volume.",
            span(least.as_secs())
        ),
        Error::NeverModified { volumes } => format!("Modification for volume '{volumes}' does not exist."),
        Error::NotRunning { instance } => format!("Instance '{instance}' is not 'running'."),
        other => of_image(other),
    }
}

/// Images.
fn of_image(error: &Error) -> String {
    match error {
        Error::ImageNameTaken { name, by } => format!("AMI name {name} is already in use by AMI {by}"),
        Error::ImageName { .. } => {
            "AMI names must be between 3 and 128 characters long, and may contain letters, \
                                    numbers, '(', ')', '.', '-', '/' and '_'"
                .into()
        }
        Error::InvalidMapping { reason } => reason.clone(),
        Error::ImageStorage { .. } => "You do not have permission to access the storage of this ami".into(),
        other => of_encryption(other),
    }
}

/// Encryption, and what says enough by itself.
fn of_encryption(error: &Error) -> String {
    match error {
        Error::EncryptionOfSnapshot => {
            "Parameter encrypted is invalid. You cannot specify the encrypted flag if \
                                        specifying a snapshot id in a block device mapping."
                .into()
        }
        Error::AccountsKey {
            kind: ResourceKind::Snapshot,
            ..
        } => "Encrypted snapshots with EBS default key cannot be shared".into(),
        Error::AccountsKey { .. } => {
            "Snapshots encrypted with the AWS Managed CMK can't be shared. Specify another snapshot.".into()
        }
        other => sentence(&other.to_string()),
    }
}

/// A time in words.
fn span(seconds: u64) -> String {
    match seconds {
        _ if seconds.is_multiple_of(3600) && seconds > 3600 => format!("{} hours", seconds / 3600),
        _ if seconds.is_multiple_of(60) && seconds > 60 => format!("{} minutes", seconds / 60),
        _ => format!("{seconds} seconds"),
    }
}

/// The words of EC2 for a tag that its instance can't read. One kind of key is refused here alone: cloud-init
/// takes it for a public key and loses all metadata over it.
fn unreadable(key: &str) -> String {
    let more = if looks_like_a_public_key(key) {
        ", and must not look like the index of a public key ('0=name')"
    } else {
        ""
    };
    format!(
        "'{key}' is not a valid tag key. Tag keys must match pattern ([0-9a-zA-Z\\\\-_+=,.@:]{{1,255}}), and must \
         not be a reserved name ('.', '..', '_index'){more}"
    )
}

/// The text as a sentence: a capital and a full stop. A text that begins with a value keeps it as it is.
fn sentence(text: &str) -> String {
    let word = text.split(' ').next().unwrap_or_default();
    let is_word = word
        .chars()
        .all(|c| c.is_ascii_lowercase() || c == ',' || c == '\'');
    let mut chars = text.chars();
    let first = chars
        .next()
        .map(|c| if is_word { c.to_ascii_uppercase() } else { c });
    let first = first.map(String::from).unwrap_or_default();
    let end = if text.ends_with(['.', '!', '?', ')']) {
        ""
    } else {
        "."
    };
    format!("{first}{}{end}", chars.as_str())
}

#[cfg(test)]
mod tests;
