//! The request pipeline, from a request's bytes to the bytes of its answer, without a server around it.

use bytes::Bytes;
use cumulet_backend::api::{Cloud, Presence};
use cumulet_domain::account::Principal;
use cumulet_wire::{
    Protocol, Query,
    error::{Fault as Blame, ec2_error_xml, query_error_xml},
    response::{IAM, QueryService, STS},
};

use crate::{
    auth::{
        AuthConfig, AuthError, Dialect, Judged, RequestHead, SigV2Policy, SignedParameters, Verified,
        Verifier,
    },
    bodies::{self, Bodies},
    credentials::CloudCredentials,
    fault::{Answer, Fault},
    fences::{Fences, RequestLimits},
    iam,
    reply::Body,
    rpc::{self, Caller},
    sts,
};

/// A body with its status.
#[derive(Debug)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// An XML document.
    pub body: Body,
    /// Whether it is not to be had quickly: a client that is refused one request too many, or a stranger with a
    /// large body, and asks again at once would have the cloud do nothing else.
    pub held_back: bool,
}

impl Reply {
    /// The same, not to be had quickly.
    pub(crate) fn held_back(self) -> Self {
        Reply {
            held_back: true,
            ..self
        }
    }
}

/// Bytes for the bodies of all requests of a process, by itself.
pub(crate) const BODY_MEMORY: usize = 32 << 20;

/// The weight of a request to IAM or STS.
const QUERY_WEIGHT: u32 = 1;

/// The services behind the one address. Shared by all workers of the server.
#[derive(Debug)]
pub struct Door {
    cloud: Cloud,
    verifier: Verifier<CloudCredentials>,
    fences: Fences,
    bodies: Bodies,
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
            body: Body::Whole(body),
            held_back: false,
        }
    }
}

impl Door {
    /// A door to `cloud`, with the default limits.
    pub fn new(cloud: Cloud, auth: AuthConfig) -> Self {
        Door::with_limits(cloud, auth, RequestLimits::default(), BODY_MEMORY)
    }

    /// A door to `cloud` whose accounts have these limits, and the bodies of its requests so many bytes.
    pub fn with_limits(cloud: Cloud, auth: AuthConfig, limits: RequestLimits, body_memory: usize) -> Self {
        let verifier = Verifier::new(auth, CloudCredentials(cloud.clone()));
        Door {
            cloud,
            verifier,
            fences: Fences::new(limits),
            bodies: Bodies::new(body_memory),
        }
    }

    /// The memory of requests' bodies.
    pub(crate) fn bodies(&self) -> &Bodies {
        &self.bodies
    }

    /// Whether a request may be signed in its body.
    pub(crate) fn takes_sigv2(&self) -> bool {
        self.verifier.config().sigv2 != SigV2Policy::Off
    }

    /// A fresh request id.
    pub(crate) fn request_id(&self) -> String {
        let mut bytes = [0; 16];
        self.cloud.rng.with(|rng| rand::Rng::fill_bytes(rng, &mut bytes));
        uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
    }

    /// Judges a request's head, before its body is read.
    pub(crate) async fn judge<'a>(
        &self,
        head: RequestHead<'a>,
        request_id: &str,
    ) -> Result<Judged<'a, Principal>, Reply> {
        let judged = self.verifier.judge(head, self.cloud.now().0).await;
        judged.map_err(|error| rejected(&head, &error, request_id))
    }

    /// The answer to a request that nobody has signed, as far as its head tells.
    pub(crate) fn unsigned(&self, head: &RequestHead<'_>, request_id: &str) -> Reply {
        rejected(head, &AuthError::Missing, request_id)
    }

    /// Answers one request.
    pub async fn answer(&self, head: RequestHead<'_>, body: Bytes, request_id: &str) -> Reply {
        match self.judge(head, request_id).await {
            Ok(judged) => {
                self.serve(head, judged, body.into(), Presence::default(), request_id)
                    .await
            }
            Err(reply) => reply,
        }
    }

    /// Answers a request whose head was judged.
    pub(crate) async fn serve(
        &self,
        head: RequestHead<'_>,
        judged: Judged<'_, Principal>,
        mut body: bodies::Body,
        presence: Presence,
        request_id: &str,
    ) -> Reply {
        let bytes = body.bytes.clone();
        let verified = match self.verifier.verify(judged, bytes, self.cloud.now().0).await {
            Ok(verified) => verified,
            Err(error) => return rejected(&head, &error, request_id),
        };
        let Verified {
            service,
            principal,
            parameters,
            ..
        } = verified;
        if let Err((code, status, message)) = body.belongs_to(principal.account) {
            return plain_refusal(code, status, message, request_id);
        }
        let service = Service::named(service);
        match self
            .act(service, principal, &parameters, presence, request_id)
            .await
        {
            Ok(body) => Reply {
                status: 200,
                body,
                held_back: false,
            },
            Err(fault) => refused(service, &fault, request_id),
        }
    }

    /// Does what was signed, and nothing else.
    async fn act(
        &self,
        service: Service,
        who: Principal,
        signed: &SignedParameters,
        presence: Presence,
        request_id: &str,
    ) -> Result<Body, Fault> {
        match service {
            Service::Ec2 => {
                let query = Query::parse(signed.form(), Protocol::Ec2)?;
                let caller = Caller {
                    who,
                    fences: &self.fences,
                    presence,
                };
                rpc::serve(&self.cloud, caller, &query, request_id).await
            }
            Service::Query(service) => {
                let query = Query::parse(signed.form(), Protocol::Query)?;
                let now = self.cloud.now();
                let _in_flight = self.fences.admit(&who, QUERY_WEIGHT, QUERY_WEIGHT, now)?;
                let answer = if service == STS {
                    sts::serve(&who, &query, request_id)
                } else {
                    iam::serve(&self.cloud, &who, &query, request_id).await
                };
                answer.map(Body::Whole)
            }
        }
    }
}

fn rejected(head: &RequestHead<'_>, error: &AuthError, request_id: &str) -> Reply {
    let service = Service::named(&head.claimed_service().unwrap_or_default());
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
    if answer.code == "RequestLimitExceeded" {
        if let Service::Query(_) = service {
            answer = Answer::new("Throttling", 400, "Rate exceeded");
        }
        return service.error(&answer, request_id).held_back();
    }
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
