//! The awsJson codec: a request's body into a declared shape, a shape into an answer's body, and errors.
//!
//! A member that the model does not have is refused, as in the other codecs, and so is one that is there twice. A
//! `null` is none. `X-Amz-Target` and the versions of the protocol are the caller's.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::error::{WireError, WireErrorKind};
use crate::operation::{MemberPolicy, OperationInfo};

/// Longest message of the parser that is passed on: it repeats what was sent.
const LONGEST: usize = 300;

/// A shape of a service of JSON.
pub trait JsonShape: Serialize + DeserializeOwned {
    /// The first member that the model requires and that is not there.
    fn missing(&self) -> Option<&'static str>;
}

/// A request's members before they are decoded: what the framework looks at.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Members(Map<String, Value>);

impl Members {
    /// Parses a body; an empty one has no members.
    ///
    /// # Errors
    /// What is no JSON object.
    pub fn parse(body: &[u8]) -> Result<Self, WireError> {
        if body.is_empty() {
            return Ok(Members::default());
        }
        serde_json::from_slice(body)
            .map(Members)
            .map_err(|error| malformed(&error))
    }

    /// The text of a member.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }

    /// A member that is a number and not negative.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u64> {
        self.0.get(name)?.as_u64()
    }

    /// How many items a member has that is a list.
    #[must_use]
    pub fn length(&self, name: &str) -> Option<usize> {
        self.0.get(name)?.as_array().map(Vec::len)
    }

    /// How many there are at the top.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The members at the top by name, each as the one text that JSON without spaces has for it.
    pub fn iter(&self) -> impl Iterator<Item = (&str, String)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_string()))
    }

    /// Every text in it, wherever it is.
    pub fn texts(&self, hear: &mut dyn FnMut(&str)) {
        self.0.values().for_each(|value| texts(value, hear));
    }

    /// Refuses members that the model has and this cloud does not support, unless their value is their default.
    ///
    /// # Errors
    /// `UnsupportedOperation` with the member.
    pub fn check(&self, info: &OperationInfo) -> Result<(), WireError> {
        let refused = |policy: &&MemberPolicy| {
            let mut steps = policy.parameter.split('.');
            let top = steps.next().and_then(|name| self.0.get(name));
            top.is_some_and(|value| differs(value, steps, policy.defaults))
        };
        match info.refused.iter().find(refused) {
            Some(policy) => Err(WireError::unsupported(policy.parameter, policy.reason)),
            None => Ok(()),
        }
    }
}

