//! Every error of the domain against EC2's table: codes, statuses and what the sentences say.

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
            Error::AccountsKey { kind, id: id() },
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
        Error::ParameterDependency {
            parameter: "KmsKeyId",
            needs: "Encrypted",
        },
        Error::EncryptionOfSnapshot,
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
        Error::OutOfReach {
            volume: text(),
            instance: text(),
        },
        Error::RootVolume {
            volume: text(),
            instance: text(),
        },
        Error::Modifying { volume: text() },
        Error::ModifiedLately {
            volume: text(),
            least: std::time::Duration::from_secs(21_600),
        },
        Error::NeverModified { volumes: text() },
        Error::NotRunning { instance: text() },
        Error::UnknownZone { name: text() },
        Error::UnreadableTagKey { key: text() },
        Error::VolumeTooSmall { gib: 1, least: 2 },
        Error::InvalidMapping {
            reason: "Volume of size 1GB is smaller than snapshot 'snap-1', expect size >= 2GB".into(),
        },
        Error::ImageNameTaken {
            name: text(),
            by: text(),
        },
        Error::ImageName { name: text() },
        Error::ImageStorage { image: text() },
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
                let (folded, as_it_is) = (message.to_lowercase().contains(value), message.contains(value));
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
            Error::ModifiedLately {
                volume: volume(),
                least: std::time::Duration::from_secs(21_600),
            },
            "VolumeModificationRateExceeded",
            "You've reached the maximum modification rate per volume limit. Wait at least 6 hours between \
             modifications per EBS volume.",
        ),
        (
            Error::Modifying { volume: volume() },
            "IncorrectModificationState",
            "Volume vol-1 cannot be modified in modification state MODIFYING",
        ),
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
