//! `cumulet admin service`.

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;
use cumulet_backend::api::services::{self, ServiceView};
use serde::Serialize;

use super::{super::operator, Listing};

/// `cumulet admin service`.
#[derive(Debug, Subcommand)]
pub(crate) enum Service {
    /// List every role of every process.
    List(Listing),
}

#[derive(Serialize)]
struct Shown {
    id: String,
    role: String,
    host: String,
    version: String,
    state: &'static str,
    last_seen: String,
}

impl From<ServiceView> for Shown {
    fn from(view: ServiceView) -> Self {
        Shown {
            id: view.id,
            role: view.role,
            host: view.host,
            version: view.version,
            state: if view.alive { "up" } else { "down" },
            last_seen: view.last_seen.to_string(),
        }
    }
}

impl Service {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let Service::List(listing) = self;
        operator::run(&listing.cloud.clone(), |_, parts| async move {
            let found = services::list(&parts).await?;
            let found: Vec<Shown> = found.into_iter().map(Shown::from).collect();
            listing.print(&found, |s| {
                format!(
                    "{:10}  {:20}  {:4}  {}  {}",
                    s.role, s.host, s.state, s.last_seen, s.version
                )
            })
        })
    }
}
