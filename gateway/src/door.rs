//! The request pipeline, from a request's bytes to the bytes of its answer, without a server around it: the head is
//! judged, the service is found, and the service answers.

use std::{future::ready, net::Ipv4Addr, time::Duration};

use bytes::Bytes;
use cumulet_backend::api::{Cloud, Presence};
use futures::stream;

use crate::{
    auth::{AuthConfig, AuthError, Dialect, RequestHead},
    bodies::{Refusal, SMALL_BODY, TOO_LARGE},
    fault::Answer,
    fences::RequestLimits,
    gate::Gate,
    mounted::Mounted,
    reply::Reply,
    rpc,
    service::{Incoming, Request, Service, rejection},
};

/// How long a body may take that is there.
const AT_HAND: Duration = Duration::from_secs(30);

/// Bytes for the bodies of all requests of a process, by itself.
pub(crate) const BODY_MEMORY: usize = 32 << 20;

/// The services behind the one address. Shared by all workers of the server.
#[derive(Debug)]
pub struct Door {
    gate: Gate,
    services: Vec<Mounted>,
}

impl Door {
    /// A door to `cloud`, with the default limits.
    pub fn new(cloud: Cloud, auth: AuthConfig) -> Self {
        Door::with_limits(cloud, auth, RequestLimits::default(), BODY_MEMORY)
    }

    /// A door to `cloud` whose accounts have these limits, and the bodies of its requests so many bytes.
    pub fn with_limits(cloud: Cloud, auth: AuthConfig, limits: RequestLimits, body_memory: usize) -> Self {
        Door::to(Mounted::all(), cloud, auth, limits, body_memory)
    }

    /// A door to these services, and to no others.
    pub(crate) fn to(
        services: Vec<Mounted>,
        cloud: Cloud,
        mut auth: AuthConfig,
        limits: RequestLimits,
        body_memory: usize,
    ) -> Self {
        auth.services = services.iter().map(Service::scope).collect();
        let unsigned = services.iter().filter(|service| service.takes_unsigned());
        auth.unsigned = unsigned.map(Service::scope).collect();
        Door {
            gate: Gate::new(cloud, auth, limits, body_memory),
            services,
        }
    }

    /// What every request passes.
    #[cfg(test)]
    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }

    /// A fresh request id.
    pub(crate) fn request_id(&self) -> String {
        let mut bytes = [0; 16];
        let rng = &self.gate.cloud.rng;
        rng.with(|rng| rand::Rng::fill_bytes(rng, &mut bytes));
        let id = uuid::Builder::from_random_bytes(bytes).into_uuid().hyphenated();
        id.encode_lower(&mut uuid::Uuid::encode_buffer()).to_owned()
    }

    fn service(&self, scope: Option<&str>, head: &RequestHead<'_>) -> Option<&Mounted> {
        self.services.iter().find(|service| service.accepts(scope, head))
    }

    /// A refusal of a request whose service is only known by what its head claims; where that is none of these, in
    /// the form that a client of such a request reads.
    fn refuse(&self, head: &RequestHead<'_>, answer: impl Fn(Dialect) -> Answer, request_id: &str) -> Reply {
        match self.service(head.claimed_service().as_deref(), head) {
            Some(service) => service.refuse(&answer(service.dialect()), request_id),
            None => {
                let codec = rpc::codec_of(head);
                rpc::refusal(codec, &answer(rpc::dialect(codec)), request_id)
            }
        }
    }

    /// A refusal of the HTTP layer.
    pub(crate) fn refuse_form(&self, head: &RequestHead<'_>, refusal: Refusal, request_id: &str) -> Reply {
        let (code, status, message) = refusal;
        self.refuse(head, |_| Answer::new(code, status, message), request_id)
    }

    /// Whether so much is more than the service takes that the head claims.
    fn is_too_large(&self, head: &RequestHead<'_>, announced: Option<u64>) -> bool {
        let Some(length) = announced.filter(|length| *length > SMALL_BODY as u64) else {
            return false;
        };
        let service = self.service(head.claimed_service().as_deref(), head);
        let limits = service.map(Service::limits).unwrap_or_default();
        length > limits.known as u64
    }

    /// Answers a request that the server has in hand.
    pub(crate) async fn take<'a>(
        &'a self,
        head: RequestHead<'a>,
        body: Incoming<'a>,
        presence: Presence,
        request_id: &'a str,
    ) -> Reply {
        if self.is_too_large(&head, body.announced) {
            return self.refuse_form(&head, TOO_LARGE, request_id);
        }
        let judged = match self.gate.judge(head).await {
            Ok(judged) => judged,
            Err(error) => {
                let reply = self.refuse(
                    &head,
                    |dialect| rejection(&error, dialect, request_id),
                    request_id,
                );
                return body.unread(reply).await;
            }
        };
        let Some(service) = self.service(judged.service(), &head) else {
            // Nobody's: unsigned, and of a form that no service takes without a signature.
            let missing = |dialect| rejection(&AuthError::Missing, dialect, request_id);
            return body.unread(self.refuse(&head, missing, request_id)).await;
        };
        let request = Request {
            gate: &self.gate,
            head,
            id: request_id,
            judged,
            body,
            presence,
        };
        service.serve(request).await
    }

    /// Answers one request of a client in the same process.
    pub async fn answer(&self, head: RequestHead<'_>, body: Bytes, request_id: &str) -> Reply {
        let announced = Some(body.len() as u64);
        let mut pieces = stream::once(ready(Ok(body)));
        let body = Incoming {
            pieces: &mut pieces,
            client: Ipv4Addr::UNSPECIFIED.into(),
            announced,
            time: AT_HAND,
            work: None,
        };
        self.take(head, body, Presence::default(), request_id).await
    }
}
