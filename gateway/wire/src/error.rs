//! Decoding errors of a request, and the error documents that say so.
//!
//! The codec refuses with the EC2 code, a sentence, and the full path of the parameter as the
//! client spelled it (`BlockDeviceMapping.2.Ebs.VolumeSize`), so that one look at the answer finds
//! the mistake.

use std::fmt;

use crate::xml::XmlWriter;

/// Longest piece of a client's value repeated in an error message.
const ECHO_LIMIT: usize = 128;

/// The kinds of refusal that the codec knows. Each has one EC2 code; all are HTTP 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WireErrorKind {
    /// The body or query string is not well-formed form data, or too large to be meant.
    MalformedQueryString,
    /// The form data is well-formed and contradicts itself, as when a key comes twice.
    InvalidQueryParameter,
    /// No `Action` was given.
    MissingAction,
    /// The model has no such action.
    InvalidAction,
    /// The model has no such parameter for this action.
    UnknownParameter,
    /// A parameter that the model requires is absent.
    MissingParameter,
    /// The value has the wrong type or form.
    InvalidParameterValue,
    /// The model has the parameter, and this cloud refuses the value given.
    UnsupportedOperation,
}

impl WireErrorKind {
    /// Every kind, for tables and tests.
    pub const ALL: [Self; 8] = [
        Self::MalformedQueryString,
        Self::InvalidQueryParameter,
        Self::MissingAction,
        Self::InvalidAction,
        Self::UnknownParameter,
        Self::MissingParameter,
        Self::InvalidParameterValue,
        Self::UnsupportedOperation,
    ];

    /// The EC2 error code.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::MalformedQueryString => "MalformedQueryString",
            Self::InvalidQueryParameter => "InvalidQueryParameter",
            Self::MissingAction => "MissingAction",
            Self::InvalidAction => "InvalidAction",
            Self::UnknownParameter => "UnknownParameter",
            Self::MissingParameter => "MissingParameter",
            Self::InvalidParameterValue => "InvalidParameterValue",
            Self::UnsupportedOperation => "UnsupportedOperation",
        }
    }
}

/// A refusal by the codec: kind, parameter path (empty if it concerns the whole request), sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", kind.code())]
pub struct WireError {
    kind: WireErrorKind,
    parameter: String,
    message: String,
}

impl WireError {
    /// A refusal with a message of the caller's.
    #[must_use]
    pub fn new(kind: WireErrorKind, parameter: &str, message: impl Into<String>) -> Self {
        Self {
            kind,
            parameter: parameter.to_owned(),
            message: message.into(),
        }
    }

    /// The form data cannot be read.
    #[must_use]
    pub fn malformed(message: impl Into<String>) -> Self {
        Self::new(WireErrorKind::MalformedQueryString, "", message)
    }

    /// The model has no parameter of this name here.
    #[must_use]
    pub fn unknown(parameter: &str) -> Self {
        let message = format!("The parameter {} is not recognized", Echo(parameter));
        Self::new(WireErrorKind::UnknownParameter, parameter, message)
    }

    /// A required parameter is absent.
    #[must_use]
    pub fn missing(parameter: &str) -> Self {
        let message = format!("The request must contain the parameter {}", Echo(parameter));
        Self::new(WireErrorKind::MissingParameter, parameter, message)
    }

    /// A value has the wrong type or form; `expected` ends the sentence ("an integer").
    #[must_use]
    pub fn invalid(parameter: &str, value: &str, expected: &str) -> Self {
        let message = format!(
            "Value ({}) for parameter {} is invalid. Expected {expected}.",
            Echo(value),
            Echo(parameter)
        );
        Self::new(WireErrorKind::InvalidParameterValue, parameter, message)
    }

    /// The same without repeating the value, which may be secret or large.
    #[must_use]
    pub fn invalid_unechoed(parameter: &str, expected: &str) -> Self {
        let message = format!(
            "The value for parameter {} is invalid. Expected {expected}.",
            Echo(parameter)
        );
        Self::new(WireErrorKind::InvalidParameterValue, parameter, message)
    }

    /// The parameter is real, and not supported with this value.
    #[must_use]
    pub fn unsupported(parameter: &str, reason: &str) -> Self {
        let message = format!("The parameter {} is not supported: {reason}.", Echo(parameter));
        Self::new(WireErrorKind::UnsupportedOperation, parameter, message)
    }

    /// What kind of refusal this is.
    #[must_use]
    pub const fn kind(&self) -> WireErrorKind {
        self.kind
    }

    /// The EC2 error code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        self.kind.code()
    }

    /// The sentence for the client.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The parameter's path as the client spelled it; empty if the whole request is meant.
    #[must_use]
    pub fn parameter(&self) -> &str {
        &self.parameter
    }
}

/// A client's text, cut to a length that is safe to repeat.
struct Echo<'a>(&'a str);

impl fmt::Display for Echo<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(ECHO_LIMIT) {
            Some((end, _)) => write!(f, "{}...", &self.0[..end]),
            None => f.write_str(self.0),
        }
    }
}

/// The error body of the `ec2` protocol: no namespace, and `RequestID` in that spelling.
#[must_use]
pub fn ec2_error_xml(code: &str, message: &str, request_id: &str) -> String {
    let mut w = XmlWriter::document();
    w.open("Response");
    w.open("Errors");
    w.open("Error");
    w.text("Code", code);
    w.text("Message", message);
    w.close("Error");
    w.close("Errors");
    w.text("RequestID", request_id);
    w.close("Response");
    w.finish()
}

/// Whose fault an error of the `query` protocol is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The request's; HTTP 4xx.
    Sender,
    /// The service's; HTTP 5xx.
    Receiver,
}

/// The error body of the `query` protocol (IAM, STS) in the service's namespace.
#[must_use]
pub fn query_error_xml(namespace: &str, fault: Fault, code: &str, message: &str, request_id: &str) -> String {
    let mut w = XmlWriter::new();
    w.open_ns("ErrorResponse", namespace);
    w.open("Error");
    w.text(
        "Type",
        if fault == Fault::Sender {
            "Sender"
        } else {
            "Receiver"
        },
    );
    w.text("Code", code);
    w.text("Message", message);
    w.close("Error");
    w.text("RequestId", request_id);
    w.close("ErrorResponse");
    w.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ec2_error_body_is_exact() {
        assert_eq!(
            ec2_error_xml("InvalidAction", "The action <X> is not valid", "req-1"),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Response><Errors><Error><Code>InvalidAction</Code>\
             <Message>The action &lt;X&gt; is not valid</Message></Error></Errors>\
             <RequestID>req-1</RequestID></Response>"
        );
    }

    #[test]
    fn query_error_body_is_exact() {
        assert_eq!(
            query_error_xml(
                "https://sts.amazonaws.com/doc/2011-06-15/",
                Fault::Sender,
                "C",
                "m",
                "r"
            ),
            "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type>\
             <Code>C</Code><Message>m</Message></Error><RequestId>r</RequestId></ErrorResponse>"
        );
    }

    #[test]
    fn long_values_are_cut_at_a_character() {
        let error = WireError::invalid("P", &"é".repeat(500), "an integer");
        assert!(
            error
                .message()
                .contains(&format!("({}...)", "é".repeat(ECHO_LIMIT)))
        );
        assert_eq!(error.parameter(), "P");
    }

    #[test]
    fn every_kind_has_its_own_code() {
        let mut codes: Vec<_> = WireErrorKind::ALL.iter().map(|k| k.code()).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), WireErrorKind::ALL.len());
    }
}
