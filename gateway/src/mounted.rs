//! The services that are served, each behind its name in the scope of a signature.
//!
//! A sum and no trait object: a request costs no allocation for being passed on.

use crate::{
    auth::{Dialect, RequestHead},
    ec2::EC2,
    fault::Answer,
    iam::IAM,
    reply::Reply,
    rpc::Rpc,
    service::{BodyLimits, Request, Service},
    service_quotas::SERVICE_QUOTAS,
    ssm::SSM,
    sts::STS,
};

/// A service.
#[derive(Debug)]
pub(crate) enum Mounted {
    /// One whose operations have names and parameters.
    Rpc(&'static Rpc),
    /// One that answers what it is sent.
    #[cfg(test)]
    Echo(crate::tests::echo::Echo),
    /// One that answers each piece of what it is sent.
    #[cfg(test)]
    InPieces(crate::tests::streamed::InPieces),
}

impl Mounted {
    /// Every one of them, those first that are asked most.
    pub(crate) fn all() -> Vec<Mounted> {
        [&EC2, &STS, &IAM, &SERVICE_QUOTAS, &SSM].map(Mounted::Rpc).into()
    }
}

/// The same of whichever it is.
macro_rules! each {
    ($this:ident, $service:ident => $do:expr) => {
        match $this {
            Mounted::Rpc($service) => $do,
            #[cfg(test)]
            Mounted::Echo($service) => $do,
            #[cfg(test)]
            Mounted::InPieces($service) => $do,
        }
    };
}

impl Service for Mounted {
    fn scope(&self) -> &'static str {
        each!(self, service => service.scope())
    }

    fn accepts(&self, scope: Option<&str>, head: &RequestHead<'_>) -> bool {
        each!(self, service => service.accepts(scope, head))
    }

    fn limits(&self) -> BodyLimits {
        each!(self, service => service.limits())
    }

    fn takes_unsigned(&self) -> bool {
        each!(self, service => service.takes_unsigned())
    }

    fn dialect(&self) -> Dialect {
        each!(self, service => service.dialect())
    }

    fn refuse(&self, answer: &Answer, request_id: &str) -> Reply {
        each!(self, service => service.refuse(answer, request_id))
    }

    async fn serve(&self, request: Request<'_>) -> Reply {
        each!(self, service => service.serve(request).await)
    }
}
