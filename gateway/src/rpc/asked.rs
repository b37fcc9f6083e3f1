//! What is asked, before its members are decoded: a form or a document of JSON, with what the framework looks at.

use cumulet_domain::ResourceKind;
use cumulet_wire::{
    Codec, OperationInfo, Protocol, Query, WireError,
    error::WireErrorKind,
    json::{self, JsonShape, Members},
    response::invalid_action,
};

use super::hash;
use crate::{
    auth::{RequestHead, SignedParameters},
    fault::Fault,
};

/// Ids of a request that the audit log names at the most.
const AUDITED_IDS: usize = 20;

/// A request's operation and parameters.
pub(crate) enum Asked<'a> {
    /// Of EC2 or `query`.
    Form(Query<'a>),
    /// Of awsJson.
    Json {
        /// What `X-Amz-Target` has after the service's prefix.
        operation: &'a str,
        members: Members,
        body: &'a [u8],
    },
}

/// `X-Amz-Target`, where there is one.
pub(super) fn target<'a>(head: &RequestHead<'a>) -> Option<&'a [u8]> {
    let mut headers = head.headers.iter();
    let found = headers.find(|(name, _)| name.eq_ignore_ascii_case("x-amz-target"))?;
    Some(found.1)
}

impl<'a> Asked<'a> {
    /// Reads what was signed.
    ///
    /// # Errors
    /// What is no form, no document, or names no operation of the service.
    pub(crate) fn read(
        codec: Codec,
        head: &RequestHead<'a>,
        signed: &'a SignedParameters,
    ) -> Result<Self, WireError> {
        match codec {
            Codec::Ec2 => Query::parse(signed.bytes(), Protocol::Ec2).map(Asked::Form),
            Codec::Query { .. } => Query::parse(signed.bytes(), Protocol::Query).map(Asked::Form),
            Codec::Json { target_prefix, .. } => Ok(Asked::Json {
                operation: operation(head, target_prefix)?,
                members: Members::parse(signed.bytes())?,
                body: signed.bytes(),
            }),
        }
    }

    /// The operation's name.
    ///
    /// # Errors
    /// `MissingAction`.
    pub(super) fn operation(&self) -> Result<&str, WireError> {
        match self {
            Asked::Form(query) => query.action(),
            Asked::Json { operation, .. } => Ok(operation),
        }
    }

    /// The text of a parameter.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        match self {
            Asked::Form(query) => query.get(name),
            Asked::Json { members, .. } => members.text(name),
        }
    }

    /// The number of a parameter.
    pub(super) fn number(&self, name: &str) -> Option<u32> {
        match self {
            Asked::Form(query) => query.get(name)?.parse().ok(),
            Asked::Json { members, .. } => u32::try_from(members.number(name)?).ok(),
        }
    }

    /// How long a list is.
    pub(super) fn length(&self, list: &str) -> Option<u32> {
        match self {
            Asked::Form(query) => {
                let mut members = query.root().members().ok()?;
                let (_, node) = members.find(|(name, _)| *name == list)?;
                u32::try_from(node.members().ok()?.count()).ok()
            }
            Asked::Json { members, .. } => u32::try_from(members.length(list)?).ok(),
        }
    }

    /// How many parameters there are.
    pub(super) fn len(&self) -> usize {
        match self {
            Asked::Form(query) => query.len(),
            // One is some tens of bytes in a form.
            Asked::Json { members, body, .. } => members.len().max(body.len() / 64),
        }
    }

    /// The hash of all parameters that say what is asked but `without`.
    pub(super) fn hash(&self, without: &[&str]) -> [u8; 32] {
        match self {
            Asked::Form(query) => hash::request(query, without),
            Asked::Json { members, .. } => hash::members(members, without),
        }
    }

    /// Refuses members that are not supported.
    ///
    /// # Errors
    /// `UnsupportedOperation`.
    pub(super) fn check(&self, info: &OperationInfo) -> Result<(), WireError> {
        match self {
            Asked::Form(query) => info.check_members(query),
            Asked::Json { members, .. } => members.check(info),
        }
    }

    /// Ids of resources in it, with commas between them: what the audit log names.
    pub(super) fn resources(&self) -> Option<String> {
        let (mut named, mut count) = (String::new(), 0);
        let mut hear = |text: &str| {
            if count < AUDITED_IDS && ResourceKind::of(text).is_some() {
                if count > 0 {
                    named.push(',');
                }
                named.push_str(text);
                count += 1;
            }
        };
        match self {
            Asked::Form(query) => query.iter().for_each(|(_, value)| hear(value)),
            Asked::Json { members, .. } => members.texts(&mut hear),
        }
        (!named.is_empty()).then_some(named)
    }

    /// The form, for operations of the codecs that have one.
    ///
    /// # Errors
    /// `Internal`: a table names an operation of another codec.
    pub(super) fn form(&self) -> Result<&Query<'a>, Fault> {
        match self {
            Asked::Form(query) => Ok(query),
            Asked::Json { operation, .. } => Err(other_codec(operation)),
        }
    }

    /// The document's shape, for operations of awsJson.
    ///
    /// # Errors
    /// What is no such shape.
    pub(super) fn document<T: JsonShape>(&self) -> Result<T, Fault> {
        match self {
            Asked::Form(query) => Err(other_codec(query.action().unwrap_or_default())),
            Asked::Json { body, .. } => Ok(json::decode(body)?),
        }
    }
}

fn other_codec(operation: &str) -> Fault {
    cumulet_domain::Error::Internal(format!("{operation} is in the table of another codec")).into()
}

fn operation<'a>(head: &RequestHead<'a>, prefix: &str) -> Result<&'a str, WireError> {
    let Some(target) = target(head) else {
        return Err(WireError::new(
            WireErrorKind::MissingAction,
            "X-Amz-Target",
            "The request is missing the header X-Amz-Target.",
        ));
    };
    let text = std::str::from_utf8(target).unwrap_or_default().trim();
    let operation = text.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('.'));
    operation.ok_or_else(|| invalid_action(&String::from_utf8_lossy(target)))
}
