//! The wiring of the metadata service: in the worker's process, or in the process of the role `metadata` on
//! the same host.

use std::{net::TcpListener, path::PathBuf, sync::Arc};

use anyhow::{Context, Result};
use cumulet_domain::{
    id::{InstanceId, VpcId},
    metadata::InstanceMetadata,
    time::Clock,
};
use cumulet_metadata::{
    MetadataService, TokenSecret,
    link::{Link, Server, listen},
};
use cumulet_worker::MetadataSink;

use super::HostParts;
use crate::state::StateDir;

/// Where a worker's snapshots go.
pub(super) fn sink(parts: &HostParts<'_>) -> Result<Arc<dyn MetadataSink>> {
    Ok(if parts.served {
        Arc::new(Served(service(parts.state, parts.clock.clone())?))
    } else {
        let link = Link::start(&socket(parts.state)?).context("the link to the metadata process")?;
        Arc::new(Linked(link))
    })
}

/// The service for a worker in another process of this host.
pub(crate) fn serve(state: &StateDir, clock: Arc<dyn Clock>) -> Result<Server> {
    let path = socket(state)?;
    listen(&path, service(state, clock)?).with_context(|| path.display().to_string())
}

fn service(state: &StateDir, clock: Arc<dyn Clock>) -> Result<MetadataService> {
    let secret = TokenSecret {
        master: state.token_key()?,
        epoch: 0,
    };
    let config = cumulet_metadata::Config::default();
    MetadataService::start(config, secret, clock, &mut rand::rng()).context("the metadata service")
}

fn socket(state: &StateDir) -> Result<PathBuf> {
    Ok(state.make_run()?.join("metadata.sock"))
}

/// The metadata service of another process as a worker knows it.
struct Linked(Link);

impl MetadataSink for Linked {
    fn put(&self, snapshot: &InstanceMetadata) {
        self.0.put(snapshot);
    }

    fn remove(&self, instance: InstanceId) {
        self.0.remove(instance);
    }

    fn serve(&self, vpc: VpcId, listener: TcpListener) -> Result<(), String> {
        self.0.serve(vpc, listener);
        Ok(())
    }

    fn stop(&self, vpc: VpcId) {
        self.0.stop(vpc);
    }

    fn registered(&self) -> Vec<InstanceId> {
        self.0.registered()
    }
}

/// The metadata service as a worker knows it.
struct Served(MetadataService);

impl MetadataSink for Served {
    fn put(&self, snapshot: &InstanceMetadata) {
        self.0.put(snapshot);
    }

    fn remove(&self, instance: InstanceId) {
        self.0.remove(instance);
    }

    fn serve(&self, vpc: VpcId, listener: TcpListener) -> Result<(), String> {
        self.0.serve(vpc, listener).map_err(|error| error.to_string())
    }

    fn stop(&self, vpc: VpcId) {
        if let Err(error) = self.0.stop(vpc) {
            tracing::error!(%vpc, %error, "the metadata service could not let go of a VPC");
        }
    }

    fn registered(&self) -> Vec<InstanceId> {
        self.0.registered()
    }
}

/// Simulated guests read nothing.
pub(super) struct Unserved;

impl MetadataSink for Unserved {
    fn put(&self, _: &InstanceMetadata) {}
    fn remove(&self, _: InstanceId) {}
    fn serve(&self, _: VpcId, _: TcpListener) -> Result<(), String> {
        Ok(())
    }
    fn stop(&self, _: VpcId) {}
    fn registered(&self) -> Vec<InstanceId> {
        Vec::new()
    }
}
