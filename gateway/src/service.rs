//! The seam between the door and the services behind it: what a service says of itself, and what it is given.
//!
//! Who asks is known to a service only through a [`Caller`]. It has one from [`Request::whole`], which keeps the body
//! within the service's limits and the process's memory and verifies the signature over it, or from
//! [`Request::stream`], which verifies the signature over the head and gives out the body as it comes, within the same
//! limits; and [`Caller::admit`] takes the request from the account's and the key's share. So each service has all of
//! the door's fences, without doing anything.

mod streamed;

use std::{io, net::IpAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use cumulet_backend::api::{Cloud, Presence};
use cumulet_domain::{account::Principal, time::Timestamp};
use futures::Stream;

use crate::{
    auth::{AuthError, Dialect, Judged, RequestHead, SignedParameters, Verified},
    bodies::{self, MAX_BODY, Refusal, SMALL_BODY, TOO_LARGE},
    connection::Work,
    fault::{Answer, Fault},
    fences::{Admission, Fences},
    gate::Gate,
    reply::Reply,
};

/// A service behind the one address.
pub(crate) trait Service {
    /// Its name in the scope of a signature.
    fn scope(&self) -> &'static str;

    /// Whether a request is this service's, by the service in the scope of its signature, where it has one, and by
    /// what else the head says.
    fn accepts(&self, scope: Option<&str>, _head: &RequestHead<'_>) -> bool {
        scope == Some(self.scope())
    }

    /// How large its requests' bodies may be.
    fn limits(&self) -> BodyLimits {
        BodyLimits::default()
    }

    /// Whether bodies may come that no signature covers (`UNSIGNED-PAYLOAD`), to [`Request::stream`] and to nothing
    /// else.
    fn takes_unsigned(&self) -> bool {
        false
    }

    /// In whose words a signature is refused.
    fn dialect(&self) -> Dialect;

    /// A refusal in its form.
    fn refuse(&self, answer: &Answer, request_id: &str) -> Reply;

    /// Answers a request whose head was judged and is this service's. Nothing of its body was read yet.
    async fn serve(&self, request: Request<'_>) -> Reply;
}

/// Bytes that a body may have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BodyLimits {
    /// Where the head names a key that is here.
    pub(crate) known: usize,
    /// Of a stranger.
    pub(crate) stranger: usize,
}

impl Default for BodyLimits {
    fn default() -> Self {
        BodyLimits {
            known: MAX_BODY,
            stranger: SMALL_BODY,
        }
    }
}

/// The pieces of a body, as the server reads them.
pub(crate) type Pieces<'a> = &'a mut (dyn Stream<Item = io::Result<Bytes>> + Unpin);

/// A body that comes in.
pub(crate) struct Incoming<'a> {
    pub(crate) pieces: Pieces<'a>,
    /// From where.
    pub(crate) client: IpAddr,
    /// Its length, where the head tells.
    pub(crate) announced: Option<u64>,
    /// How long it may take.
    pub(crate) time: Duration,
    /// The connection that it comes over, which is told when it is whole.
    pub(crate) work: Option<&'a Work>,
}

impl Incoming<'_> {
    /// How many bytes may come, where a service takes so many: no more than was announced.
    fn most(&self, limit: usize) -> Result<usize, Refusal> {
        match self.announced.map(usize::try_from) {
            Some(Ok(length)) if length <= limit => Ok(length),
            Some(_) => Err(TOO_LARGE),
            None => Ok(limit),
        }
    }

    /// The answer to a request whose body nobody reads. A small one is let come all the same, so that the answer
    /// arrives; after a large one it is not to be had quickly.
    pub(crate) async fn unread(self, reply: Reply) -> Reply {
        if self.announced.is_some_and(|length| length > SMALL_BODY as u64) {
            return reply.held_back();
        }
        bodies::discard(self.pieces, self.time).await;
        reply
    }
}

/// A request whose head was judged.
pub(crate) struct Request<'a> {
    pub(crate) gate: &'a Gate,
    pub(crate) head: RequestHead<'a>,
    pub(crate) id: &'a str,
    pub(crate) judged: Box<Judged<'a, Arc<Principal>>>,
    pub(crate) body: Incoming<'a>,
    pub(crate) presence: Presence,
}

/// A request whose signature holds.
pub(crate) struct Proven<'a> {
    pub(crate) caller: Caller<'a>,
    /// What was signed, and nothing else.
    pub(crate) parameters: SignedParameters,
    /// The body, with its part of the process's memory.
    _body: bodies::Body,
}

