//! StartInstances, StopInstances, RebootInstances and TerminateInstances: one call for all named
//! instances, all or none.

use async_trait::async_trait;
use cumulet_backend::api::instances;
use cumulet_domain::id::InstanceId;
use cumulet_wire::{
    Done,
    ec2::instances::{
        RebootInstances, RebootInstancesRequest, StartInstances, StartInstancesRequest, StartInstancesResult,
        StopInstances, StopInstancesRequest, StopInstancesResult, TerminateInstances,
        TerminateInstancesRequest, TerminateInstancesResult,
    },
};

use crate::{
    ec2::{
        action::Action,
        ctx::{Ctx, ids},
        render::instance::changes,
    },
    fault::Fault,
};

/// Instances in one call at the most.
const MAX_INSTANCES: usize = 1000;

fn named(texts: &[String]) -> Result<Vec<InstanceId>, Fault> {
    if texts.len() > MAX_INSTANCES {
        let reason = format!("at most {MAX_INSTANCES} instances can be named at once");
        return Err(Fault::invalid("InstanceId", &texts.len().to_string(), reason));
    }
    Ok(ids(texts)?)
}

#[async_trait]
impl Action for StartInstances {
    async fn run(ctx: &Ctx, input: StartInstancesRequest) -> Result<StartInstancesResult, Fault> {
        let done = instances::start(&ctx.cloud, &ctx.who, &named(&input.instance_ids)?).await?;
        Ok(StartInstancesResult {
            starting_instances: changes(&done),
        })
    }
}

#[async_trait]
impl Action for StopInstances {
    async fn run(ctx: &Ctx, input: StopInstancesRequest) -> Result<StopInstancesResult, Fault> {
        let force = input.force == Some(true) || input.skip_os_shutdown == Some(true);
        let done = instances::stop(&ctx.cloud, &ctx.who, &named(&input.instance_ids)?, force).await?;
        Ok(StopInstancesResult {
            stopping_instances: changes(&done),
        })
    }
}

#[async_trait]
impl Action for RebootInstances {
    async fn run(ctx: &Ctx, input: RebootInstancesRequest) -> Result<Done, Fault> {
        instances::reboot(&ctx.cloud, &ctx.who, &named(&input.instance_ids)?).await?;
        Ok(Done)
    }
}

#[async_trait]
impl Action for TerminateInstances {
    async fn run(ctx: &Ctx, input: TerminateInstancesRequest) -> Result<TerminateInstancesResult, Fault> {
        let done = instances::terminate(&ctx.cloud, &ctx.who, &named(&input.instance_ids)?).await?;
        Ok(TerminateInstancesResult {
            terminating_instances: changes(&done),
        })
    }
}
