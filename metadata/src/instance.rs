//! An instance on this host: its snapshot, and what outlives a change of the snapshot.

use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU32, Ordering},
    },
};

use arc_swap::ArcSwap;
use cumulet_certs::ImdsTokenKey;
use cumulet_domain::{
    id::{InstanceId, VpcId},
    metadata::{InstanceMetadata, MetadataOptions},
    time::Timestamp,
};

use crate::{
    config::{Config, TokenSecret},
    counters::Cell,
    limit::Bucket,
    render::render,
    table::Table,
};

/// Where a request may come from: the VPC of the listener, and the address in it.
pub(crate) type GuestAddress = (VpcId, Ipv4Addr);

/// What a request is answered from.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) revision: u64,
    pub(crate) options: MetadataOptions,
    pub(crate) table: Table,
    pub(crate) addresses: Vec<GuestAddress>,
}

impl Snapshot {
    pub(crate) fn new(of: &InstanceMetadata, config: &Config) -> Self {
        Snapshot {
            revision: of.revision,
            options: of.options,
            table: render(of, config),
            addresses: of.interfaces.iter().map(|i| (i.vpc, i.private_ip)).collect(),
        }
    }
}

/// The instance.
#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) id: InstanceId,
    pub(crate) tokens: ImdsTokenKey,
    pub(crate) snapshot: ArcSwap<Snapshot>,
    pub(crate) bucket: Bucket,
    pub(crate) counters: Cell,
    /// Open connections.
    pub(crate) open: AtomicU32,
    /// When it first asked for something; zero is never.
    first_contact: AtomicI64,
}

impl Instance {
    pub(crate) fn new(id: InstanceId, snapshot: Snapshot, secret: &TokenSecret) -> Arc<Self> {
        Arc::new(Instance {
            id,
            tokens: ImdsTokenKey::derive(&secret.master, &id.to_string(), secret.epoch),
            snapshot: ArcSwap::from_pointee(snapshot),
            bucket: Bucket::default(),
            counters: Cell::default(),
            open: AtomicU32::new(0),
            first_contact: AtomicI64::new(0),
        })
    }

    /// Remembers that the guest has reached the service.
    pub(crate) fn contacted(&self, now: Timestamp) {
        if self.first_contact.load(Ordering::Relaxed) == 0 {
            let _ = self
                .first_contact
                .compare_exchange(0, now.0, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    pub(crate) fn first_contact(&self) -> Option<Timestamp> {
        Some(self.first_contact.load(Ordering::Relaxed))
            .filter(|millis| *millis != 0)
            .map(Timestamp)
    }
}