fn texts(value: &Value, hear: &mut dyn FnMut(&str)) {
    match value {
        Value::String(text) => hear(text),
        Value::Array(items) => items.iter().for_each(|item| texts(item, hear)),
        Value::Object(members) => members.values().for_each(|member| texts(member, hear)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Whether there is something else than a default at the end of a path.
fn differs<'s>(value: &Value, mut steps: impl Iterator<Item = &'s str> + Clone, defaults: &[&str]) -> bool {
    match (steps.next(), value) {
        (None, Value::Null) => false,
        (None, Value::String(text)) => !defaults.contains(&text.as_str()),
        (None, other) => !defaults.contains(&other.to_string().as_str()),
        (Some("N"), Value::Array(items)) => items.iter().any(|item| differs(item, steps.clone(), defaults)),
        (Some(name), Value::Object(members)) => members
            .get(name)
            .is_some_and(|member| differs(member, steps, defaults)),
        // Of another type than the model has: the decoder's to refuse.
        (Some(_), _) => false,
    }
}

/// Decodes a whole request.
///
/// # Errors
/// What is no such shape, or lacks a member.
pub fn decode<T: JsonShape>(body: &[u8]) -> Result<T, WireError> {
    let body = if body.is_empty() { b"{}" } else { body };
    if body.trim_ascii_start().first() == Some(&b'[') {
        return Err(WireError::new(
            WireErrorKind::InvalidParameterValue,
            "",
            "The request's body is not valid: expected an object",
        ));
    }
    let shape: T = serde_json::from_slice(body).map_err(|error| malformed(&error))?;
    match shape.missing() {
        Some(member) => Err(WireError::missing(member)),
        None => Ok(shape),
    }
}

/// The body of an answer.
///
/// # Errors
/// A value that JSON can't have, such as a number without end.
pub fn encode<T: Serialize>(value: &T) -> Result<String, serde_json::Error> {
    serde_json::to_string(value)
}

/// The body of an error.
#[must_use]
pub fn error(code: &str, message: &str) -> String {
    #[derive(Serialize)]
    struct Body<'a> {
        #[serde(rename = "__type")]
        kind: &'a str,
        message: &'a str,
    }
    // Two texts can always be written.
    encode(&Body { kind: code, message }).unwrap_or_default()
}

fn malformed(error: &serde_json::Error) -> WireError {
    let text: String = error.to_string().chars().take(LONGEST).collect();
    let kind = if error.is_data() {
        WireErrorKind::InvalidParameterValue
    } else {
        WireErrorKind::MalformedQueryString
    };
    WireError::new(kind, "", format!("The request's body is not valid: {text}"))
}

/// Takes `null` for what is not there.
pub(crate) fn or_none<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service_quotas::{GetServiceQuotaRequest, ListServiceQuotasRequest, SERVICE};

    #[test]
    fn what_is_asked_is_decoded_strictly() {
        let get = |body: &str| decode::<GetServiceQuotaRequest>(body.as_bytes());
        let asked = get(r#"{"ServiceCode":"ec2","QuotaCode":"L-1","ContextId":null}"#).unwrap();
        assert_eq!(
            (asked.service_code.as_deref(), asked.context_id),
            (Some("ec2"), None)
        );
        for (body, code, told) in [
            (r#"{"ServiceCode":"ec2"}"#, "MissingParameter", "QuotaCode"),
            ("", "MissingParameter", "ServiceCode"),
            (
                r#"{"ServiceCode":1,"QuotaCode":"x"}"#,
                "InvalidParameterValue",
                "invalid type: integer `1`",
            ),
            (
                r#"{"ServiceCode":"ec2","QuotaCode":"x","Nonsense":1}"#,
                "InvalidParameterValue",
                "`Nonsense`",
            ),
            (
                r#"{"ServiceCode":"ec2","ServiceCode":"vpc","QuotaCode":"x"}"#,
                "InvalidParameterValue",
                "duplicate field",
            ),
            (r#"{"ServiceCode":"#, "MalformedQueryString", "EOF"),
            ("[]", "InvalidParameterValue", "expected"),
        ] {
            let error = get(body).unwrap_err();
            assert_eq!(error.code(), code, "{body}: {error}");
            assert!(error.message().contains(told), "{body}: {error}");
        }
        let deep = format!(r#"{{"ServiceCode":{}"#, "[".repeat(100_000));
        assert_eq!(
            Members::parse(deep.as_bytes()).unwrap_err().code(),
            "MalformedQueryString"
        );
        let long = format!(
            r#"{{"ServiceCode":"ec2","QuotaCode":"x","{}":1}}"#,
            "n".repeat(10_000)
        );
        assert!(get(&long).unwrap_err().message().len() < 400);
        let listed: ListServiceQuotasRequest = decode(br#"{"ServiceCode":"vpc","MaxResults":5}"#).unwrap();
        assert_eq!(listed.max_results, Some(5));
    }

    #[test]
    fn refused_members_pass_with_their_default_only() {
        let crate::Known::Served(info) = SERVICE.lookup("GetServiceQuota") else {
            panic!("it is served");
        };
        for (body, passes) in [
            (r#"{"ServiceCode":"ec2"}"#, true),
            (r#"{"ContextId":null}"#, true),
            (r#"{"ContextId":"i-1"}"#, false),
        ] {
            assert_eq!(
                Members::parse(body.as_bytes()).unwrap().check(info).is_ok(),
                passes,
                "{body}"
            );
        }
        let nested = MemberPolicy {
            parameter: "A.N.B",
            defaults: &["x"],
            reason: "no",
        };
        for (value, passes) in [
            (r#"{"A":[{"B":"x"},{}]}"#, true),
            (r#"{"A":[{"B":"x"},{"B":2}]}"#, false),
            (r#"{"A":3}"#, true),
        ] {
            let value: Value = serde_json::from_str(value).unwrap();
            let found = differs(&value, nested.parameter.split('.'), nested.defaults);
            assert_eq!(!found, passes, "{value}");
        }
    }

    #[test]
    fn errors_have_their_type_and_message() {
        assert_eq!(
            error("NoSuchResourceException", "a \"b\""),
            r#"{"__type":"NoSuchResourceException","message":"a \"b\""}"#
        );
    }
}
