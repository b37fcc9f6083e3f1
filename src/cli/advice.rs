//! What an operator is told of an error: its text, and what to do about it where the text does not say that. One table
//! over the domain's kinds, as each door has one of its own; `main` prints what comes of it.

use cumulet_domain::{Error, ResourceKind};

/// An error with its causes, and what to do about it.
pub(crate) fn told(error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    let kind = error.chain().find_map(|cause| cause.downcast_ref::<Error>());
    match kind.and_then(advice) {
        Some(advice) => format!("{text}; {advice}"),
        None => text,
    }
}

/// What to do. `None` where the text names what was asked for and what is the matter with it, so that this is what has to
/// be put right.
fn advice(error: &Error) -> Option<&'static str> {
    Some(match error {
        Error::NotFound {
            kind: ResourceKind::Image,
            ..
        } => "`cumulet image list` lists those that there are",
        Error::EncryptionOfSnapshot => "leave that out",
        Error::ImageName { .. } => "take 3 to 128 letters, digits, spaces and ()[]./-'@_",
        Error::RepeatedRule => "name each once",
        Error::NoInstances => "name at least one",
        Error::LimitExceeded { .. } => "delete what is not needed any more",
        Error::InvalidPaginationToken => "begin again with the first page",
        Error::NoDefaultVpc => "name a subnet",
        Error::Unsupported { .. } => "ask without it",
        Error::Abandoned => "ask again",
        Error::Unavailable(_) => {
            "try again, and where it stays so, look into the logs of the cloud's processes"
        }
        Error::Internal(_) => {
            "the logs of the cloud's processes may say more, and `cumulet audit` says whether its database is sound"
        }
        // Which those are is in the tests' table, which has every kind.
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::Duration};

    use anyhow::Context as _;
    use cumulet_domain::error::{Attachment, Effect, Limit};

    use super::*;

    /// What the examples are about: a text, and a number.
    const VALUE: &str = "the-value";
    const NUMBER: u64 = 4711;

    /// All kinds: one that is not here does not compile.
    macro_rules! kinds {
        ($($kind:ident)*) => {
            const KINDS: &[&str] = &[$(stringify!($kind)),*];

            fn kind_of(error: &Error) -> &'static str {
                match error {
                    $(Error::$kind { .. } => stringify!($kind),)*
                }
            }
        };
    }

    kinds! {
        NotFound Malformed NoId MissingParameter InvalidParameter InvalidCombination ParameterDependency
        EncryptionOfSnapshot AccountsKey Duplicate ImageNameTaken ImageName ImageStorage DuplicateRule RepeatedRule
        RuleNotFound InUse IncorrectState CannotBe Protected MayNotBe NoInstances UnknownInstanceType
        UnknownInstanceTypes UnknownZone NoZone NoDeviceName DeviceInUse AlreadyAttached NotAttached ZoneMismatch
        DataElsewhere OutOfReach Modifying ModifiedLately NeverModified RootVolume NotRunning NoDevice UnreadableTagKey
        Unauthorized LimitExceeded InsufficientCapacity InsufficientAddresses InsufficientPublicAddresses AddressInUse
        IdempotentParameterMismatch InvalidPaginationToken MalformedUserData InvalidKeyFormat NoDefaultVpc
        VolumeTooSmall InvalidMapping Unusable Unsupported Abandoned Unavailable Internal
    }

    fn text() -> String {
        VALUE.to_owned()
    }

    /// Those of each kind of resource.
    fn of(kind: ResourceKind) -> Vec<Error> {
        vec![
            Error::NotFound { kind, id: text() },
            Error::Malformed { kind, id: text() },
            Error::AccountsKey { kind, id: text() },
            Error::Duplicate { kind, name: text() },
            Error::InUse {
                kind,
                id: text(),
                by: "another".into(),
            },
            Error::IncorrectState {
                kind,
                id: text(),
                state: "pending".into(),
                expected: "running".into(),
            },
            Error::Unusable {
                kind,
                id: text(),
                state: "disabled".into(),
            },
        ]
    }

    /// Those about instances and how they are launched.
    fn of_instances() -> Vec<Error> {
        let (id, effect) = (text, Effect::Stopped);
        vec![
            Error::CannotBe {
                id: id(),
                effect,
                state: "pending".into(),
            },
            Error::MayNotBe {
                id: id(),
                effect,
                attribute: "disableApiStop",
            },
            Error::NoInstances,
            Error::UnknownInstanceType { name: text() },
            Error::UnknownInstanceTypes {
                names: vec![text(), "another".into()],
            },
            Error::UnknownZone { name: text() },
            Error::NoZone { name: text() },
            Error::NotRunning { instance: text() },
            Error::UnreadableTagKey { key: text() },
            Error::LimitExceeded {
                limit: Limit::Images,
                max: NUMBER,
            },
            Error::InsufficientCapacity { reason: text() },
            Error::InsufficientAddresses {
                subnet: text(),
                free: 1,
                wanted: 2,
            },
            Error::InsufficientPublicAddresses {
                free: 1,
                wanted: NUMBER,
            },
            Error::AddressInUse { address: text() },
            Error::NoDefaultVpc,
            Error::MalformedUserData { reason: text() },
            Error::InvalidKeyFormat { reason: text() },
        ]
    }

    /// Those about volumes, snapshots and images.
    fn of_disks() -> Vec<Error> {
        let (volume, instance) = (text, || "another".to_owned());
        vec![
            Error::EncryptionOfSnapshot,
            Error::ImageNameTaken {
                name: text(),
                by: "another".into(),
            },
            Error::ImageName { name: text() },
            Error::ImageStorage { image: text() },
            Error::NoDeviceName { device: text() },
            Error::DeviceInUse { device: text() },
            Error::AlreadyAttached { volume: volume() },
            Error::NotAttached {
                volume: volume(),
                to: Attachment {
                    instance: instance(),
                    device: None,
                },
            },
            Error::ZoneMismatch {
                volume: volume(),
                instance: instance(),
            },
            Error::DataElsewhere {
                volume: volume(),
                instance: instance(),
            },
            Error::OutOfReach {
                volume: volume(),
                instance: instance(),
            },
            Error::Modifying { volume: volume() },
            Error::ModifiedLately {
                volume: volume(),
                least: Duration::from_secs(NUMBER),
            },
            Error::NeverModified { volumes: volume() },
            Error::RootVolume {
                volume: volume(),
                instance: instance(),
            },
            Error::NoDevice { device: text() },
            Error::VolumeTooSmall {
                gib: NUMBER,
                least: NUMBER + 1,
            },
            Error::InvalidMapping { reason: text() },
        ]
    }

    /// All others.
    fn of_requests() -> Vec<Error> {
        vec![
            Error::NoId { text: text() },
            Error::MissingParameter { name: text() },
            Error::invalid("Host", VALUE, "there is no such host"),
            Error::InvalidCombination { reason: text() },
            Error::ParameterDependency {
                parameter: VALUE,
                needs: "another",
            },
            Error::DuplicateRule { rule: text() },
            Error::RepeatedRule,
            Error::RuleNotFound { rule: text() },
            Error::Protected {
                id: text(),
                reason: "it is the default".into(),
            },
            Error::Unauthorized { action: text() },
            Error::IdempotentParameterMismatch { token: text() },
            Error::InvalidPaginationToken,
            Error::Unsupported { what: text() },
            Error::Abandoned,
            Error::Unavailable(text()),
            Error::Internal(text()),
        ]
    }

    fn examples() -> Vec<Error> {
        let kinds = ResourceKind::ALL.into_iter().flat_map(of);
        kinds
            .chain(of_instances())
            .chain(of_disks())
            .chain(of_requests())
            .collect()
    }

    #[test]
    fn each_kind_of_error_names_its_value_or_says_what_to_do() {
        let mut seen = BTreeSet::new();
        for error in examples() {
            seen.insert(kind_of(&error));
            let text = error.to_string();
            let said = told(&anyhow::Error::from(error.clone()));
            match advice(&error) {
                Some(advice) => {
                    assert_eq!(said, format!("{text}; {advice}"));
                    assert!(advice.contains(' ') && !advice.ends_with('.'), "{said}");
                }
                None => {
                    assert_eq!(said, text);
                    let number = NUMBER.to_string();
                    assert!(
                        said.contains(VALUE) || said.contains(&number),
                        "{error:?}: {said}"
                    );
                }
            }
            // One line, which goes on after `cumulet: `, and nothing of how the program writes its values down.
            let begins = said.chars().next().is_some_and(|c| !c.is_uppercase());
            assert!(begins && !said.ends_with('.') && !said.contains('\n'), "{said}");
            assert!(!said.contains("Some(") && !said.contains(" { "), "{said}");
        }
        let all: BTreeSet<&str> = KINDS.iter().copied().collect();
        assert_eq!(seen, all);
    }

    #[test]
    fn what_is_not_supported_and_what_is_not_there_say_what_to_do() {
        let image = Error::NotFound {
            kind: ResourceKind::Image,
            id: "ami-0123456789abcdef0".into(),
        };
        let unsupported = Error::Unsupported { what: "IPv6".into() };
        for (error, expected) in [
            (unsupported, "IPv6 is not supported; ask without it"),
            (
                image,
                "image \"ami-0123456789abcdef0\" does not exist; `cumulet image list` lists those that there are",
            ),
            (
                Error::NoDefaultVpc,
                "the account has no default VPC; name a subnet",
            ),
        ] {
            assert_eq!(told(&anyhow::Error::from(error.clone())), expected);
            // Whatever was going on.
            let result: Result<(), Error> = Err(error);
            let around = result.context("the start").unwrap_err();
            assert_eq!(told(&around), format!("the start: {expected}"));
        }
        // What is no error of the domain says it all itself.
        let other = anyhow::anyhow!("there is no file x");
        assert_eq!(told(&other), "there is no file x");
    }
}
