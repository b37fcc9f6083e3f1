//! EC2's error table: from the domain's errors to codes, statuses and sentences. EC2's spellings are
//! irregular; they are copied, not derived.

use cumulet_domain::{Error, ResourceKind, error::Limit};

use crate::fault::Answer;

/// What EC2 answers to a domain error.
pub(crate) fn answer(error: &Error) -> Answer {
    let (code, status) = code(error);
    Answer::new(code, status, message(error))
}

fn code(error: &Error) -> (&'static str, u16) {
    let code = match error {
        Error::NotFound { kind, .. } => not_found(*kind),
        Error::Malformed { kind, .. } => malformed(*kind),
        Error::MissingParameter { .. } => "MissingParameter",
        Error::InvalidParameter { .. } => "InvalidParameterValue",
        Error::InvalidCombination { .. } => "InvalidParameterCombination",
        Error::Duplicate { kind, .. } => duplicate(*kind),
        Error::DuplicateRule { .. } => "InvalidPermission.Duplicate",
        Error::RepeatedRule => "InvalidParameterValue",
        Error::RuleNotFound { .. } => "InvalidPermission.NotFound",
        Error::InUse { kind, .. } => in_use(*kind),
        Error::IncorrectState {
            kind: ResourceKind::Instance,
            ..
        } => "IncorrectInstanceState",
        Error::IncorrectState { .. } => "IncorrectState",
        Error::Protected { id, .. } if ResourceKind::of(id) == Some(ResourceKind::SecurityGroup) => {
            "CannotDelete"
        }
        Error::Protected { .. } => "OperationNotPermitted",
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
        Error::Unusable { .. } => "IncorrectState",
        Error::Unsupported { .. } => "UnsupportedOperation",
        Error::Unavailable(_) => return ("Unavailable", 503),
        Error::Internal(_) => return ("InternalError", 500),
    };
    (code, 400)
}

const fn not_found(kind: ResourceKind) -> &'static str {
    match kind {
        ResourceKind::Instance => "InvalidInstanceID.NotFound",
        ResourceKind::Reservation => "InvalidReservationID.NotFound",
        ResourceKind::Image => "InvalidAMIID.NotFound",
        ResourceKind::Volume => "InvalidVolume.NotFound",
        ResourceKind::Snapshot => "InvalidSnapshot.NotFound",
        ResourceKind::SecurityGroup => "InvalidGroup.NotFound",
        ResourceKind::SecurityGroupRule => "InvalidSecurityGroupRuleId.NotFound",
        ResourceKind::Vpc => "InvalidVpcID.NotFound",
        ResourceKind::Subnet => "InvalidSubnetID.NotFound",
        ResourceKind::NetworkInterface => "InvalidNetworkInterfaceID.NotFound",
        ResourceKind::InterfaceAttachment => "InvalidAttachmentID.NotFound",
        ResourceKind::KeyPair => "InvalidKeyPair.NotFound",
        ResourceKind::RouteTable => "InvalidRouteTableID.NotFound",
        ResourceKind::InternetGateway => "InvalidInternetGatewayID.NotFound",
        ResourceKind::NetworkAcl => "InvalidNetworkAclID.NotFound",
        ResourceKind::DhcpOptions => "InvalidDhcpOptionID.NotFound",
        ResourceKind::Address => "InvalidAllocationID.NotFound",
        ResourceKind::PlacementGroup => "InvalidPlacementGroup.Unknown",
        ResourceKind::Operation | ResourceKind::Aggregate => "InvalidID",
    }
}

const fn malformed(kind: ResourceKind) -> &'static str {
    match kind {
        ResourceKind::Instance => "InvalidInstanceID.Malformed",
        ResourceKind::Reservation => "InvalidReservationID.Malformed",
        ResourceKind::Image => "InvalidAMIID.Malformed",
        ResourceKind::Volume => "InvalidVolumeID.Malformed",
        ResourceKind::Snapshot => "InvalidSnapshotID.Malformed",
        ResourceKind::SecurityGroup => "InvalidGroupId.Malformed",
        ResourceKind::SecurityGroupRule => "InvalidSecurityGroupRuleId.Malformed",
        ResourceKind::Vpc => "InvalidVpcID.Malformed",
        ResourceKind::Subnet => "InvalidSubnetID.Malformed",
        ResourceKind::NetworkInterface => "InvalidNetworkInterfaceID.Malformed",
        ResourceKind::InterfaceAttachment => "InvalidAttachmentID.Malformed",
        ResourceKind::KeyPair => "InvalidKeyPair.Malformed",
        ResourceKind::RouteTable => "InvalidRouteTableID.Malformed",
        ResourceKind::InternetGateway => "InvalidInternetGatewayID.Malformed",
        ResourceKind::NetworkAcl => "InvalidNetworkAclID.Malformed",
        ResourceKind::DhcpOptions => "InvalidDhcpOptionsID.Malformed",
        ResourceKind::Address => "InvalidAllocationID.Malformed",
        ResourceKind::PlacementGroup => "InvalidPlacementGroupId.Malformed",
        ResourceKind::Operation | ResourceKind::Aggregate => "InvalidID",
    }
}

