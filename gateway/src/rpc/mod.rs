//! The framework of services whose operations have names and parameters (EC2, `query`, awsJson): what is the same
//! around every operation, given a service's table, its words and its codec.
//!
//! ```text
//! Rpc::serve ─▶ asked ─▶ prologue ─▶ an entry of the table ─▶ backend::api
//!                                     (describe, reading, filter, page for listings)
//! ```
//!
//! A service is one static [`Rpc`]: `ec2`, `iam`, `sts`, `service_quotas`, `ssm`.

pub(crate) mod action;
mod asked;
pub(crate) mod ctx;
pub(crate) mod describe;
#[cfg(test)]
pub(crate) mod example;
pub(crate) mod filter;
mod hash;
pub(crate) mod page;
mod prologue;
mod reading;

use std::{collections::HashMap, fmt, sync::LazyLock};

use cumulet_wire::{
    Codec, ServiceModel, ec2,
    error::{self, ec2_error_xml, query_error_xml},
    json,
};

use crate::{
    auth::{Dialect, RequestHead},
    fault::{Answer, Fault, Words},
    reply::{Body, Reply},
    service::{BodyLimits, Request, Service},
};
use action::Entry;
pub(crate) use asked::Asked;
pub(crate) use prologue::serve;

/// What a body of JSON may have: a document takes many times its length while it is looked at.
const MAX_JSON: usize = 64 << 10;

/// The content type of EC2's and of `query`'s documents.
const XML: &str = "text/xml;charset=UTF-8";

/// A service.
pub(crate) struct Rpc {
    /// What its model says.
    pub(crate) model: &'static ServiceModel,
    /// Its operations, by name.
    pub(crate) by_name: LazyLock<ByName>,
    /// Its table of errors.
    pub(crate) words: Words,
    /// Operations of the model that answer as if they were unknown, because a client takes that, and only that, for
    /// "not there".
    pub(crate) as_if_unknown: &'static [&'static str],
    /// An example of each operation, by family.
    #[cfg(test)]
    pub(crate) examples: &'static [&'static [example::Example]],
}

/// Entries by the operation's name.
pub(crate) type ByName = HashMap<&'static str, &'static Entry>;

/// Sorts a table.
pub(crate) fn by_name(entries: &'static [Entry]) -> ByName {
    entries.iter().map(|entry| (entry.name, entry)).collect()
}

impl Rpc {
    /// What does an operation.
    pub(crate) fn entry(&self, name: &str) -> Option<&'static Entry> {
        self.by_name.get(name).copied()
    }

    /// The refusal that a fault is.
    fn refused(&self, fault: &Fault, request_id: &str) -> Reply {
        if let Some(hidden) = fault.hidden() {
            tracing::error!(request_id, error = hidden, "failed");
        }
        let reply = refusal(self.model.codec, &(self.words)(fault), request_id);
        match fault {
            Fault::Throttled => reply.held_back(),
            _ => reply,
        }
    }
}

impl fmt::Debug for Rpc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Rpc").field(&self.model.name).finish()
    }
}

impl Service for &'static Rpc {
    fn scope(&self) -> &'static str {
        self.model.name
    }

    fn accepts(&self, scope: Option<&str>, head: &RequestHead<'_>) -> bool {
        match (scope, self.model.codec) {
            (Some(scope), _) => scope == self.model.name,
            // What is not signed in its head may be signed in its parameters, as EC2's old clients do.
            (None, Codec::Ec2) => asked::target(head).is_none(),
            (None, Codec::Query { .. } | Codec::Json { .. }) => false,
        }
    }

    fn limits(&self) -> BodyLimits {
        let limits = BodyLimits::default();
        match self.model.codec {
            Codec::Json { .. } => BodyLimits {
                known: MAX_JSON,
                ..limits
            },
            Codec::Ec2 | Codec::Query { .. } => limits,
        }
    }

    fn dialect(&self) -> Dialect {
        dialect(self.model.codec)
    }

    fn refuse(&self, answer: &Answer, request_id: &str) -> Reply {
        refusal(self.model.codec, answer, request_id)
    }

    async fn serve(&self, request: Request<'_>) -> Reply {
        let (cloud, head, id) = (request.cloud(), request.head, request.id);
        let codec = self.model.codec;
        let request = match codec {
            Codec::Json { .. } => request.with_document(),
            Codec::Ec2 | Codec::Query { .. } => request,
        };
        let proven = match request.whole(self).await {
            Ok(proven) => proven,
            Err(reply) => return reply,
        };
        let outcome = match Asked::read(codec, &head, &proven.parameters) {
            Ok(asked) => serve(self, cloud, proven.caller, &asked, id).await,
            Err(error) => Err(proven.caller.refuse(error, cloud.now())),
        };
        match outcome {
            Ok(body) => Reply::ok(content_type(codec), body),
            Err(fault) => self.refused(&fault, id),
        }
    }
}

const fn content_type(codec: Codec) -> &'static str {
    match codec {
        Codec::Ec2 | Codec::Query { .. } => XML,
        Codec::Json { content_type, .. } => content_type,
    }
}

/// In whose words a codec's clients expect to be told that they are not known.
pub(crate) const fn dialect(codec: Codec) -> Dialect {
    match codec {
        Codec::Ec2 => Dialect::Ec2,
        Codec::Query { .. } => Dialect::Query,
        Codec::Json { .. } => Dialect::Json,
    }
}

/// The codec that the client of a request understands, whatever service it is for.
pub(crate) fn codec_of(head: &RequestHead<'_>) -> Codec {
    const V1_0: &str = "application/x-amz-json-1.0";
    if asked::target(head).is_none() {
        return ec2::operations::SERVICE.codec;
    }
    let mut headers = head.headers.iter();
    let kind = headers.find(|(name, _)| name.eq_ignore_ascii_case("content-type"));
    let old = kind.is_some_and(|(_, kind)| kind.starts_with(V1_0.as_bytes()));
    Codec::Json {
        content_type: if old { V1_0 } else { "application/x-amz-json-1.1" },
        target_prefix: "",
    }
}

/// A refusal as a codec writes it.
pub(crate) fn refusal(codec: Codec, answer: &Answer, request_id: &str) -> Reply {
    let (code, message) = (&*answer.code, &*answer.message);
    let (body, error_type) = match codec {
        Codec::Ec2 => (ec2_error_xml(code, message, request_id), None),
        Codec::Query { namespace } => {
            let blame = if answer.status < 500 {
                error::Fault::Sender
            } else {
                error::Fault::Receiver
            };
            (query_error_xml(namespace, blame, code, message, request_id), None)
        }
        Codec::Json { .. } => (json::error(code, message), Some(answer.code.clone())),
    };
    Reply {
        status: answer.status,
        content_type: content_type(codec),
        body: Body::Whole(body),
        error_type,
        held_back: false,
    }
}
