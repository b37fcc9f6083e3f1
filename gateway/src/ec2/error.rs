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

fn code(error: &Error) -> (&'static str, u16) {
    let code = match error {
        Error::NotFound { kind, .. } => codes(*kind).not_found,
        // An empty id is one that was not given, as EC2 has it.
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
        Error::UnknownInstanceTypes { .. } => "InvalidInstanceType",
        Error::NoDevice { .. } => "InvalidInstanceAttributeValue",
        Error::Duplicate { kind, .. } => codes(*kind).duplicate,
        Error::DuplicateRule { .. } => "InvalidPermission.Duplicate",
        Error::RepeatedRule => "InvalidParameterValue",
        Error::RuleNotFound { .. } => "InvalidPermission.NotFound",
        Error::InUse { kind, .. } => codes(*kind).in_use,
        Error::IncorrectState {
            kind: ResourceKind::Instance,
            ..
        }
        | Error::CannotBe { .. } => "IncorrectInstanceState",
        Error::NoZone { .. } => "InvalidZone.NotFound",
        Error::AlreadyAttached { .. } => "VolumeInUse",
        Error::NotAttached { .. } => "InvalidAttachment.NotFound",
        Error::ZoneMismatch { .. } => "InvalidVolume.ZoneMismatch",
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
        Error::VolumeTooSmall { .. } => "InvalidBlockDeviceMapping",
        Error::Unusable {
            kind: ResourceKind::Image,
            ..
        } => "InvalidAMIID.Unavailable",
        Error::Unusable { .. } | Error::IncorrectState { .. } | Error::NotRunning { .. } => "IncorrectState",
        Error::Unsupported { .. } | Error::DataElsewhere { .. } => "UnsupportedOperation",
        // Nobody reads it but the audit log.
        Error::Abandoned => "ClientDisconnected",
        Error::Unavailable(_) => return ("Unavailable", 503),
        Error::Internal(_) => return ("InternalError", 500),
    };
    (code, 400)
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
        Limit::Images => "ResourceLimitExceeded",
        Limit::Volumes | Limit::VolumeStorage => "VolumeLimitExceeded",
        Limit::VolumesPerInstance => "AttachmentLimitExceeded",
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
        Error::LimitExceeded {
            limit: Limit::PublicAddresses,
            ..
        } => "The maximum number of addresses has been reached.".into(),
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

/// Volumes and where they are attached, of which tools look for parts; and what says enough by itself.
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
        Error::RootVolume { volume, instance } => {
            format!("Unable to detach root volume '{volume}' from instance '{instance}'")
        }
        Error::NotRunning { instance } => format!("Instance '{instance}' is not 'running'."),
        other => sentence(&other.to_string()),
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
mod tests {
    use cumulet_domain::error::Attachment;

    use super::*;

    fn every_error() -> Vec<Error> {
        errors_with("secret-canary")
    }

    /// Every error of every kind, with this for all texts that are no ids.
    fn errors_with(text: &str) -> Vec<Error> {
        let text = || text.to_owned();
        let mut errors = Vec::new();
        for kind in ResourceKind::ALL {
            let id = || format!("{}-0123456789abcdef0", kind.prefix());
            errors.extend([
                Error::NotFound { kind, id: id() },
                Error::Malformed { kind, id: id() },
                Error::Duplicate { kind, name: text() },
                Error::InUse {
                    kind,
                    id: id(),
                    by: text(),
                },
                Error::IncorrectState {
                    kind,
                    id: id(),
                    state: text(),
                    expected: text(),
                },
                Error::Unusable {
                    kind,
                    id: id(),
                    state: text(),
                },
                Error::Protected {
                    id: id(),
                    reason: text(),
                },
                Error::MayNotBe {
                    id: id(),
                    effect: Effect::Terminated,
                    attribute: "disableApiStop",
                },
                Error::CannotBe {
                    id: id(),
                    effect: Effect::Rebooted,
                    state: text(),
                },
            ]);
        }
        for limit in Limit::ALL {
            errors.push(Error::LimitExceeded { limit, max: 1 });
        }
        errors.extend([
            Error::MissingParameter { name: text() },
            Error::invalid("Name", "value", "reason"),
            Error::InvalidCombination { reason: text() },
            Error::DuplicateRule { rule: text() },
            Error::RepeatedRule,
            Error::RuleNotFound { rule: text() },
            Error::Unauthorized { action: text() },
            Error::InsufficientCapacity { reason: text() },
            Error::InsufficientAddresses {
                subnet: text(),
                free: 1,
                wanted: 2,
            },
            Error::InsufficientPublicAddresses { free: 1, wanted: 2 },
            Error::AddressInUse { address: text() },
            Error::IdempotentParameterMismatch { token: text() },
            Error::InvalidPaginationToken,
            Error::MalformedUserData { reason: text() },
            Error::InvalidKeyFormat { reason: text() },
            Error::NoDefaultVpc,
            Error::NoId { text: text() },
            Error::NoInstances,
            Error::UnknownInstanceType { name: text() },
            Error::UnknownInstanceTypes {
                names: vec![text(), text()],
            },
            Error::NoDevice { device: text() },
            Error::NoZone { name: text() },
            Error::NoDeviceName { device: text() },
            Error::DeviceInUse { device: text() },
            Error::AlreadyAttached { volume: text() },
            Error::NotAttached {
                volume: text(),
                to: Attachment {
                    instance: text(),
                    device: Some(text()),
                },
            },
            Error::ZoneMismatch {
                volume: text(),
                instance: text(),
            },
            Error::DataElsewhere {
                volume: text(),
                instance: text(),
            },
            Error::RootVolume {
                volume: text(),
                instance: text(),
            },
            Error::NotRunning { instance: text() },
            Error::UnknownZone { name: text() },
            Error::UnreadableTagKey { key: text() },
            Error::VolumeTooSmall { gib: 1, least: 2 },
            Error::Unsupported { what: text() },
            Error::Abandoned,
            Error::Unavailable(text()),
            Error::Internal(text()),
        ]);
        errors
    }

    #[test]
    fn every_error_of_every_kind_has_a_code_a_status_and_a_sentence() {
        for error in every_error() {
            let answer = answer(&error);
            assert!(
                answer.code.chars().all(|c| c.is_ascii_alphanumeric() || c == '.') && !answer.code.is_empty(),
                "{error:?}"
            );
            assert!(!answer.message.is_empty(), "{error:?}");
            let server = matches!(
                error,
                Error::Internal(_)
                    | Error::Unavailable(_)
                    | Error::InsufficientCapacity { .. }
                    | Error::InsufficientPublicAddresses { .. }
            );
            assert_eq!(answer.status >= 500, server, "{error:?}");
            assert!((400..600).contains(&answer.status), "{error:?}");
        }
    }

    /// A sentence may begin with a value, and has it as it is: ids are searched for and compared.
    #[test]
    fn no_value_is_changed_in_any_sentence() {
        for value in [
            "i-0f95abcd1234ef567",
            "subnet-0f95abcd1234ef567",
            "éa-1",
            "t9.huge",
        ] {
            for error in errors_with(value) {
                let message = answer(&error).message;
                let ids = format!("{error:?}");
                let ids = ids.split('"').filter(|part| part.ends_with("-0123456789abcdef0"));
                for value in ids.chain([value]) {
                    let (folded, as_it_is) =
                        (message.to_lowercase().contains(value), message.contains(value));
                    assert_eq!(folded, as_it_is, "{error:?}: {message}");
                }
            }
        }
        for (text, sentence_of) in [
            ("no host is up", "No host is up."),
            ("i-0f95 is gone", "i-0f95 is gone."),
            ("203.0.113.0/24 is full", "203.0.113.0/24 is full."),
            ("\"web\" is taken", "\"web\" is taken."),
        ] {
            assert_eq!(sentence(text), sentence_of);
        }
    }

    #[test]
    fn sentences_that_tools_compare() {
        let id = || "i-0f95abcd1234ef567".to_owned();
        for (effect, attribute, expected) in [
            (
                Effect::Terminated,
                "disableApiTermination",
                "The instance 'i-0f95abcd1234ef567' may not be terminated. Modify its 'disableApiTermination' \
                 instance attribute and try again.",
            ),
            (
                Effect::Terminated,
                "disableApiStop",
                "The instance 'i-0f95abcd1234ef567' may not be terminated. Modify its 'disableApiStop' instance \
                 attribute and try again.",
            ),
            (
                Effect::Stopped,
                "disableApiStop",
                "The instance 'i-0f95abcd1234ef567' may not be stopped. Modify its 'disableApiStop' instance \
                 attribute and try again.",
            ),
        ] {
            let error = Error::MayNotBe {
                id: id(),
                effect,
                attribute,
            };
            let answer = answer(&error);
            assert_eq!(
                (&*answer.code, answer.message.as_str()),
                ("OperationNotPermitted", expected)
            );
        }
        let few = Error::InsufficientAddresses {
            subnet: "subnet-0f95abcd1234ef567".into(),
            free: 1,
            wanted: 2,
        };
        assert_eq!(
            answer(&few).message,
            "There are not enough free addresses in subnet 'subnet-0f95abcd1234ef567' to satisfy the requested \
             number of instances."
        );
    }

    #[test]
    fn what_is_internal_is_never_shown() {
        for error in [
            Error::Internal("canary".into()),
            Error::Unavailable("canary".into()),
        ] {
            assert!(!answer(&error).message.contains("canary"));
        }
    }

    #[test]
    fn sentences_about_volumes() {
        let (volume, instance) = (|| "vol-1".to_owned(), || "i-1".to_owned());
        let device = || "/dev/sdf".to_owned();
        let state = |state: &str, expected: &str| Error::IncorrectState {
            kind: ResourceKind::Volume,
            id: volume(),
            state: state.into(),
            expected: expected.into(),
        };
        let not_attached = |device: Option<String>| Error::NotAttached {
            volume: volume(),
            to: Attachment {
                instance: instance(),
                device,
            },
        };
        for (error, code, sentence) in [
            (
                Error::NoZone { name: "z".into() },
                "InvalidZone.NotFound",
                "The zone 'z' does not exist.",
            ),
            (
                Error::NoDeviceName { device: "xyz".into() },
                "InvalidParameterValue",
                "Value (xyz) for parameter device is invalid. xyz is not a valid EBS device name.",
            ),
            (
                Error::DeviceInUse { device: device() },
                "InvalidParameterValue",
                "Invalid value '/dev/sdf' for unixDevice. Attachment point /dev/sdf is already in use",
            ),
            (
                Error::AlreadyAttached { volume: volume() },
                "VolumeInUse",
                "vol-1 is already attached to an instance",
            ),
            (
                Error::InUse {
                    kind: ResourceKind::Volume,
                    id: volume(),
                    by: instance(),
                },
                "VolumeInUse",
                "Volume vol-1 is currently attached to i-1",
            ),
            (
                not_attached(None),
                "InvalidAttachment.NotFound",
                "The volume 'vol-1' is not attached to instance 'i-1'.",
            ),
            (
                not_attached(Some(device())),
                "InvalidAttachment.NotFound",
                "The volume 'vol-1' is not attached to instance 'i-1' as device '/dev/sdf'.",
            ),
            (
                Error::ZoneMismatch {
                    volume: volume(),
                    instance: instance(),
                },
                "InvalidVolume.ZoneMismatch",
                "The volume 'vol-1' is not in the same availability zone as instance 'i-1'",
            ),
            (
                Error::RootVolume {
                    volume: volume(),
                    instance: instance(),
                },
                "OperationNotPermitted",
                "Unable to detach root volume 'vol-1' from instance 'i-1'",
            ),
            (
                Error::NotRunning { instance: instance() },
                "IncorrectState",
                "Instance 'i-1' is not 'running'.",
            ),
            (
                state("deleting", "available"),
                "IncorrectState",
                "vol-1 is not 'available'.",
            ),
            (
                state("available", "in-use"),
                "IncorrectState",
                "Volume 'vol-1' is in the 'available' state.",
            ),
        ] {
            let told = answer(&error);
            assert_eq!((&*told.code, &*told.message), (code, sentence));
        }
    }

    #[test]
    fn irregular_spellings() {
        let id = || "x".to_owned();
        for (error, code, status) in [
            (
                Error::NotFound {
                    kind: ResourceKind::SecurityGroup,
                    id: id(),
                },
                "InvalidGroup.NotFound",
                400,
            ),
            (
                Error::Malformed {
                    kind: ResourceKind::SecurityGroup,
                    id: id(),
                },
                "InvalidGroupId.Malformed",
                400,
            ),
            (
                Error::NotFound {
                    kind: ResourceKind::Volume,
                    id: id(),
                },
                "InvalidVolume.NotFound",
                400,
            ),
            (
                Error::NotFound {
                    kind: ResourceKind::Image,
                    id: id(),
                },
                "InvalidAMIID.NotFound",
                400,
            ),
            (
                Error::NotFound {
                    kind: ResourceKind::KeyPair,
                    id: id(),
                },
                "InvalidKeyPair.NotFound",
                400,
            ),
            (
                Error::InUse {
                    kind: ResourceKind::SecurityGroup,
                    id: id(),
                    by: id(),
                },
                "DependencyViolation",
                400,
            ),
            (
                Error::Protected {
                    id: "sg-0123456789abcdef0".into(),
                    reason: id(),
                },
                "CannotDelete",
                400,
            ),
            (
                Error::Protected {
                    id: "i-0123456789abcdef0".into(),
                    reason: id(),
                },
                "OperationNotPermitted",
                400,
            ),
            (Error::Unauthorized { action: id() }, "UnauthorizedOperation", 403),
            (
                Error::LimitExceeded {
                    limit: Limit::KeyPairs,
                    max: 5000,
                },
                "KeyPairLimitExceeded",
                400,
            ),
            (
                Error::LimitExceeded {
                    limit: Limit::PlacementGroups,
                    max: 500,
                },
                "PlacementGroupLimitExceeded",
                400,
            ),
            (
                Error::InsufficientCapacity { reason: id() },
                "InsufficientInstanceCapacity",
                500,
            ),
        ] {
            let answer = answer(&error);
            assert_eq!((&*answer.code, answer.status), (code, status), "{error:?}");
        }
    }
}
