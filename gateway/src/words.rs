//! The words of the protocols for the same refusals: the codes of `query`, and those of awsJson. EC2's are in
//! `ec2::error`.
//!
//! A service's table is one of these, or starts from one and has codes of its own model. The sentences are EC2's,
//! which say what is the matter in full.

use cumulet_domain::Error;
use cumulet_wire::{WireError, WireErrorKind};

use crate::{
    ec2::error::words as ec2,
    fault::{Answer, Fault},
};

/// Those that IAM and STS share.
pub(crate) fn query(fault: &Fault) -> Answer {
    if let Fault::Throttled = fault {
        return Answer::new("Throttling", 400, "Rate exceeded");
    }
    let answer = ec2(fault);
    let code = match &*answer.code {
        "UnauthorizedOperation" => "AccessDenied",
        "InternalError" => "InternalFailure",
        "Unavailable" => "ServiceUnavailable",
        "InvalidParameterValue" | "UnknownParameter" | "MissingParameter" => "ValidationError",
        _ => return answer,
    };
    Answer::new(code, answer.status, answer.message)
}

/// Those that services of JSON share.
pub(crate) fn json(fault: &Fault) -> Answer {
    let (code, status) = match fault {
        Fault::Coded(answer) => return answer.clone(),
        Fault::Wire(error) => return of_form(error),
        Fault::Throttled => return Answer::new("ThrottlingException", 400, "Rate exceeded"),
        Fault::Unserved(_) => ("UnsupportedOperationException", 400),
        Fault::Domain(error) => match error {
            Error::Unauthorized { .. } => ("AccessDeniedException", 400),
            Error::NotFound { .. } => ("ResourceNotFoundException", 400),
            Error::LimitExceeded { .. } => ("LimitExceededException", 400),
            Error::Unavailable(_) => ("ServiceUnavailableException", 503),
            Error::Internal(_) => ("InternalFailure", 500),
            _ => ("ValidationException", 400),
        },
    };
    Answer::new(code, status, ec2(fault).message)
}

/// A request of JSON that is wrong in form.
fn of_form(error: &WireError) -> Answer {
    let code = match error.kind() {
        WireErrorKind::MissingAction | WireErrorKind::InvalidAction => "UnknownOperationException",
        WireErrorKind::UnsupportedOperation => "UnsupportedOperationException",
        WireErrorKind::MissingParameter => {
            let mut member: Vec<char> = error.parameter().chars().collect();
            if let Some(first) = member.first_mut() {
                *first = first.to_ascii_lowercase();
            }
            let member: String = member.into_iter().collect();
            let message = format!(
                "1 validation error detected: Value null at '{member}' failed to satisfy constraint: Member must not \
                 be null"
            );
            return Answer::new("ValidationException", 400, message);
        }
        _ => "SerializationException",
    };
    Answer::new(code, 400, error.message())
}

#[cfg(test)]
impl Fault {
    /// In EC2's words.
    pub(crate) fn answer(&self) -> Answer {
        ec2(self)
    }
}

#[cfg(test)]
mod tests {
    use cumulet_domain::error::Limit;
    use cumulet_wire::response::invalid_action;

    use super::*;

    #[test]
    fn each_protocol_has_its_words() {
        let unauthorized = Error::Unauthorized { action: "x:Y".into() };
        let most = Error::LimitExceeded {
            limit: Limit::Tags,
            max: 1,
        };
        for (fault, expected) in [
            (
                Fault::Throttled,
                [
                    ("RequestLimitExceeded", 503),
                    ("Throttling", 400),
                    ("ThrottlingException", 400),
                ],
            ),
            (
                Fault::Unserved("X".into()),
                [
                    ("UnsupportedOperation", 400),
                    ("UnsupportedOperation", 400),
                    ("UnsupportedOperationException", 400),
                ],
            ),
            (
                Fault::Wire(invalid_action("X")),
                [
                    ("InvalidAction", 400),
                    ("InvalidAction", 400),
                    ("UnknownOperationException", 400),
                ],
            ),
            (
                Fault::Wire(WireError::unknown("X")),
                [
                    ("UnknownParameter", 400),
                    ("ValidationError", 400),
                    ("SerializationException", 400),
                ],
            ),
            (
                Fault::Domain(unauthorized),
                [
                    ("UnauthorizedOperation", 403),
                    ("AccessDenied", 403),
                    ("AccessDeniedException", 400),
                ],
            ),
            (
                Fault::Domain(most),
                [
                    ("TagLimitExceeded", 400),
                    ("TagLimitExceeded", 400),
                    ("LimitExceededException", 400),
                ],
            ),
            (
                Fault::Domain(Error::Internal("secret".into())),
                [
                    ("InternalError", 500),
                    ("InternalFailure", 500),
                    ("InternalFailure", 500),
                ],
            ),
            (
                Fault::Domain(Error::Unavailable("secret".into())),
                [
                    ("Unavailable", 503),
                    ("ServiceUnavailable", 503),
                    ("ServiceUnavailableException", 503),
                ],
            ),
        ] {
            let said = [ec2(&fault), query(&fault), json(&fault)];
            let codes = [0, 1, 2].map(|n| (&*said[n].code, said[n].status));
            assert_eq!(codes, expected, "{fault:?}");
            assert!(
                said.iter().all(|answer| !answer.message.contains("secret")),
                "{said:?}"
            );
        }
        let missing = json(&Fault::Wire(WireError::missing("ServiceCode")));
        assert!(
            missing.message.contains("Value null at 'serviceCode'"),
            "{missing:?}"
        );
    }
}