impl<'a> Request<'a> {
    /// The cloud that is asked.
    pub(crate) fn cloud(&self) -> &'a Arc<Cloud> {
        &self.gate.cloud
    }

    /// Takes the body for a document in place of a form.
    pub(crate) fn with_document(self) -> Self {
        Request {
            judged: self.judged.with_document(),
            ..self
        }
    }

    /// All of it, proven.
    ///
    /// # Errors
    /// What `service` answers to a body that is too large, late or broken, and to a signature that does not hold.
    pub(crate) async fn whole(self, service: &impl Service) -> Result<Proven<'a>, Reply> {
        let Request {
            gate,
            id,
            judged,
            body,
            presence,
            ..
        } = self;
        let stranger = !judged.names_key() && !gate.takes_sigv2();
        let limits = service.limits();
        let most = if stranger { limits.stranger } else { limits.known };
        let work = body.work;
        let mut body = match read(gate, body, most).await {
            Ok(body) => body,
            // More of it would not say whose it is.
            Err(TOO_LARGE) if stranger => {
                return Err(rejected(service, &AuthError::Missing, id).held_back());
            }
            Err(refusal) => return Err(refused(service, refusal, id)),
        };
        let Verified {
            principal,
            parameters,
            ..
        } = match gate.verify(judged, body.bytes.clone()).await {
            Ok(verified) => verified,
            Err(error) => return Err(rejected(service, &error, id)),
        };
        if let Some(work) = work {
            work.is_whole();
        }
        if let Err(refusal) = body.belongs_to(principal.account) {
            return Err(refused(service, refusal, id));
        }
        Ok(Proven {
            caller: Caller {
                who: principal,
                fences: &gate.fences,
                presence,
            },
            parameters,
            _body: body,
        })
    }
}

async fn read(gate: &Gate, body: Incoming<'_>, limit: usize) -> Result<bodies::Body, Refusal> {
    let most = body.most(limit)?;
    let read = gate
        .bodies
        .read(body.pieces, body.client, most, body.time)
        .await?;
    if let Some(work) = body.work {
        work.goes_on();
    }
    Ok(read)
}

/// What a service answers to a body that is not taken.
fn refused(service: &impl Service, refusal: Refusal, request_id: &str) -> Reply {
    service.refuse(&told(refusal), request_id)
}

/// The same without its form.
fn told((code, status, message): Refusal) -> Answer {
    Answer::new(code, status, message)
}

/// What a service answers to a signature that does not hold.
pub(crate) fn rejected(service: &impl Service, error: &AuthError, request_id: &str) -> Reply {
    service.refuse(&rejection(error, service.dialect(), request_id), request_id)
}

/// The same without its form.
pub(crate) fn rejection(error: &AuthError, dialect: Dialect, request_id: &str) -> Answer {
    match error {
        AuthError::Unavailable(why) => tracing::error!(request_id, %why, "credentials are unavailable"),
        other => tracing::info!(request_id, reason = %other, "not authenticated"),
    }
    let rejection = error.reject(dialect);
    Answer::new(rejection.code, rejection.status, rejection.message)
}

/// Who asks, before anything is done for them.
pub(crate) struct Caller<'a> {
    who: Arc<Principal>,
    fences: &'a Fences,
    presence: Presence,
}

/// One who may be answered.
pub(crate) struct Admitted {
    /// Proven.
    pub(crate) who: Arc<Principal>,
    /// Whether they still wait for the answer.
    pub(crate) presence: Presence,
    /// Their request is in flight until this is dropped.
    pub(crate) admission: Admission,
}

impl Caller<'_> {
    /// Admits the request, of this weight while it is answered and with these costs.
    ///
    /// # Errors
    /// Who it is that asks too often, which is [`Fault::Throttled`].
    pub(crate) fn admit(self, weight: u32, cost: u32, now: Timestamp) -> Result<Admitted, Arc<Principal>> {
        match self.fences.admit(&self.who, weight, cost, now) {
            Ok(admission) => Ok(Admitted {
                who: self.who,
                presence: self.presence,
                admission,
            }),
            Err(_) => Err(self.who),
        }
    }

    /// The refusal of a request that asks for nothing, which costs all the same.
    pub(crate) fn refuse(self, fault: impl Into<Fault>, now: Timestamp) -> Fault {
        match self.admit(1, 1, now) {
            Ok(_) => fault.into(),
            Err(_) => Fault::Throttled,
        }
    }

    /// One who needs no proof, for tests of what is behind it.
    #[cfg(test)]
    pub(crate) fn pretended(who: Principal, fences: &Fences) -> Caller<'_> {
        Caller {
            who: Arc::new(who),
            fences,
            presence: Presence::default(),
        }
    }
}
