//! `cumulet admin aggregate`.

use std::{collections::BTreeMap, process::ExitCode};

use anyhow::Result;
use clap::{Args, Subcommand};
use cumulet_backend::api::hosts::aggregates;
use cumulet_domain::id::HostId;
use serde::Serialize;

use super::{super::operator, Change, CloudArgs, Listing};

/// `cumulet admin aggregate`.
#[derive(Debug, Subcommand)]
pub(crate) enum Aggregate {
    /// List the aggregates with their metadata and hosts.
    List(Listing),
    /// Make an aggregate.
    Create(Named),
    /// Delete an aggregate that has no hosts.
    Delete(Named),
    /// Put a host into an aggregate.
    AddHost(Member),
    /// Take a host out of an aggregate.
    RemoveHost(Member),
    /// Set metadata, or remove that which is given without a value.
    Set(Set),
}

/// One aggregate.
#[derive(Args, Debug)]
pub(crate) struct Named {
    #[command(flatten)]
    cloud: CloudArgs,
    /// The aggregate's name.
    name: String,
}

/// An aggregate and a host.
#[derive(Args, Debug)]
pub(crate) struct Member {
    #[command(flatten)]
    of: Named,
    /// The host's name.
    host: String,
}

/// `cumulet admin aggregate set`.
#[derive(Args, Debug)]
pub(crate) struct Set {
    #[command(flatten)]
    of: Named,
    /// Such as `filter_tenant_id=123456789012`, or `filter_tenant_id` to remove it.
    #[arg(required = true)]
    metadata: Vec<Change>,
}

#[derive(Serialize)]
struct Shown {
    name: String,
    metadata: BTreeMap<String, String>,
    hosts: Vec<String>,
}

impl Aggregate {
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self {
            Aggregate::List(listing) => list(listing),
            Aggregate::Create(of) => operator::run(&of.cloud, |_, parts| async move {
                Ok(aggregates::create(&parts, &of.name).await?)
            }),
            Aggregate::Delete(of) => operator::run(&of.cloud, |_, parts| async move {
                Ok(aggregates::delete(&parts, &of.name).await?)
            }),
            Aggregate::AddHost(Member { of, host }) => operator::run(&of.cloud, |_, parts| async move {
                Ok(aggregates::add_host(&parts, &of.name, &HostId(host)).await?)
            }),
            Aggregate::RemoveHost(Member { of, host }) => operator::run(&of.cloud, |_, parts| async move {
                Ok(aggregates::remove_host(&parts, &of.name, &HostId(host)).await?)
            }),
            Aggregate::Set(Set { of, metadata }) => operator::run(&of.cloud, |_, parts| async move {
                for Change { key, value } in metadata {
                    aggregates::set_metadata(&parts, &of.name, &key, value.as_deref()).await?;
                }
                Ok(())
            }),
        }
    }
}

fn list(listing: Listing) -> Result<ExitCode> {
    operator::run(&listing.cloud.clone(), |_, parts| async move {
        let found = aggregates::list(&parts).await?;
        let found: Vec<Shown> = found
            .into_iter()
            .map(|view| Shown {
                name: view.name,
                metadata: view.metadata,
                hosts: view.hosts,
            })
            .collect();
        listing.print(&found, |s| {
            let metadata: Vec<_> = s
                .metadata
                .iter()
                .map(|(key, value)| format!("{key}={value}"))
                .collect();
            format!("{:20}  {}  [{}]", s.name, s.hosts.join(","), metadata.join(" "))
        })
    })
}
