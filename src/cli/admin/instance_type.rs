//! `cumulet admin instance-type`.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use cumulet_backend::api::instance_types;
use serde::Serialize;

use super::{super::operator, Change, CloudArgs, Listing};

/// `cumulet admin instance-type`.
#[derive(Debug, Subcommand)]
pub(crate) enum InstanceType {
    /// List the extra specifications that types have.
    ExtraSpecs(Listing),
    /// Set extra specifications, or remove those that are given without a value.
    Set(Set),
}

/// `cumulet admin instance-type set`.
#[derive(Args, Debug)]
pub(crate) struct Set {
    #[command(flatten)]
    cloud: CloudArgs,
    /// The type's name.
    name: String,
    /// Such as `capabilities:ssd=true`, `capabilities:cpus=>= 4`, or `capabilities:ssd` to remove it.
    #[arg(required = true)]
    extra_specs: Vec<Change>,
}

#[derive(Serialize)]
struct Shown {
    instance_type: String,
    key: String,
    value: String,
}

impl InstanceType {
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self {
            InstanceType::ExtraSpecs(listing) => {
                operator::run(&listing.cloud.clone(), |_, parts| async move {
                    let rows = instance_types::extra_specs(&parts).await?;
                    let found: Vec<Shown> = rows
                        .into_iter()
                        .map(|row| Shown {
                            instance_type: row.instance_type,
                            key: row.key,
                            value: row.value,
                        })
                        .collect();
                    listing.print(&found, |s| {
                        format!("{:14}  {}={}", s.instance_type, s.key, s.value)
                    })
                })
            }
            InstanceType::Set(set) => operator::run(&set.cloud.clone(), |_, parts| async move {
                for Change { key, value } in &set.extra_specs {
                    instance_types::set_extra_spec(&parts, &set.name, key, value.as_deref()).await?;
                }
                Ok(())
            }),
        }
    }
}
