//! The request pipeline, from a request's bytes to the bytes of its answer, without a server around it.

use cumulet_backend::api::Cloud;
use cumulet_domain::account::Principal;
use cumulet_wire::{
    Protocol, Query,
    error::{Fault as Blame, ec2_error_xml, query_error_xml},
    response::{IAM, QueryService, STS},
};

use crate::{
    auth::{AuthConfig, AuthError, Dialect, RequestView, Verifier},
    credentials::CloudCredentials,
    ec2,
    fault::{Answer, Fault},
    iam, sts,
};

/// A body with its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// An XML document.
    pub body: String,
}

/// The services behind the one address. Shared by all workers of the server.
#[derive(Debug)]
pub struct Door {
    cloud: Cloud,
    verifier: Verifier<CloudCredentials>,
}

/// A service, for the form of its answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Service {
    Ec2,
    Query(QueryService),
}

impl Service {
    fn named(name: &str) -> Service {
        match name {
            "sts" => Service::Query(STS),
            "iam" => Service::Query(IAM),
            _ => Service::Ec2,
        }
    }

    const fn dialect(self) -> Dialect {
        match self {
            Service::Ec2 => Dialect::Ec2,
            Service::Query(_) => Dialect::Query,
        }
    }

    fn error(self, answer: &Answer, request_id: &str) -> Reply {
        let body = match self {
            Service::Ec2 => ec2_error_xml(&answer.code, &answer.message, request_id),
            Service::Query(service) => {
                let blame = if answer.status < 500 {
                    Blame::Sender
                } else {
                    Blame::Receiver
                };
                query_error_xml(
                    service.namespace,
                    blame,
                    &answer.code,
                    &answer.message,
                    request_id,
                )
            }
        };
        Reply {
            status: answer.status,
            body,
        }
    }
}

impl Door {
    /// A door to `cloud`.
    pub fn new(cloud: Cloud, auth: AuthConfig) -> Self {
        let verifier = Verifier::new(auth, CloudCredentials(cloud.clone()));
        Door { cloud, verifier }
    }

    /// A fresh request id.
    pub(crate) fn request_id(&self) -> String {
        let mut bytes = [0; 16];
        self.cloud.rng.with(|rng| rand::Rng::fill_bytes(rng, &mut bytes));
        uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
    }

    /// Answers one request.
    pub async fn answer(&self, view: &RequestView<'_>, request_id: &str) -> Reply {
        let verified = match self.verifier.verify(view, self.cloud.now().0).await {
            Ok(verified) => verified,
            Err(error) => return rejected(view, &error, request_id),
        };
        let service = Service::named(verified.service);
        let outcome = self.serve(service, view, verified.principal, request_id).await;
        match outcome {
            Ok(body) => Reply { status: 200, body },
            Err(fault) => refused(service, &fault, request_id),
        }
    }

    async fn serve(
        &self,
        service: Service,
        view: &RequestView<'_>,
        who: Principal,
        request_id: &str,
    ) -> Result<String, Fault> {
        let form = form(view);
        match service {
            Service::Ec2 => {
                let query = Query::parse(&form, Protocol::Ec2)?;
                ec2::serve(&self.cloud, who, &query, request_id).await
            }
            Service::Query(service) => {
                let query = Query::parse(&form, Protocol::Query)?;
                if service == STS {
                    sts::serve(&who, &query, request_id)
                } else {
                    iam::serve(&self.cloud, &who, &query, request_id).await
                }
            }
        }
    }
}

/// The parameters: those of the body and those of the query string. One that is in both is refused as
/// given twice.
fn form<'a>(view: &RequestView<'a>) -> std::borrow::Cow<'a, [u8]> {
    match (view.query.is_empty(), view.body.is_empty()) {
        (true, _) => view.body.into(),
        (false, true) => view.query.as_bytes().into(),
        (false, false) => [view.query.as_bytes(), b"&", view.body].concat().into(),
    }
}

fn rejected(view: &RequestView<'_>, error: &AuthError, request_id: &str) -> Reply {
    let service = Service::named(&view.claimed_service().unwrap_or_default());
    match error {
        AuthError::Unavailable(why) => tracing::error!(request_id, %why, "credentials are unavailable"),
        other => tracing::info!(request_id, reason = %other, "not authenticated"),
    }
    let rejection = error.reject(service.dialect());
    let answer = Answer {
        code: rejection.code.into(),
        status: rejection.status,
        message: rejection.message.into_owned(),
    };
    service.error(&answer, request_id)
}

fn refused(service: Service, fault: &Fault, request_id: &str) -> Reply {
    let mut answer = fault.answer();
    if let Some(hidden) = fault.hidden() {
        tracing::error!(request_id, error = hidden, "failed");
    }
    // IAM and STS have their own words for these.
    if let Service::Query(_) = service {
        let code = match &*answer.code {
            "UnauthorizedOperation" => "AccessDenied",
            "InternalError" => "InternalFailure",
            "Unavailable" => "ServiceUnavailable",
            "InvalidParameterValue" | "UnknownParameter" | "MissingParameter" => "ValidationError",
            _ => return service.error(&answer, request_id),
        };
        answer.code = code.into();
    }
    service.error(&answer, request_id)
}

/// A refusal of the HTTP layer, in EC2's form.
pub(crate) fn plain_refusal(code: &'static str, status: u16, message: &str, request_id: &str) -> Reply {
    Service::Ec2.error(&Answer::new(code, status, message), request_id)
}
