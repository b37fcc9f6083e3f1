//! The instances' functions over a real database, without a conductor.

mod attributes;
mod cache;
mod claims;
mod describe;
mod launch;
mod launch_disks;
mod power;
mod public_addresses;
mod user_data;

use std::sync::Arc;

use cumulet_compute::instances::{InstanceQuery, InstanceView, LaunchSpec, describe as describe_instances};
use cumulet_core::PageRequest;
use cumulet_domain::{id::InstanceId, instance::State};

use crate::test_support::Rig;

/// Launches one instance as the spec says.
async fn launched(rig: &Rig, spec: LaunchSpec) -> InstanceView {
    let made = cumulet_compute::instances::launch(&rig.cloud, &rig.who, spec)
        .await
        .unwrap();
    Arc::unwrap_or_clone(made.instances.into_iter().next().unwrap())
}

/// One instance in a state.
async fn in_state(rig: &Rig, state: State) -> InstanceId {
    let id = launched(rig, rig.spec()).await.id();
    rig.settle(id, state).await;
    id
}

/// An instance as it is.
async fn seen(rig: &Rig, id: InstanceId) -> InstanceView {
    let query = InstanceQuery {
        ids: vec![id],
        ..InstanceQuery::default()
    };
    let page = describe_instances(&rig.cloud, &rig.who, &query, PageRequest::default()).await;
    Arc::unwrap_or_clone(page.unwrap().rows.into_iter().next().unwrap())
}