const fn duplicate(kind: ResourceKind) -> &'static str {
    match kind {
        ResourceKind::SecurityGroup => "InvalidGroup.Duplicate",
        ResourceKind::KeyPair => "InvalidKeyPair.Duplicate",
        ResourceKind::Image => "InvalidAMIName.Duplicate",
        ResourceKind::PlacementGroup => "InvalidPlacementGroup.Duplicate",
        _ => "ResourceAlreadyExists",
    }
}

const fn in_use(kind: ResourceKind) -> &'static str {
    match kind {
        ResourceKind::Volume => "VolumeInUse",
        ResourceKind::Snapshot => "InvalidSnapshot.InUse",
        ResourceKind::NetworkInterface => "InvalidNetworkInterface.InUse",
        ResourceKind::PlacementGroup => "InvalidPlacementGroup.InUse",
        _ => "DependencyViolation",
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
        Limit::KeyPairs | Limit::Images => "ResourceLimitExceeded",
    }
}

fn message(error: &Error) -> String {
    match error {
        Error::NotFound { kind, id } if id.contains(", ") => {
            format!("The {}s '{id}' do not exist", noun(*kind))
        }
        Error::NotFound { kind, id } => format!("The {} '{id}' does not exist", noun(*kind)),
        Error::Malformed { kind, id } => {
            format!("Invalid id: \"{id}\" (expecting \"{}-...\")", kind.prefix())
        }
        Error::MissingParameter { name } => format!("The request must contain the parameter {name}"),
        Error::InvalidParameter { name, value, reason } => {
            format!(
                "Value ({value}) for parameter {name} is invalid. {}",
                sentence(reason)
            )
        }
        Error::Duplicate { kind, name } => format!("The {} '{name}' already exists", noun(*kind)),
        Error::DuplicateRule { rule } => format!("the specified rule \"{rule}\" already exists"),
        Error::RepeatedRule => "The same permission must not appear multiple times".into(),
        Error::RuleNotFound { .. } => "The specified rule does not exist in this security group.".into(),
        Error::InUse { id, by, .. } => format!("resource {id} has a dependent object: {by}"),
        Error::IncorrectState {
            kind,
            id,
            state,
            expected,
        } => format!(
            "The {} '{id}' is not in a state from which it can do this: it is {state}, not {expected}.",
            noun(*kind)
        ),
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
        other => sentence(&other.to_string()),
    }
}

/// What the sentences call a resource.
const fn noun(kind: ResourceKind) -> &'static str {
    match kind {
        ResourceKind::Instance => "instance ID",
        ResourceKind::Image => "image ID",
        ResourceKind::SecurityGroup => "security group",
        ResourceKind::SecurityGroupRule => "security group rule ID",
        ResourceKind::Vpc => "vpc ID",
        ResourceKind::Subnet => "subnet ID",
        ResourceKind::NetworkInterface => "networkInterface ID",
        ResourceKind::KeyPair => "key pair",
        other => other.resource_type(),
    }
}

/// The text as a sentence: a capital and a full stop.
fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars
        .next()
        .map(|c| c.to_uppercase().to_string())
        .unwrap_or_default();
    let end = if text.ends_with(['.', '!', '?', ')']) {
        ""
    } else {
        "."
    };
    format!("{first}{}{end}", chars.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_error() -> Vec<Error> {
        let text = || "secret-canary".to_owned();
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
            ]);
        }
        for limit in [
            Limit::Instances,
            Limit::Vcpus,
            Limit::SecurityGroups,
            Limit::RulesPerSecurityGroup,
            Limit::SecurityGroupsPerInterface,
            Limit::Tags,
            Limit::KeyPairs,
            Limit::Images,
            Limit::PublicAddresses,
        ] {
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
            Error::VolumeTooSmall { gib: 1, least: 2 },
            Error::Unsupported { what: text() },
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
