//! What every operation has to pass, from one example of each: see `rpc::example`.

mod asking;
mod boto2;
mod checks;
mod filters;
mod limits;
mod listings;
mod policies;
mod scene;

use super::*;
use crate::{iam::IAM, rpc::Rpc, rpc::example::Example, service_quotas::SERVICE_QUOTAS, ssm::SSM, sts::STS};
use asking::{ask, info, name_of};
use scene::Scene;

/// Every service.
pub(super) const SERVICES: [&Rpc; 5] = [&EC2, &IAM, &STS, &SERVICE_QUOTAS, &SSM];

/// All examples, each with its service.
fn examples() -> impl Iterator<Item = (&'static Rpc, &'static Example)> {
    SERVICES.into_iter().flat_map(|service| {
        let all = service.examples.iter().flat_map(|family| family.iter());
        all.map(move |example| (service, example))
    })
}
